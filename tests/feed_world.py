"""Several nodes of one PostgreSQL database inside this process, and what readers see of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from legato.app import open_node
from legato.core.principal import LOCAL
from legato.http.api import create_api
from legato.runs.conversations import Conversations
from legato.runs.follow import find_tail
from legato.runs.node import Node
from legato.runs.replies import Runs
from legato.runs.tail import Reader
from legato.wire.native import NativeRenderer
from tests.asgi import AsgiAnswer, call
from tests.conftest import node_settings
from tests.tool_world import Bench

SOON_S = 20.0
"""How long anything may take on a busy machine."""


class Wire:
    """A reader's connection, which takes everything."""

    paused = False

    def __init__(self) -> None:
        self.data = b""
        self.end: str | None = None
        self.reader: Reader | None = None

    def write(self, frames: bytes) -> None:
        assert self.end is None, "written to after its end"
        self.data += frames

    def finish(self) -> None:
        assert self.end is None
        self.end = "finished"

    def abort(self) -> None:
        self.end = self.end or "aborted"

    def leave(self) -> None:
        assert self.reader is not None
        self.reader.close()


@dataclass
class Member:
    """One of the nodes, and its application."""

    node: Node
    api: ASGIApp
    stack: AsyncExitStack

    async def close(self) -> None:
        """Close the node, which hands over what it makes."""
        await self.stack.aclose()

    @property
    def runs(self) -> Runs:
        return Runs(self.node, LOCAL)

    @property
    def conversations(self) -> Conversations:
        return Conversations(self.node, LOCAL)

    async def begin(self, conversation_id: str, script: str) -> str:
        """Post a message; return the run's id."""
        return (await self.runs.start(f"script: {script}", conversation_id=conversation_id)).run_id

    async def read(self, run_id: str, after: int = -1) -> Wire:
        """Read a run from a place on, as an open stream does."""
        tail = await find_tail(self.node, LOCAL, run_id, after=after)
        wire = Wire()
        wire.reader = self.node.readers.open(wire, tail, NativeRenderer, after=after)
        wire.reader.pull()
        return wire

    async def ask(self, method: str, path: str, body: object = None, **fields: str) -> AsgiAnswer:
        return await call(self.api, method, path, body, fields)

    def is_making(self, run_id: str) -> bool:
        return run_id in self.node.live


@asynccontextmanager
async def open_members(
    url: str, folder: Path, count: int = 2, *, bench: Bench | None = None, **settings: Any
) -> AsyncIterator[list[Member]]:
    """Open nodes that know of each other."""
    async with AsyncExitStack() as stack:
        members = []
        for number in range(count):
            given = node_settings(folder / str(number), database_url=url, **settings)
            tools = bench.tools() if bench is not None else ()
            own = await stack.enter_async_context(AsyncExitStack())
            node = await own.enter_async_context(open_node(given, tools=tools))
            members.append(Member(node, create_api(node), own))
        await until(lambda: not any(each.node.wakes.alone for each in members))
        yield members


async def ends(*wires: Wire) -> list[str | None]:
    """Wait until all wires have ended; return how."""
    await until(lambda: all(wire.end for wire in wires))
    return [wire.end for wire in wires]


async def until(met: Callable[[], object], *, limit_s: float = SOON_S) -> None:
    async with asyncio.timeout(limit_s):
        while not met():  # noqa: ASYNC110 - runs have no event for what they did to a node
            await asyncio.sleep(0.005)

"""A node with tools of a bot in this process, and what a client sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from starlette.types import ASGIApp

from legato.app import open_node
from legato.core.errors import ToolError
from legato.http.api import create_api
from legato.providers.base import CallRequest
from legato.providers.scripted import ScriptedProvider
from legato.runs.node import Node
from legato.tools.base import Tool
from legato.tools.schema import tool_from
from legato.wire.native import NativeRenderer
from tests.asgi import AsgiAnswer, call
from tests.client import Event, parse_event
from tests.conftest import node_settings


@dataclass
class Bench:
    """Tools that note what was done with them.

    Attributes:
        ran: (name, argument) of each run, in the order of their beginnings.
        at_once: Most runs at the same time.
        gate: What `wait` waits for.
    """

    ran: list[tuple[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    contexts: list[object] = field(default_factory=list)
    at_once: int = 0
    _now: int = 0

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()

    def tools(self, **approval: Any) -> list[Tool]:
        """The tools; `approval` is the rule for `delete`."""

        async def search(query: str) -> str:
            """Search."""
            self.ran.append(("search", query))
            return f"found {query}"

        async def slow(n: int) -> int:
            """Wait a little."""
            self.ran.append(("slow", n))
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            await asyncio.sleep(0.1)
            self._now -= 1
            return n

        async def wait(query: str) -> str:
            """Wait until it is let go."""
            self.ran.append(("wait", query))
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(query)
                raise
            return "went on"

        async def fail(words: str) -> str:
            """Fail."""
            self.ran.append(("fail", words))
            if words == "on-purpose":
                raise ToolError("there is nothing to be found")
            raise RuntimeError(f"{words} at /srv/secret/place.py")

        async def delete(path: str) -> str:
            """Delete."""
            self.ran.append(("delete", path))
            return f"deleted {path}"

        made = [tool_from(each) for each in (search, slow, fail)]
        made.append(tool_from(wait, timeout_s=approval.pop("timeout_s", 30.0)))
        made.append(tool_from(delete, **({"needs_approval": True} | approval)))
        return made


@dataclass
class World:
    """An open node with tools."""

    node: Node
    bench: Bench
    api: ASGIApp

    @property
    def requests(self) -> list[CallRequest]:
        """What the model was asked, oldest first."""
        return cast(ScriptedProvider, self.node.models.find("scripted")).requests

    async def say(self, message: str, **fields: Any) -> list[Event]:
        """Post a message and return all events of its reply."""
        return events_of(await call(self.api, "POST", "/chat/stream", {"message": message} | fields))

    def begin(self, message: str, **fields: Any) -> asyncio.Task[list[Event]]:
        """Post a message and let its reply go on."""
        return asyncio.ensure_future(self.say(message, **fields))

    async def run_id(self) -> str:
        """Return the id of the one run that goes on."""
        await until(lambda: len(self.node.live) == 1)
        return next(iter(self.node.live))

    async def event(self, run_id: str, name: str, status: str) -> dict[str, Any]:
        """Return the data of the first such event, once it is in the log."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            events = self.log(run_id)
            found.extend(each.data for each in events if (each.name, each.data.get("status")) == (name, status))
            return bool(found)

        await until(is_there)
        return found[0]

    def log(self, run_id: str) -> list[Event]:
        """Return what is in a live run's log, as it is shown."""
        tail = self.node.live[run_id].tail
        renderer, frames, first = NativeRenderer(run_id, tail.log), b"", 0
        while items := tail.log.slice(first, 64):
            frames += renderer.render(first, items)
            first += len(items)
        return [parse_event(block) for block in frames.split(b"\n\n") if block]

    async def approve(self, run_id: str, call_id: str, *, granted: bool = True, **more: Any) -> AsgiAnswer:
        return await call(self.api, "POST", f"/chat/stream/{run_id}/approvals/{call_id}", {"granted": granted} | more)

    async def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        answer = await call(self.api, "GET", f"/conversations/{conversation_id}/messages")
        found: list[dict[str, Any]] = answer.json["messages"]
        return found


@asynccontextmanager
async def open_world(
    folder: Path, bench: Bench | None = None, *, tools: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[World]:
    bench = bench or Bench()
    async with open_node(node_settings(folder, **settings), tools=bench.tools(**(tools or {}))) as node:
        yield World(node, bench, create_api(node))


def events_of(answer: AsgiAnswer) -> list[Event]:
    blocks = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    return [parse_event(block) for block in blocks if not block.startswith(b":")]


def told(events: list[Event]) -> list[tuple[str, ...]]:
    """Return (name of the tool, status) of the events about tools, and `approval` before it for those about people."""
    return [
        (*(["approval"] if event.name == "approval" else []), event.data["name"], event.data["status"])
        for event in events
        if event.name in ("tool", "approval")
    ]


def output_of(events: list[Event], call_id: str = "call_1_1") -> str:
    """Return what a call gave."""
    results = (event.data for event in events if event.name == "tool" and "output" in event.data)
    return next(str(data["output"]) for data in results if data["callId"] == call_id)


async def until(condition: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

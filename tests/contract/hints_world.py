"""The other ends that the contract of hints is run over, and nodes that hear over them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from legato.fanout.base import Hints
from legato.fanout.hint import EVERYTHING, Hint, HintKind
from legato.fanout.memory import MemoryChannel, MemoryHints
from legato.fanout.notify import NotifyHints
from legato.fanout.redis import RedisHints
from tests.postgres import PostgresServer
from tests.valkey import ValkeyServer

SOON_S = 20.0
"""How long a hint may take on a busy machine before it counts as lost."""


class Ear:
    """Hints of one node, and what it has heard."""

    def __init__(self, hints: Hints) -> None:
        self.hints = hints
        self.heard: list[Hint] = []
        self.times: dict[int, float] = {}
        self._news = asyncio.Event()
        hints.on_hint(self._hear)

    def _hear(self, hint: Hint) -> None:
        self.heard.append(hint)
        self.times |= dict.fromkeys(hint.keys - self.times.keys(), time.perf_counter())
        self._news.set()

    def publish(self, *keys: int, kind: HintKind = HintKind.GROWN) -> None:
        self.hints.publish(Hint(kind=kind, keys=frozenset(keys)))

    def named(self, kind: HintKind = HintKind.GROWN) -> set[int]:
        return {key for hint in self.heard if hint.kind is kind for key in hint.keys}

    def everything(self) -> int:
        return self.heard.count(EVERYTHING)

    async def next(self) -> None:
        """Wait until something is heard."""
        self._news.clear()
        await asyncio.wait_for(self._news.wait(), SOON_S)

    async def until(self, met: Callable[[], object]) -> None:
        """Wait until something is true of what was heard."""
        async with asyncio.timeout(SOON_S):
            while not met():
                self._news.clear()
                try:
                    await asyncio.wait_for(self._news.wait(), 0.01)
                except TimeoutError:
                    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One other end, to which nodes are opened.

    Attributes:
        make: Makes the hints of a node; two in one world hear each other.
        stop, start: Take the other end away as a crash does, and bring it back empty.
        cut: Ends the connections of all nodes, while the other end stays.
        mute, unmute: Take from the node that was made first what it needs to publish, and give it back; the others
            do not notice.
    """

    make: Callable[[], Hints]
    stop: Callable[[], None] = lambda: None
    start: Callable[[], object] = lambda: None
    cut: Callable[[], object] = lambda: None
    mute: Callable[[], object] = lambda: None
    unmute: Callable[[], object] = lambda: None
    pause: Callable[[], None] = lambda: None
    resume: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def nodes(self, count: int) -> AsyncIterator[list[Ear]]:
        """Open nodes that are connected and have heard their first `EVERYTHING`, which is forgotten."""
        async with AsyncExitStack() as stack:
            ears = []
            for _ in range(count):
                ear = Ear(self.make())
                await ear.hints.start()
                stack.push_async_callback(ear.hints.close)
                ears.append(ear)
            for ear in ears:
                await ear.until(ear.everything)
                ear.heard.clear()
            yield ears


def _memory(request: pytest.FixtureRequest) -> World:
    channel = MemoryChannel()
    return World(make=lambda: MemoryHints(channel))


def _notify(request: pytest.FixtureRequest) -> World:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = secrets.token_hex(4)
    applications: list[str] = []

    def make() -> Hints:
        applications.append(f"{name}:{len(applications)}")
        return NotifyHints(server.url, namespace=name, application_name=applications[-1], longest_pause_s=0.2)

    return World(
        make=make,
        stop=server.stop,
        start=server.start,
        cut=lambda: [server.end_sessions(each) for each in applications],
        mute=lambda: server.end_sessions(applications[0]),
        pause=server.pause,
        resume=server.resume,
    )


def _redis(request: pytest.FixtureRequest) -> World:
    server: ValkeyServer = request.getfixturevalue("valkey_server")
    namespace = secrets.token_hex(4)
    return World(
        make=lambda: RedisHints(server.url, namespace=namespace, longest_pause_s=0.2),
        stop=server.kill,
        start=server.start,
        cut=lambda: [server.ask("CLIENT", "KILL", "TYPE", kind) for kind in ("pubsub", "normal")],
        mute=lambda: server.ask("ACL", "SETUSER", "default", "-publish"),
        unmute=lambda: server.ask("ACL", "SETUSER", "default", "+publish"),
        pause=server.pause,
        resume=server.resume,
    )


REMOTE = {"notify": _notify, "redis": _redis}
ALL = {"memory": _memory, **REMOTE}

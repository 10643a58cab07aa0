"""A database that feeds are told by: a model of logs that grow, end, are packed and go; and readers of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from legato.core.errors import StorageUnavailable
from legato.core.event import LogItem, RunFinished, RunStarted
from legato.core.log import RunLog
from legato.runs.feed import Feed
from legato.runs.tail import Readers, Tail
from legato.storage.followed import MOST_PIECES, Growth
from legato.wire.native import NativeRenderer

STARTED = RunStarted(conversation_id="c", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)
LAST = RunFinished(reason="stop", message_count=2, response_time_ms=1)
SOON_S = 10.0


class Wire:
    """A connection that takes everything."""

    paused = False

    def __init__(self) -> None:
        self.data = b""
        self.end: str | None = None

    def write(self, frames: bytes) -> None:
        assert self.end is None, "written to after its end"
        self.data += frames

    def finish(self) -> None:
        assert self.end is None
        self.end = "finished"

    def abort(self) -> None:
        self.end = self.end or "aborted"


@dataclass
class Kept:
    """A run in the model: its pieces, and its packed log once it has ended."""

    key: int
    pieces: list[tuple[int, int, list[LogItem]]] = field(default_factory=list)
    log: RunLog = field(default_factory=RunLog)
    ended: bool = False

    @property
    def row(self) -> Any:
        return SimpleNamespace(id=f"r-{self.key}", owner="o", key=self.key)

    def append(self, items: Sequence[LogItem], epoch: int = 0) -> None:
        self.pieces.append((len(self.log), epoch, list(items)))
        self.log.extend(items, epoch)

    def close(self, items: Sequence[LogItem] = (), epoch: int = 0) -> None:
        """End it: the last items are in the packed log alone."""
        self.log.extend([*items, LAST], epoch)
        self.ended = True


class Model:
    """What a database would answer."""

    def __init__(self, *runs: Kept) -> None:
        self.runs = {run.key: run for run in runs}
        self.reads = 0
        self.in_flight = 0
        self.away = False
        self.between: Callable[[], None] = lambda: None
        """Happens while a read is on its way back."""
        self.on_read: Callable[[Iterable[int]], None] = lambda keys: None

    async def read(self, ends: Mapping[int, int], asked: AbstractSet[int]) -> Growth:
        assert not self.in_flight, "two reads at once"
        self.in_flight, self.reads = 1, self.reads + 1
        self.on_read(ends)
        try:
            if self.away:
                raise StorageUnavailable("away")
            found = Growth()
            for key, end in ends.items():
                self._look(found, key, end, key in asked)
            self.between()
            await asyncio.sleep(0)
            return found
        finally:
            self.in_flight = 0

    def _look(self, found: Growth, key: int, end: int, asked: bool) -> None:
        run = self.runs.get(key)
        pieces = [] if run is None else [each for each in run.pieces if each[0] >= end][:MOST_PIECES]
        if pieces:
            found.pieces[key] = [(first, epoch, list(items)) for first, epoch, items in pieces]
            if len(pieces) == MOST_PIECES:
                found.more.add(key)
        if run is None:
            found.gone.add(key)
        elif run.ended and (asked or not pieces):
            found.logs[key] = run.log.copy()


def feed_of(model: Model, **given: Any) -> Feed:
    return Feed(model.read, **({"patience_s": 5.0, "poll_s": 0.002, "linger_s": 0.05} | given))


def opened(readers: Readers, tail: Tail, after: int = -1) -> Wire:
    wire = Wire()
    readers.open(wire, tail, NativeRenderer, after=after).pull()
    return wire


def whole(run: Kept) -> bytes:
    renderer = NativeRenderer(f"r-{run.key}", run.log)
    return b"".join(renderer.render(seq, run.log.slice(seq, 1)) for seq in range(len(run.log)))


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON_S):
        while not met():  # noqa: ASYNC110 - a model has no event for what it did
            await asyncio.sleep(0.001)

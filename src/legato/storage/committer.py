"""The group commit: all writes of a node, many runs a transaction, at most one in flight a lane.

What is committed is published, never before. Deltas wait for each other for WINDOW_S at most; after idleness the
first does not wait at all. A thread writes (storage.writer), so that the event loop never waits for the disk; what is
here runs on the loop.

A batch that fails because the database is away is held and tried again until it is back; meanwhile `stalled_s` grows,
and whoever feeds the log is expected to slow down.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import structlog

from legato.core.errors import StorageUnavailable
from legato.core.event import LogItem
from legato.storage.database import Database
from legato.storage.statement import Transaction
from legato.storage.writer import Batch, Batches, Lane, Unit, write_batches

T = TypeVar("T")
log = structlog.get_logger(__name__)

WINDOW_S = 0.006
RETRY_S = 0.25


class Appending(Protocol):
    """The log of a live run, as the committer sees it: on the event loop's thread only."""

    key: int
    epoch: int
    pending: list[LogItem]

    @property
    def end(self) -> int:
        """Seq of the next event to be committed."""
        ...

    def publish(self, items: Sequence[LogItem]) -> None:
        """Take what has been committed and show it."""
        ...

    def append_failed(self, error: Exception) -> None:
        """Learn that pending items were refused by the database and are lost."""
        ...


class Command(ABC, Generic[T]):
    """One unit of writing that is not an append: it happens wholly or not at all.

    `apply` may run more than once (after a rollback), and must raise a LegatoError only before its first write.
    """

    def prepare(self) -> None:
        """Gather what must be consistent with the log; on the loop, with nothing in flight."""

    @abstractmethod
    def apply(self, tx: Transaction) -> T:
        """Write; on the committer's thread."""

    def committed(self, value: T) -> None:
        """Show what has been written; on the loop, before whoever waits for it goes on."""


class _Call(Command[T]):
    def __init__(self, function: Callable[[Transaction], T]) -> None:
        self.function = function

    def apply(self, tx: Transaction) -> T:
        return self.function(tx)


@dataclass(slots=True, kw_only=True)
class _Unit(Unit):
    """A command and who waits for it."""

    command: Command[Any]
    future: asyncio.Future[Any]


@dataclass(slots=True, kw_only=True)
class _Batch(Batch[_Unit]):
    """What is written together: a piece of each of `runs`, and the units; `flushes` wait for the pieces alone."""

    runs: list[Appending] = field(default_factory=list)
    flushes: list[asyncio.Future[None]] = field(default_factory=list)


class Committer:
    """All writes of this process. Made and used on the event loop; owns the threads that write."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.get_running_loop()
        self.on_stall: Callable[[bool], None] = lambda stalled: None
        """Called with True when the database stops taking writes, with False when it is back."""
        self.on_event: Callable[[], None] = lambda: None
        """Called when something new is in the outbox."""
        self.on_batch: Callable[[int, float], None] = lambda items, elapsed_s: None
        """Called with what each written batch held, commands and pieces of logs, and how long writing it took."""
        (lane,) = database.lanes
        self._appends = self._commands = Line(self, database, lane)

    @property
    def stalled_s(self) -> float:
        """Seconds for which the database has refused all writes; 0 when it takes them."""
        since = self._appends.stalled_since
        return 0.0 if since is None else self._loop.time() - since

    def append(self, run: Appending, item: LogItem) -> None:
        """Append to a run's log; returns at once, `run.publish` follows the commit."""
        if not run.pending:
            line = self._appends
            line.dirty.append(run)
            if line.timer is None and not line.busy:
                line.arm()
        run.pending.append(item)

    async def execute(self, command: Command[T], *, wait_s: float | None = None) -> T:
        """Write one command and return what it returned, once it is committed.

        Args:
            command: What to write.
            wait_s: How long it may wait for a database that is away; None waits for ever. A command that was
                given up, or whose caller was cancelled before it began, is not written.

        Raises:
            StorageUnavailable: The database was away for longer than `wait_s`.
            LegatoError: The command refused.
        """
        unit = _Unit(apply=command.apply, command=command, future=self._loop.create_future())
        line = self._commands
        line.units.append(unit)
        if line.timer is None and not line.busy:
            line.arm()
        if wait_s is None:
            return await unit.future  # type: ignore[no-any-return]
        timer = self._loop.call_later(wait_s, line.give_up, unit.future, unit, wait_s)
        try:
            return await unit.future  # type: ignore[no-any-return]
        finally:
            timer.cancel()

    async def write(self, function: Callable[[Transaction], T], *, wait_s: float | None = None) -> T:
        """Like `execute`, for a plain function of a transaction."""
        return await self.execute(_Call(function), wait_s=wait_s)

    async def flush(self, *, wait_s: float | None = None) -> None:
        """Wait until everything appended so far is committed, or refused.

        Raises:
            StorageUnavailable: The database was away for longer than `wait_s`; None waits for ever.
        """
        future = self._loop.create_future()
        line = self._appends
        line.flushes.append(future)
        if line.timer is None and not line.busy:
            line.arm()
        timer = None if wait_s is None else self._loop.call_later(wait_s, line.give_up, future, None, wait_s)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Write what is left, if the database takes it, and end the thread."""
        if self.stalled_s == 0:
            await self.flush()
        await self._appends.close()


class Line:
    """The loop's side of one lane: what waits for it, what is in flight on it, and the thread behind it."""

    def __init__(self, owner: Committer, database: Database, lane: Lane) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.dirty: list[Appending] = []
        self.units: list[_Unit] = []
        self.flushes: list[asyncio.Future[None]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False
        self.stalled_since: float | None = None
        self._held: _Batch | None = None
        self._last_begun = 0.0
        self._batches: Batches = queue.SimpleQueue()
        report = partial(self._loop.call_soon_threadsafe, self.committed)  # type: ignore[arg-type]
        self._thread = threading.Thread(
            target=write_batches,
            args=(self._batches, partial(database.writer, lane), report),
            name=f"legato-commit-{lane.value}",
            daemon=True,
        )
        self._thread.start()

    def arm(self) -> None:
        """See to it that a batch goes soon."""
        # A command has somebody waiting for it: where nothing streams, it goes at once.
        delay = max(0.0, self._last_begun + WINDOW_S - self._loop.time()) if self.dirty else 0.0
        self.timer = self._loop.call_later(delay, self._kick)

    def give_up(self, future: asyncio.Future[Any], unit: _Unit | None, wait_s: float) -> None:
        """Tell a waiting caller that the database is away."""
        # What is on its way to the disk may still be committed, and a piece of a held batch may be there already.
        if future.done():
            return
        if (unit is not None and unit.done) or (self.busy and self._held is None):
            self._loop.call_later(RETRY_S, self.give_up, future, unit, wait_s)
        else:
            future.set_exception(StorageUnavailable(f"the database has taken no writes for {wait_s:.0f} s: try again"))

    async def close(self) -> None:
        """End the thread; what was not written is not."""
        if self.timer is not None:
            self.timer.cancel()
        self._batches.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _kick(self) -> None:
        """Hand the next batch to the thread. Nothing is in flight now."""
        self.timer = None
        self.busy = True
        self._last_begun = self._loop.time()
        batch = self._held or _Batch()
        if self._held is not None:
            self._held = None
            batch.fault = None
            # Whoever gave up was told so: it must not be written after all.
            batch.units = [unit for unit in batch.units if unit.done or not unit.future.done()]
        else:
            units, self.units = self.units, []
            batch.units = [unit for unit in units if not unit.future.done()]
            for unit in batch.units:
                unit.command.prepare()
            dirty, self.dirty = self.dirty, []
            for run in dirty:
                # A command that ends a run takes its last items along.
                if items := run.pending:
                    run.pending = []
                    batch.runs.append(run)
                    batch.pieces.append((run.key, run.end, run.epoch, items))
            batch.flushes, self.flushes = self.flushes, []
        self._batches.put(batch)

    def committed(self, batch: _Batch) -> None:
        """Publish what the thread has written."""
        self.busy = False
        if batch.fault is not None:
            self._stall(batch)
            return
        if self.stalled_since is not None:
            log.info("database takes writes again", stalled_s=round(self._loop.time() - self.stalled_since, 1))
            self.stalled_since = None
            self._owner.on_stall(False)
        if batch.refused:
            for place, error in batch.refused.items():
                batch.runs[place].append_failed(error)
        for place, run in enumerate(batch.runs):
            if place not in batch.refused:
                run.publish(batch.pieces[place][3])
        for unit in batch.units:
            if unit.error is None:
                unit.command.committed(unit.value)
            if unit.future.done():
                continue
            if unit.error is None:
                unit.future.set_result(unit.value)
            else:
                unit.future.set_exception(unit.error)
        for flush in batch.flushes:
            if not flush.done():
                flush.set_result(None)
        self._owner.on_batch(len(batch.runs) + len(batch.units), batch.elapsed_s)
        if batch.rings:
            self._owner.on_event()
        if self.dirty or self.units or self.flushes:
            self.arm()

    def _stall(self, batch: _Batch) -> None:
        self._held = batch
        if self.stalled_since is None:
            self.stalled_since = self._loop.time()
            log.error("database takes no writes", error=str(batch.fault))
            self._owner.on_stall(True)
        self.timer = self._loop.call_later(RETRY_S, self._kick)

"""One lane of the group commit, on the loop's side: what waits, what is in flight, and how a batch comes to be.

At most one batch is in flight. What has been appended waits for WINDOW_S at most; after idleness the first does not
wait at all, and where few runs stream neither does a reply's beginning.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import structlog

from legato.core.errors import StorageUnavailable
from legato.core.event import LogItem
from legato.storage.database import Database
from legato.storage.statement import Transaction
from legato.storage.writer import Batch, Batches, Lane, NodeFenced, Unit, write_batches

if TYPE_CHECKING:
    from legato.storage.committer import Committer

T = TypeVar("T")
log = structlog.get_logger(__name__)

WINDOW_S = 0.006
RETRY_S = 0.25
MANY_RUNS = 32
"""In one batch: from here on batches are not to become more."""
WAIT_S = 0.001
"""How long the loop may wait for a batch of many runs, where the database is in this process."""
MOST_COMMANDS = 16
"""In one batch of a lane of their own: each is a transaction, and the first need not wait for the last."""


class Appending(Protocol):
    """The log of a live run, as the committer sees it: on the event loop's thread only.

    Attributes:
        key: The run's; 0 once it was let go of, deleted or another node's: what is appended then is thrown away.
    """

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

    Attributes:
        log: The log that it ends, if it ends one.
        hurries: It is a reply's beginning (Line.hurry).
    """

    log: Appending | None = None
    hurries = False

    def prepare(self) -> None:
        """Gather what must be consistent with `log`; on the loop, with nothing of it in flight."""

    @abstractmethod
    def apply(self, tx: Transaction) -> T:
        """Write; on the committer's thread."""

    def committed(self, value: T) -> None:
        """Show what has been written; on the loop, before whoever waits for it goes on."""


@dataclass(slots=True, kw_only=True)
class CommandUnit(Unit):
    """A command and who waits for it."""

    command: Command[Any]
    future: asyncio.Future[Any]


@dataclass(slots=True, kw_only=True)
class LineBatch(Batch[CommandUnit]):
    """What is written together: a piece of each of `runs`, and the units; `flushes` wait for the pieces alone."""

    runs: list[Appending] = field(default_factory=list)
    flushes: list[asyncio.Future[None]] = field(default_factory=list)


class Line:
    """The loop's side of one lane: what waits for it, what is in flight on it, and the thread behind it."""

    def __init__(self, owner: Committer, database: Database, lane: Lane) -> None:
        self._owner = owner
        self._database = database
        self._shared = len(database.lanes) == 1
        self._loop = asyncio.get_running_loop()
        self.dirty: list[Appending] = []
        self.units: list[CommandUnit] = []
        self.flushes: list[asyncio.Future[None]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False
        self.stalled_since: float | None = None
        self._batch: LineBatch | None = None
        self._held: LineBatch | None = None
        self._last_begun = 0.0
        self._runs = 0  # in the last batch
        self._hurries = False
        self._batches: Batches = queue.SimpleQueue()
        self._written: queue.SimpleQueue[LineBatch] = queue.SimpleQueue()
        self._is_waiting = False
        self._thread = threading.Thread(
            target=write_batches,
            args=(self._batches, partial(database.writer, lane), self._report),
            name=f"legato-commit-{lane.value}",
            daemon=True,
        )
        self._thread.start()

    def arm(self) -> None:
        """See to it that a batch goes soon."""
        # A command has somebody waiting for it: where nothing streams, it goes at once.
        waits = self.dirty and not self._hurries
        delay = max(0.0, self._last_begun + WINDOW_S - self._loop.time()) if waits else 0.0
        if self.timer is not None:
            # Something may have been appended while a batch was being published: two timers were two batches at once.
            self.timer.cancel()
        self.timer = self._loop.call_later(delay, self._kick)

    def hurry(self) -> None:
        """Have the next batch go without a wait, unless many runs stream: what is about to come begins a reply."""
        if self._runs >= MANY_RUNS or self.stalled_since is not None:
            return
        self._hurries = True
        if self.timer is not None:
            self.timer.cancel()
            self.arm()

    def go_on(self) -> None:
        """Try at once what was refused, or whether the database takes anything."""
        if self.stalled_since is not None and not self.busy:
            if self.timer is not None:
                self.timer.cancel()
            self._kick()

    def wake(self) -> None:
        """See to it that a batch goes, unless one is on its way or is about to go."""
        if self.timer is None and not self.busy:
            self.arm()

    def logs(self) -> set[Appending]:
        """Return the logs of which something is on its way, or held."""
        batch = self._held or (self._batch if self.busy else None)
        return set(batch.runs) if batch is not None else set()

    async def flush(self, wait_s: float | None = None) -> None:
        """Wait until everything that is here so far was tried, and the database took it or refused it.

        Raises:
            StorageUnavailable: The database was away for longer than `wait_s` (None waits for ever), or this node may
                not write any more.
        """
        future = self._loop.create_future()
        self.flushes.append(future)
        self.wake()
        timer = None if wait_s is None else self._loop.call_later(wait_s, self.give_up, future, None, wait_s)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def give_up(self, future: asyncio.Future[Any], unit: CommandUnit | None, wait_s: float) -> None:
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
        self._hurries = False
        if self._held is not None:
            batch, self._held = self._held, None
            batch.fault = None
            for unit in batch.units:
                unit.wanted = not unit.future.done()
            units, batch.units = batch.units, []
            for unit in units:
                # Whoever gave up was told so: it must not be written after all.
                if unit.done or unit.unsure or unit.wanted:
                    batch.units.append(unit)
                else:
                    self._owner.let_go(unit)
        else:
            batch = LineBatch()
            self._take_units(batch)
            self._take_pieces(batch)
            batch.flushes, self.flushes = self.flushes, []
            if not (batch.units or batch.pieces or batch.flushes) and self.stalled_since is None:
                # Its commands wait for logs that are on their way: the other lane wakes it.
                self.busy = False
                return
        if not batch.pieces:
            # Pieces stay with the node that made them.
            batch.node_key = self._database.node_key
        self._batch = batch
        # What comes now can go with the next batch at the earliest, and taking it would only make the thread wait for
        # the interpreter's lock, at each statement. A database that is elsewhere takes longer than the loop may wait.
        self._is_waiting = self._shared and len(batch.runs) >= MANY_RUNS
        self._batches.put(batch)
        if self._is_waiting:
            self._collect(WAIT_S)
            if self.busy:
                self._is_waiting = False
                # It may have been put there since, without a call.
                self._collect()

    def _report(self, batch: LineBatch) -> None:
        """Hand a batch back; on the thread."""
        self._written.put(batch)
        if not self._is_waiting:
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self, wait_s: float = 0.0) -> None:
        """Take what has been written, if it is there."""
        try:
            batch = self._written.get(timeout=wait_s)
        except queue.Empty:
            return
        self.committed(batch)

    def _take_units(self, batch: LineBatch) -> None:
        """Put commands into a batch that is about to go."""
        units, self.units = self.units, []
        in_flight = set() if self._shared or not units else self._owner.in_flight()
        for unit in units:
            full = len(batch.units) == MOST_COMMANDS and not self._shared
            if unit.future.done():
                self._owner.let_go(unit)
            elif full or unit.command.log in in_flight:
                self.units.append(unit)
            else:
                try:
                    unit.command.prepare()
                except Exception as error:  # noqa: BLE001 - whoever waits for it is told; the others go on
                    unit.future.set_exception(error)
                    self._owner.let_go(unit)
                else:
                    batch.units.append(unit)

    def _take_pieces(self, batch: LineBatch) -> None:
        """Put into a batch that is about to go what the logs have been given since the last one."""
        dirty, self.dirty = self.dirty, []
        ending = self._owner.ending
        batch.node_key = self._database.node_key
        for run in dirty:
            if ending and run in ending:
                continue
            # A command that ends a run takes its last items along.
            if items := run.pending:
                run.pending = []
                if not run.key:
                    # It was let go: what it appends is nobody's.
                    continue
                batch.runs.append(run)
                batch.pieces.append((run.key, run.end, run.epoch, items))

    def committed(self, batch: LineBatch) -> None:
        """Publish what the thread has written."""
        self.busy = False
        self._runs = len(batch.runs)
        if batch.fault is not None:
            self._stall(batch)
            return
        if self.stalled_since is not None:
            log.info("database takes writes again", stalled_s=round(self._loop.time() - self.stalled_since, 1))
            self.stalled_since = None
            self._owner.stalls(self, False)
        if batch.refused:
            for place, error in batch.refused.items():
                batch.runs[place].append_failed(error)
        for place, run in enumerate(batch.runs):
            if place not in batch.refused:
                try:
                    run.publish(batch.pieces[place][3])
                except Exception as error:
                    log.exception("what was committed could not be shown", run_key=run.key)
                    run.append_failed(error)
        for unit in batch.units:
            if unit.error is None:
                try:
                    unit.command.committed(unit.value)
                except Exception as error:
                    log.exception("what was committed could not be acted on", command=type(unit.command).__name__)
                    unit.error = error
            if not self._shared:
                self._owner.let_go(unit)
            if unit.future.done():
                continue
            if unit.error is None:
                unit.future.set_result(unit.value)
            else:
                unit.future.set_exception(unit.error)
        for flush in batch.flushes:
            if not flush.done():
                flush.set_result(None)
        if self._owner.on_grown is not None and batch.runs:
            self._owner.on_grown([run.key for run in batch.runs])
        self._owner.on_batch(len(batch.runs) + len(batch.units), batch.elapsed_s)
        if batch.rings:
            self._owner.on_event()
        if self.dirty or self.units or self.flushes:
            self.arm()
        if not self._shared:
            self._owner.appended()

    def _stall(self, batch: LineBatch) -> None:
        self._held = batch
        is_fenced = isinstance(batch.fault, NodeFenced)
        if is_fenced:
            batch.pieces.clear()
            batch.runs.clear()
            batch.written.clear()
            batch.refused.clear()
            # What they wait for is not in the log, and never comes there from here.
            flushes, batch.flushes = batch.flushes, []
            for flush in flushes:
                if not flush.done():
                    flush.set_exception(StorageUnavailable("another server makes this reply by now: try in a moment"))
        if self.stalled_since is None:
            self.stalled_since = self._loop.time()
            log.error("database takes no writes", error=str(batch.fault) or type(batch.fault).__name__)
            self._owner.stalls(self, True)
        if is_fenced and not batch.units:
            # Nothing is left to be tried again.
            self._held = None
        # Where the node has registered anew since, nobody says any more when to go on.
        if self._held is not None or batch.node_key != self._database.node_key:
            self.timer = self._loop.call_later(RETRY_S, self._kick)
        if is_fenced:
            if batch.node_key == self._database.node_key:
                self._owner.fenced()
            self._owner.appended()

"""The group commit: all writes of a node, many runs a transaction, at most one in flight.

What is committed is published, never before. Deltas wait for each other for WINDOW_S at most; after idleness the
first does not wait at all. One thread writes, so that the event loop never waits for the disk.

A batch that fails for a reason of its data is done again piece by piece, so that one bad string does not fail a
thousand replies. A batch that fails because the database is away is held and tried again until it is back; meanwhile
`stalled_s` grows, and whoever feeds the log is expected to slow down.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import structlog
from sqlalchemy import bindparam, insert

from legato.core.errors import LegatoError, StorageUnavailable
from legato.core.event import SCHEMA_VERSION, LogItem
from legato.storage.codec import FLUSH_FORMAT, SegmentPiece, encode_flush
from legato.storage.database import Database
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import segment

T = TypeVar("T")
log = structlog.get_logger(__name__)

WINDOW_S = 0.006
RETRY_S = 0.25

INSERT_SEGMENT = Prepared(
    insert(segment).values({column.name: bindparam(column.name) for column in segment.columns if column.name != "id"})
)


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


@dataclass(slots=True)
class _Unit:
    """A command and who waits for it."""

    command: Command[Any]
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None
    done: bool = False


@dataclass(slots=True)
class _Batch:
    """What is written together: a piece of each of `runs`, and `units`.

    `written` and `refused` (by place in `pieces`) fill when it is done piece by piece.
    """

    runs: list[Appending] = field(default_factory=list)
    pieces: list[SegmentPiece] = field(default_factory=list)
    units: list[_Unit] = field(default_factory=list)
    fault: sqlite3.Error | None = None
    rings: bool = False
    elapsed_s: float = 0.0
    written: set[int] = field(default_factory=set)
    refused: dict[int, Exception] = field(default_factory=dict)


class Committer:
    """All writes of this process. Made and used on the event loop; owns one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._dirty: list[Appending] = []
        self._units: list[_Unit] = []
        self._held: _Batch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._last_begun = 0.0
        self._stalled_since: float | None = None
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._idle: asyncio.Future[None] | None = None
        self.on_stall: Callable[[bool], None] = lambda stalled: None
        """Called with True when the database stops taking writes, with False when it is back."""
        self.on_event: Callable[[], None] = lambda: None
        """Called when something new is in the outbox."""
        self.on_batch: Callable[[int, float], None] = lambda items, elapsed_s: None
        """Called with what each written batch held, commands and pieces of logs, and how long writing it took."""
        self._thread = threading.Thread(target=self._write_batches, name="legato-commit", daemon=True)
        self._thread.start()

    @property
    def stalled_s(self) -> float:
        """Seconds for which the database has refused all writes; 0 when it takes them."""
        return 0.0 if self._stalled_since is None else self._loop.time() - self._stalled_since

    def append(self, run: Appending, item: LogItem) -> None:
        """Append to a run's log; returns at once, `run.publish` follows the commit."""
        if not run.pending:
            self._dirty.append(run)
            if self._timer is None and not self._busy:
                self._arm()
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
        unit = _Unit(command, self._loop.create_future())
        self._units.append(unit)
        if self._timer is None and not self._busy:
            self._arm()
        if wait_s is None:
            return await unit.future  # type: ignore[no-any-return]
        timer = self._loop.call_later(wait_s, self._give_up, unit, wait_s)
        try:
            return await unit.future  # type: ignore[no-any-return]
        finally:
            timer.cancel()

    async def write(self, function: Callable[[Transaction], T], *, wait_s: float | None = None) -> T:
        """Like `execute`, for a plain function of a transaction."""
        return await self.execute(_Call(function), wait_s=wait_s)

    async def flush(self) -> None:
        """Wait until everything appended so far is committed."""
        await self.execute(_Call(lambda tx: None))

    async def close(self) -> None:
        """Write what is left, if the database takes it, and end the thread."""
        if self._stalled_since is None:
            await self.flush()
        if self._timer is not None:
            self._timer.cancel()
        self._batches.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _give_up(self, unit: _Unit, wait_s: float) -> None:
        # What is on its way to the disk may still be committed, and a piece of a held batch may be there already.
        if not unit.future.done() and not unit.done and not (self._busy and self._held is None):
            unit.future.set_exception(
                StorageUnavailable(f"the database has taken no writes for {wait_s:.0f} s: try again")
            )
        elif not unit.future.done():
            self._loop.call_later(RETRY_S, self._give_up, unit, wait_s)

    def _arm(self) -> None:
        # A command has somebody waiting for it: where nothing streams, it goes at once.
        delay = max(0.0, self._last_begun + WINDOW_S - self._loop.time()) if self._dirty else 0.0
        self._timer = self._loop.call_later(delay, self._kick)

    def _kick(self) -> None:
        """Hand the next batch to the thread. Nothing is in flight now."""
        self._timer = None
        self._busy = True
        self._last_begun = self._loop.time()
        batch = self._held or _Batch()
        if self._held is not None:
            self._held = None
            batch.fault = None
            # Whoever gave up was told so: it must not be written after all.
            batch.units = [unit for unit in batch.units if unit.done or not unit.future.done()]
        else:
            units, self._units = self._units, []
            batch.units = [unit for unit in units if not unit.future.done()]
            for unit in batch.units:
                unit.command.prepare()
            dirty, self._dirty = self._dirty, []
            for run in dirty:
                # A command that ends a run takes its last items along.
                if items := run.pending:
                    run.pending = []
                    batch.runs.append(run)
                    batch.pieces.append((run.key, run.end, run.epoch, items))
        self._batches.put(batch)

    def _committed(self, batch: _Batch) -> None:
        """Publish what the thread has written; on the loop."""
        self._busy = False
        if batch.fault is not None:
            self._stall(batch)
            return
        if self._stalled_since is not None:
            log.info("database takes writes again", stalled_s=round(self.stalled_s, 1))
            self._stalled_since = None
            self.on_stall(False)
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
        self.on_batch(len(batch.runs) + len(batch.units), batch.elapsed_s)
        if batch.rings:
            self.on_event()
        if self._dirty or self._units:
            self._arm()

    def _stall(self, batch: _Batch) -> None:
        self._held = batch
        if self._stalled_since is None:
            self._stalled_since = self._loop.time()
            log.error("database takes no writes", error=str(batch.fault))
            self.on_stall(True)
        self._timer = self._loop.call_later(RETRY_S, self._kick)

    # What follows runs on the committer's thread.

    def _write_batches(self) -> None:
        tx: Transaction | None = None
        while (batch := self._batches.get()) is not None:
            try:
                if tx is None:
                    tx = Transaction(self._database.connect(writes=True))
                began_s = time.monotonic()
                self._write(tx, batch)
                batch.elapsed_s = time.monotonic() - began_s
                # A ring for what was rolled back would only be a look too many.
                batch.rings, tx.rings = tx.rings, False
            except sqlite3.Error as fault:
                batch.fault = fault
            except LegatoError as error:
                batch.fault = sqlite3.OperationalError(error.message)
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _write(self, tx: Transaction, batch: _Batch) -> None:
        if batch.written or batch.refused or any(unit.done for unit in batch.units):
            # It was begun piece by piece before the database went away.
            self._write_pieces(tx, batch)
            return
        try:
            self._transact(tx, batch.pieces, batch.units)
        except Exception as error:
            if is_away(error):
                raise
            # A fault of one piece's data: find out whose.
            self._write_pieces(tx, batch)

    def _write_pieces(self, tx: Transaction, batch: _Batch) -> None:
        for place, piece in enumerate(batch.pieces):
            if place in batch.written or place in batch.refused:
                continue
            try:
                self._transact(tx, [piece], [])
                batch.written.add(place)
            except Exception as error:
                if is_away(error):
                    raise
                batch.refused[place] = error
        for unit in batch.units:
            if unit.done:
                continue
            try:
                self._transact(tx, [], [unit])
            except Exception as error:
                if is_away(error):
                    raise
                unit.error = error
            unit.done = True

    @staticmethod
    def _transact(tx: Transaction, pieces: list[SegmentPiece], units: list[_Unit]) -> None:
        if not units:
            # One statement is a transaction of its own: the interpreter's lock is given up, and fought for, at each.
            if pieces:
                _insert_flush(tx, pieces)
            return
        connection = tx.cursor.connection
        tx.cursor.execute("BEGIN IMMEDIATE")
        try:
            if pieces:
                _insert_flush(tx, pieces)
            for unit in units:
                changes = connection.total_changes
                unit.error = None
                try:
                    unit.value = unit.command.apply(tx)
                except LegatoError as refusal:
                    if connection.total_changes != changes:
                        raise
                    unit.error = refusal
            tx.cursor.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                tx.cursor.execute("ROLLBACK")
            raise


def _insert_flush(tx: Transaction, pieces: list[SegmentPiece]) -> None:
    """Write what all runs of a batch brought as one row, however many they are."""
    values = (0, 0, len(pieces), 0, SCHEMA_VERSION, FLUSH_FORMAT, encode_flush(pieces))
    tx.cursor.execute(INSERT_SEGMENT.sql, values)


_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


def is_away(error: Exception) -> bool:
    """Whether the database as a whole takes no writes, so that the same batch may pass later."""
    # Extended codes carry the primary one in their low byte.
    return isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _AWAY

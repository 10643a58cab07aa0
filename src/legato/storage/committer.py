"""The group commit: all writes of a node, many runs a transaction, at most one in flight a lane.

What is committed is published, never before. Deltas wait for each other for WINDOW_S at most; after idleness the
first does not wait at all. A thread writes (storage.writer), so that no disk holds the event loop up; what is
here runs on the loop.

A batch that fails because the database is away is held and tried again until it is back; meanwhile `stalled_s` grows,
and whoever feeds the log is expected to slow down.

Where the database has two lanes, appends and commands are written side by side. A command that ends a log goes when
nothing of that log is on its way, and nothing of it is sent until the command is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from legato.core.event import LogItem
from legato.storage.database import Database
from legato.storage.line import Appending, Command, CommandUnit, Line
from legato.storage.statement import Transaction
from legato.storage.writer import Lane

__all__ = ["Appending", "Command", "Committer"]

T = TypeVar("T")
CLOSE_S: Final = 2.0
"""How long the last writes of a process may take."""
log = structlog.get_logger(__name__)


class _Call(Command[T]):
    def __init__(self, function: Callable[[Transaction], T]) -> None:
        self.function = function

    def apply(self, tx: Transaction) -> T:
        return self.function(tx)


class Committer:
    """All writes of this process. Made and used on the event loop; owns the threads that write."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.get_running_loop()
        self.on_stall: Callable[[bool], None] = lambda stalled: None
        """Called with True when the database stops taking writes, with False when it is back."""
        self.on_event: Callable[[], None] = lambda: None
        """Called when something new is in the outbox."""
        self.on_grown: Callable[[list[int]], None] | None = None
        """Called with the keys of the runs whose logs a batch has made longer."""
        self.on_batch: Callable[[int, float], None] = lambda items, elapsed_s: None
        """Called with what each written batch held, commands and pieces of logs, and how long writing it took."""
        self.on_fenced: Callable[[], None] = lambda: None
        """Called once for each node key (Database.node_key) that turns out to be fenced. Pieces of its runs that were
        on their way are dropped by then, and commands are held until there is a new key; logs that are let go of lose
        their own key (Appending.key) before that."""
        self._database = database
        self._fenced_key: int | None = None
        self.ending: set[Appending] = set()
        """Logs that a command of another lane is about to end."""
        self._commands = Line(self, database, Lane.COMMAND)
        self._appends = Line(self, database, Lane.APPEND) if Lane.APPEND in database.lanes else self._commands
        self._lines = list(dict.fromkeys((self._appends, self._commands)))

    @property
    def stalled_s(self) -> float:
        """Seconds for which the database has refused all writes of a lane; 0 when it takes them."""
        since = [line.stalled_since for line in self._lines if line.stalled_since is not None]
        return self._loop.time() - min(since) if since else 0.0

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
        unit = CommandUnit(apply=command.apply, command=command, future=self._loop.create_future())
        line = self._commands
        if command.log is not None and line is not self._appends:
            self.ending.add(command.log)
        if command.hurries:
            line.hurry()
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

    def hurry(self) -> None:
        """Have what is appended next go without a wait where few runs stream: it begins a reply."""
        self._appends.hurry()

    async def write(self, function: Callable[[Transaction], T], *, wait_s: float | None = None) -> T:
        """Like `execute`, for a plain function of a transaction."""
        return await self.execute(_Call(function), wait_s=wait_s)

    async def flush(self, *, wait_s: float | None = None) -> None:
        """Wait until everything appended so far is committed, or refused.

        Raises:
            StorageUnavailable: The database was away for longer than `wait_s` (None waits for ever), or another node
                has fenced this one.
        """
        await self._appends.flush(wait_s)

    async def close(self) -> None:
        """Write what is left, if the database takes it, and end the threads."""
        if self.stalled_s == 0:
            await asyncio.gather(*(line.flush(CLOSE_S) for line in self._lines), return_exceptions=True)
        for line in self._lines:
            await line.close()

    def in_flight(self) -> set[Appending]:
        """Return the logs of which something is on its way to the database."""
        return self._appends.logs()

    def let_go(self, unit: CommandUnit) -> None:
        """Learn that a command is done, or was given up: its log may grow again, if it has not ended."""
        run = unit.command.log
        if run is None or run not in self.ending:
            return
        self.ending.discard(run)
        if unit.done and unit.error is None:
            # What came behind the end is no part of the log.
            run.pending = []
        elif run.pending:
            self._appends.dirty.append(run)
            self._appends.wake()

    def appended(self) -> None:
        """Learn that nothing of any log is on its way: commands that waited for that may go."""
        if self._commands.units:
            self._commands.wake()

    def stalls(self, line: Line, stalled: bool) -> None:
        """Learn that a lane takes no writes, or takes them again."""
        if all(each is line or each.stalled_since is None for each in self._lines):
            self.on_stall(stalled)

    def fenced(self) -> None:
        """Learn that this node may not write: its runs are another's."""
        if self._fenced_key != self._database.node_key:
            self._fenced_key = self._database.node_key
            log.error("another node has fenced this one")
            self.on_fenced()

    def go_on(self) -> None:
        """Try at once what is held: the database has a new node key."""
        for line in self._lines:
            line.go_on()

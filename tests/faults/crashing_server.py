"""The server, made to kill itself at a chosen place: `python -m tests.faults.crashing_server serve …`.

    FAULT_SEAM  which place: a name in SEAMS
    FAULT_AT    at its how-manyth pass, from 1
    FAULT_ARM   a file: passes count from when it is there; without one, from the process's beginning
    FAULT_CLOCK a number of hours by which the wall clock jumps back and forth, at every look
    TOOL_JOURNAL a file: the server has the tools of tests.tool_server, which write their runs there

The places lie between append, commit, show and send, and between the steps of a tool call, before and after each;
SIGKILL leaves the process no time to tidy.
"""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from legato.cli.main import main
from legato.core.clock import SystemClock
from legato.http.edge import Edge
from legato.runs import approvals, execute, recover, tool_round
from legato.runs.end import EndRun
from legato.runs.start import StartRun
from legato.runs.tail import Tail
from legato.runs.tool_round import ToolRound
from legato.storage import committer, sqlite
from legato.storage.committer import Committer
from tests import tool_server

SEAMS = (
    "append",
    "begin",
    "commit-before",
    "commit-after",
    "publish-before",
    "publish-after",
    "write-before",
    "write-after",
    "end-apply-before",
    "end-apply-after",
    "end-committed-before",
    "end-committed-after",
    "finish-before",
    "start-apply-before",
    "start-apply-after",
    "start-committed-before",
    "start-committed-after",
)
TOOL_SEAMS = (
    "called-before",
    "called-after",
    "started-before",
    "started-after",
    "ran-before",
    "noted-before",
    "noted-after",
    "ran-after",
    "resulted-before",
    "resulted-after",
)
"""Of a round of tools: its calls committed, a start committed, a tool run, a result committed. `noted` lies inside the
tool, which notes its beginning and its end."""
APPROVAL_SEAMS = ("waited-before", "waited-after", "decided-before", "decided-after")
SLOW_SEAMS = ("ran-before", "noted-before", "noted-after")
"""The disk is slow here: who does not wait for what has to be written before a tool runs, is found out."""
SLOW_S = 0.03
BOOT_SEAMS = ("adopt-before", "adopt-after", "begin", "commit-before", "commit-after", "append", "publish-before")


class Fuse:
    """Kills the process at the chosen pass of the chosen place, or stops it there (SIGSTOP)."""

    def __init__(self, seam: str, at: int, arm: Path | None, *, number: signal.Signals = signal.SIGKILL) -> None:
        self._seam = seam
        self._number = number
        self.disk_s = SLOW_S if seam in SLOW_SEAMS else 0.0
        self._left = at
        self._arm = arm
        self._lock = threading.Lock()

    def passes(self, seam: str) -> None:
        """Count a pass of a place; does not return from the last one."""
        if seam != self._seam or (self._arm is not None and not self._arm.exists()):
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.burn()

    def burn(self) -> None:
        """End or stop the process here."""
        os.kill(os.getpid(), self._number)
        # The signal may be taken by another thread a moment later: nothing more may happen here.
        time.sleep(60 if self._number is signal.SIGKILL else 0.5)

    def around(self, owner: Any, method: str, seam: str, *, before: bool = True, after: bool = True) -> None:
        """Make a method of a class (or a function of a module) pass `<seam>-before` and `<seam>-after`."""
        inner: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(inner)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                self.passes(f"{seam}-before")
            value = inner(*args, **kwargs)
            if after:
                self.passes(f"{seam}-after")
            return value

        setattr(owner, method, wrapped)

    def around_async(self, owner: Any, method: str, seam: str) -> None:
        """The same for a coroutine function: after it means when it has returned."""
        inner: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(inner)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.passes(f"{seam}-before")
            value = await inner(*args, **kwargs)
            self.passes(f"{seam}-after")
            return value

        setattr(owner, method, wrapped)


def install(fuse: Fuse) -> None:
    """Put the fuse into every place of SEAMS, TOOL_SEAMS, APPROVAL_SEAMS and BOOT_SEAMS."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            alone = sql.startswith("INSERT") and not self.connection.in_transaction
            if alone:
                # A batch of deltas alone is one statement, and its own transaction.
                fuse.passes("begin")
            if sql == "COMMIT" or alone:
                fuse.passes("commit-before")
                if fuse.disk_s:
                    time.sleep(fuse.disk_s)
            cursor = super().execute(sql, *args)
            if sql == "COMMIT" or alone:
                fuse.passes("commit-after")
            elif sql == "BEGIN IMMEDIATE":
                fuse.passes("begin")
            return cursor

    class Connection(sqlite3.Connection):
        def cursor(self, *args: Any) -> Any:
            return super().cursor(Cursor)

    class Sqlite:
        """Stands for the module sqlite3 where the storage opens its connections."""

        connect = staticmethod(functools.partial(sqlite3.connect, factory=Connection))

        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

    setattr(sqlite, "sqlite3", Sqlite())  # noqa: B010
    append = Committer.append

    def append_and_pass(self: Committer, run: committer.Appending, item: Any) -> None:
        append(self, run, item)
        fuse.passes("append")

    Committer.append = append_and_pass  # type: ignore[method-assign]
    fuse.around(EndRun, "apply", "end-apply")
    fuse.around(EndRun, "committed", "end-committed")
    fuse.around(StartRun, "committed", "start-committed")
    fuse.around(Tail, "publish", "publish")
    fuse.around(Edge, "write", "write")
    fuse.around(Edge, "finish", "finish", after=False)
    fuse.around(recover, "adopt", "adopt")
    fuse.around(StartRun, "apply", "start-apply")
    fuse.around_async(execute, "log_calls", "called")
    fuse.around_async(ToolRound, "_start", "started")
    fuse.around_async(ToolRound, "_run_tool", "ran")
    fuse.around(tool_server, "note", "noted")
    fuse.around_async(ToolRound, "_finish", "resulted")
    fuse.around_async(tool_round, "wait_for_approval", "waited")
    fuse.around(approvals, "decide", "decided")


def jump(hours: float) -> None:
    """Make the wall clock jump `hours` back and forth, one way at each look."""
    now_ms = SystemClock.now_ms
    looks = 0

    def jumping_ms(self: SystemClock) -> int:
        nonlocal looks
        looks += 1
        return now_ms(self) + round((hours if looks % 3 == 0 else -hours if looks % 3 == 1 else 0.0) * 3_600_000)

    SystemClock.now_ms = jumping_ms  # type: ignore[method-assign]


def begin() -> None:
    """Be the server that the command line and the environment say."""
    if os.environ.get("TOOL_JOURNAL"):
        tool_server.install()
    if hours := os.environ.get("FAULT_CLOCK"):
        jump(float(hours))
    if seam := os.environ.get("FAULT_SEAM"):
        arm = os.environ.get("FAULT_ARM")
        install(Fuse(seam, int(os.environ.get("FAULT_AT", "1")), Path(arm) if arm else None))
    main()


if __name__ == "__main__":
    begin()

"""Random schedules of processes that share a PostgreSQL, against a pure model of what a log is.

Three processes start runs, append, crash, are held up, fence each other, take runs over, stop and end them; readers go
from one process to another in the midst of it. Everything goes through the server's own storage: the committer with
its writers, leases, takeovers and what followers read. The model knows only this: a log grows at its end, by whoever
owns its run, until it has one terminal event; and a reader is shown a prefix of it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from legato.core.event import CallStarted, LogItem, RunFinished, RunStopped
from legato.core.log import RunLog
from legato.runs.feed import extend, finish
from legato.runs.tail import Tail
from legato.storage import nodes
from legato.storage.codec import unpack_log
from legato.storage.followed import read_followed
from legato.storage.pieces import delete_pieces, read_pieces
from legato.storage.runs import Fenced, find_log, stop_run
from legato.storage.statement import Transaction
from legato.storage.turns import StartedTurn
from tests.schedule_process import EndRun, HeldTail, Process, emptying, starting
from tests.statements import execute

T = TypeVar("T")
Shown = list[tuple[int, LogItem]]

PROCESSES: Final = 3
READERS: Final = 4
process_numbers = st.integers(0, PROCESSES - 1)
run_numbers = st.integers(0, 1)
picks = st.integers(0, 5)
seldom = st.integers(0, 3).map(lambda number: number == 3)
some_texts = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5)


@dataclass
class ModelRun:
    """What a run is: events with their epochs, and whose it is."""

    row: StartedTurn
    run_id: str
    owner: int
    log: Shown = field(default_factory=list)
    stopped: bool = False
    ended: bool = False

    def check(self, shown: Shown, what: str) -> None:
        assert shown == self.log[: len(shown)], f"{what} is no prefix of the log: {shown} of {self.log}"


@dataclass
class ReaderOf:
    """A reader of a run, at one process after another."""

    run: int
    process: int = 0
    shown: Shown = field(default_factory=list)


class Schedules(RuleBasedStateMachine):
    """See the head of this file. Who makes the class sets `processes` and `loop`; they live through its examples."""

    processes: list[Process]
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[ModelRun] = []
        self.readers = [ReaderOf(run=number % 2) for number in range(READERS)]
        self.fenced: set[int] = set()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 30))

    @initialize()
    def start(self) -> None:
        for table in ("conversation", "piece", "node"):
            self.wait(self.processes[0].aside.run(emptying(table)))
        for process in self.processes:
            self.wait(process.register())
        for number in range(2):
            process = self.processes[number]
            run_id = uuid.uuid4().hex
            row = self.wait(process.committer.write(starting(run_id)))
            assert isinstance(row, StartedTurn)
            assert row.node_key == process.key
            run = ModelRun(row=row, run_id=run_id, owner=process.key, log=[(0, item) for item in row.items])
            tail = HeldTail(run_id=run_id, owner="ann", key=row.key)
            tail.publish(row.items)
            process.held[number] = tail
            self.runs.append(run)

    @precondition(lambda self: self._making())
    @rule(pick=picks, texts=some_texts, dies=seldom, reader=st.integers(0, READERS - 1), there=process_numbers)
    def append(self, pick: int, texts: list[str], dies: bool, reader: int, there: int) -> None:
        """Go on with a run, and have somebody read; perhaps die behind the commit, before anything of it is shown."""
        making = self._making()
        self._append(*making[pick % len(making)], texts, dies=dies)
        self.read(reader, there)

    def _append(self, at: int, number: int, texts: list[str], *, dies: bool) -> None:
        process, run = self.processes[at], self.runs[number]
        tail = process.held[number]
        key, before = process.key, tail.end
        tail.dead = dies
        for text in texts:
            process.committer.append(tail, text)
        self.wait(process.settle())
        if key in self.fenced:
            assert tail.end == before, "a node that was fenced has shown something"
            return
        assert run.owner == key
        run.log += [(tail.epoch, text) for text in texts]
        if dies:
            self.crash(at)
        else:
            assert tail.end == len(run.log)

    @rule(at=process_numbers)
    def crash(self, at: int) -> None:
        """Lose what is in memory, and come back as another node."""
        process = self.processes[at]
        self._expire(process)
        self.wait(process.register())

    @rule(at=process_numbers)
    def hold_up(self, at: int) -> None:
        """Let a lease run out; the process does not know, and goes on when it is let."""
        self._expire(self.processes[at])

    @rule(at=process_numbers, by=process_numbers, taken=st.booleans(), texts=some_texts)
    def replace(self, at: int, by: int, taken: bool, texts: list[str]) -> None:
        """Fence a process that is held up, perhaps take over what it made; then it wakes up, and writes."""
        self.hold_up(at)
        self.fence(by)
        if taken:
            self.adopt(by, 2)
        for number in list(self.processes[at].held):
            if (at, number) in self._making():
                self._append(at, number, texts, dies=False)

    @rule(by=process_numbers)
    def fence(self, by: int) -> None:
        """Fence whom one finds dead."""
        process = self.processes[by]

        def work(tx: Transaction) -> list[int]:
            found = nodes.find_dead(tx, process.key)
            return [dead.key for dead in found if nodes.fence(tx, dead.key) is not None]

        if process.key not in self.fenced:
            self.fenced.update(self.wait(process.aside.run(work)))

    @rule(by=process_numbers, most=st.integers(1, 2))
    def adopt(self, by: int, most: int) -> None:
        """Take over what nobody makes any more, and go on with it from what is committed."""
        process = self.processes[by]

        def work(tx: Transaction) -> list[tuple[Any, list[Any]]]:
            rows = nodes.adopt(tx, most)
            pieces = read_pieces(tx, [row.key for row in rows])
            return [(row, pieces[row.key]) for row in rows]

        for row, pieces in self.wait(process.committer.write(work)):
            (number,) = [at for at, run in enumerate(self.runs) if run.row.key == row.key]
            run = self.runs[number]
            log = RunLog()
            for _, first, epoch, items in pieces:
                assert first == len(log)
                log.extend(items, epoch)
            assert _of(log, 0) == run.log, "the adopter has not found what was committed"
            assert run.owner in self.fenced, "a run was taken from a node that lives"
            assert row.epoch > run.log[-1][0], "a takeover needs an epoch of its own"
            tail = HeldTail(run_id=run.run_id, owner="ann", key=row.key, epoch=row.epoch, log=log)
            process.held[number] = tail
            run.owner = process.key
            call = CallStarted(epoch=row.epoch, provider="p", model="m", reason="takeover")
            process.committer.append(tail, call)
            self.wait(process.settle())
            run.log.append((row.epoch, call))

    @rule(by=process_numbers, number=run_numbers)
    def stop(self, by: int, number: int) -> None:
        """Ask a run to stop, at any process."""
        run = self.runs[number]
        found = self.wait(
            self.processes[by].committer.write(lambda tx: stop_run(tx, "ann", run.run_id, "user")),
        )
        assert found == (not run.stopped and not run.ended)
        run.stopped = run.stopped or not run.ended

    @precondition(lambda self: self._making())
    @rule(pick=picks, dies=seldom)
    def end(self, pick: int, dies: bool) -> None:
        """End a run that a process makes, or believes to; perhaps die before its end is shown."""
        making = self._making()
        at, number = making[pick % len(making)]
        process, run = self.processes[at], self.runs[number]
        tail = process.held[number]
        key = process.key
        tail.dead = dies
        try:
            terminal = self.wait(process.committer.execute(EndRun(run.row, tail)))
        except Fenced:
            self.wait(process.settle())
            assert run.ended or run.owner != key or key in self.fenced, "the owner was not let end its run"
            process.held.pop(number, None)
            return
        assert run.owner == key, "a run was ended by a process that does not own it"
        assert key not in self.fenced, "a node that was fenced has ended a run"
        assert isinstance(terminal, RunStopped) == run.stopped
        run.log.append((tail.epoch, terminal))
        run.ended = True
        if dies:
            self.crash(at)

    @rule(by=process_numbers, number=run_numbers)
    def tidy(self, by: int, number: int) -> None:
        """Delete the pieces of a run that has ended."""
        if self.runs[number].ended:
            key = self.runs[number].row.key
            self.wait(self.processes[by].committer.write(lambda tx: delete_pieces(tx, [key])))

    @rule(number=st.integers(0, READERS - 1), at=process_numbers)
    def read(self, number: int, at: int) -> None:
        """Show a reader what there is, at the process that it has come to with its cursor."""
        reader = self.readers[number]
        process, run = self.processes[at], self.runs[reader.run]
        place = len(reader.shown)
        tail: Tail | None = process.held.get(reader.run)
        if tail is None or tail.end <= place:
            tail = self._follow(process, reader.run)
        assert tail.end >= place, "what was shown elsewhere is not there"
        if place:
            assert tail.log.epoch_at(place - 1) == reader.shown[-1][0], "the cursor is of another epoch here"
        reader.shown += _of(tail.log, place)
        run.check(reader.shown, "what a reader was shown")
        assert tail.closed == (run.ended and len(reader.shown) == len(run.log))

    @invariant()
    def the_database_has_the_log(self) -> None:
        """What is committed is what the model says: nothing lost, doubled, changed or out of order."""
        for run in self.runs:
            row = self.wait(self.processes[0].database.read(partial(find_log, owner="ann", run_id=run.run_id)))
            assert (row is not None) == run.ended
            if row is not None:
                log = unpack_log(row.schema, row.format, row.data)
            else:
                log = RunLog()
                read = self.wait(self.processes[0].database.read(partial(read_pieces, run_keys=[run.row.key])))
                for _, _, epoch, items in read.get(run.row.key, []):
                    log.extend(items, epoch)
            assert _of(log, 0) == run.log

    def teardown(self) -> None:
        """However it went: everybody comes to the same end, once."""
        if not self.runs:
            return
        for at in (1, 2):
            self.crash(at)
        self.hold_up(0)
        self.wait(self.processes[0].register())
        self.fence(0)
        self.adopt(0, 2)
        while self._making():
            self.end(0, False)
        for number in range(READERS):
            self.read(number, number % PROCESSES)
        for reader in self.readers:
            run = self.runs[reader.run]
            assert reader.shown == run.log
            assert [isinstance(item, RunFinished | RunStopped) for _, item in run.log].count(True) == 1

    def _making(self) -> list[tuple[int, int]]:
        """Return the places of processes, and the numbers of runs that they make, or believe to make."""
        return [
            (at, number)
            for at, process in enumerate(self.processes)
            for number, tail in sorted(process.held.items())
            if not tail.closed
        ]

    def _follow(self, process: Process, number: int) -> Tail:
        run = self.runs[number]
        key = run.row.key
        tail = process.followed.setdefault(number, Tail(run_id=run.run_id, owner="ann", key=key))
        if not tail.closed:
            found = self.wait(process.database.read(lambda tx: read_followed(tx, {key: tail.end}, {key})))
            if (whole := found.logs.get(key)) is not None:
                finish(tail, whole)
            elif pieces := found.pieces.get(key):
                extend(tail, pieces)
        assert tail.end == len(run.log), "a follower has not found all that is committed"
        return tail

    def _expire(self, process: Process) -> None:
        key = process.key
        sql = "UPDATE node SET until = clock_timestamp() - interval '1 day' WHERE key = ?"
        self.wait(process.aside.run(lambda tx: execute(tx, sql, key)))


def _of(log: RunLog, place: int) -> Shown:
    found: Shown = []
    while place < len(log):
        for item in log.slice(place, 100):
            found.append((log.epoch_at(place), item))
            place += 1
    return found

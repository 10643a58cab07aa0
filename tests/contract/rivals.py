"""Two writers on one database, of which one is halted behind each of its statements in turn while the other goes on."""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from legato.core.errors import LegatoError
from legato.storage.postgres import PostgresDatabase
from legato.storage.runs import Fenced
from legato.storage.sqlite import SqliteDatabase
from legato.storage.statement import Prepared, Transaction, Values
from legato.storage.writer import Batch, Lane, Unit, Writer
from tests.statements import query

Work = Callable[[Transaction], Any]
WAIT_S = 20.0
# On a busy machine a halt may last.
_PATIENCE = Prepared(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


class Halt:
    """Where a writer is halted: behind its statement of this number, in its first try."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached = threading.Event()
        self.go = threading.Event()

    def step(self, count: int) -> None:
        if count == self.at and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(WAIT_S), "nobody lets it go on"


class Halting(Transaction):
    """A transaction that is halted."""

    database = "postgresql"

    def __init__(self, tx: Transaction, halt: Halt | None, faults: list[psycopg.Error]) -> None:
        super().__init__()
        self.node_key = tx.node_key
        self._tx = tx
        self._halt = halt
        self._faults = faults
        self._count = 0

    def _do(self, order: Callable[..., Any], statement: Prepared, *args: Any, **values: Any) -> Any:
        try:
            found = order(statement, *args, **values)
        except psycopg.Error as error:
            self._faults.append(error)
            raise
        finally:
            self.wrote = self._tx.wrote
        self._count += 1
        if self._halt is not None:
            self._halt.step(self._count)
        return found

    def run(self, statement: Prepared, **values: Any) -> int:
        return self._do(self._tx.run, statement, **values)  # type: ignore[no-any-return]

    def insert(self, statement: Prepared, **values: Any) -> int:
        return self._do(self._tx.insert, statement, **values)  # type: ignore[no-any-return]

    def many(self, statement: Prepared, rows: Sequence[Values]) -> None:
        for row in rows:
            self._do(self._tx.many, statement, [row])

    def one(self, statement: Prepared, **values: Any) -> Any:
        return self._do(self._tx.one, statement, **values)

    def all(self, statement: Prepared, **values: Any) -> list[Any]:
        return self._do(self._tx.all, statement, **values)  # type: ignore[no-any-return]

    def tuples(self, statement: Prepared, **values: Any) -> list[tuple[Any, ...]]:
        return self._do(self._tx.tuples, statement, **values)  # type: ignore[no-any-return]


class Trial:
    """One meeting of two commands.

    Attributes:
        id: Of this meeting alone: what it works on is named by it.
        waited: Which of the two, 0 or 1, had to wait for the other.
    """

    def __init__(self, number: int, meet: Callable[[tuple[Work, Work]], tuple[Any, Any, int | None]]) -> None:
        self.id = f"c{number}"
        self.waited: int | None = None
        self._meet = meet

    def meet(self, one: Work, two: Work) -> tuple[Any, Any]:
        """Run both; return what each gave: its value, or the error with which it refused."""
        first, second, self.waited = self._meet((one, two))
        return first, second


class Rivals(ABC):
    """Two writers, and a third hand that sets up and looks."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    @abstractmethod
    def do(self, work: Work) -> Any:
        """Run something on its own."""

    @abstractmethod
    def trials(self) -> Iterator[Trial]:
        """Give a trial for each way in which the two can meet, in either order."""

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.do(lambda tx: query(tx, sql, *parameters))  # type: ignore[no-any-return]

    @abstractmethod
    def close(self) -> None: ...


class SqliteRivals(Rivals):
    """SQLite has one writer: the two come one after the other."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._database = SqliteDatabase(folder / "legato.db", durability="process")
        self._database.open()
        self._writer = self._database.writer(Lane.COMMAND)

    def do(self, work: Work) -> Any:
        return _value(_write(self._writer, work, None))

    def trials(self) -> Iterator[Trial]:
        yield Trial(next(self._numbers), lambda works: (self._try(works[0]), self._try(works[1]), None))
        yield Trial(next(self._numbers), lambda works: (*(self._try(works[1]), self._try(works[0]))[::-1], None))

    def _try(self, work: Work) -> Any:
        return _outcome(_write(self._writer, work, None))

    def close(self) -> None:
        self._database.close()


class PostgresRivals(Rivals):
    """Two nodes on one PostgreSQL database.

    Attributes:
        faults: What PostgreSQL refused a statement for.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._databases = [PostgresDatabase(url) for _ in range(3)]
        self._databases[0].open()
        for name, database in zip(("one", "two", "third"), self._databases, strict=True):
            database.application_name = f"legato:{name}"
        self._writers = [database.writer(Lane.COMMAND) for database in self._databases]
        self._pool = ThreadPoolExecutor(2)
        self._watch = psycopg.connect(url, autocommit=True)
        self.faults: list[psycopg.Error] = []

    def do(self, work: Work) -> Any:
        return _value(_write(self._writers[2], work, None))

    def trials(self) -> Iterator[Trial]:
        self.faults.clear()
        for first in (0, 1):
            for at in itertools.count(1):
                halt = Halt(at)
                yield Trial(next(self._numbers), partial(self._meet, halt, first))
                if not halt.reached.is_set():
                    break
        # They would wait a second for each other, and one of them would have to begin again.
        assert not [fault for fault in self.faults if isinstance(fault, psycopg.errors.DeadlockDetected)]

    def _meet(self, halt: Halt, first: int, works: tuple[Work, Work]) -> tuple[Any, Any, int | None]:
        latter = 1 - first
        tries: dict[int, Future[Unit]] = {first: self._start(first, works[first], halt)}
        self._until(lambda: halt.reached.is_set() or tries[first].done())
        tries[latter] = self._start(latter, works[latter], None)
        name = self._databases[latter].application_name
        self._until(lambda: tries[latter].done() or self._waits(name))
        waited = None if tries[latter].done() else latter
        halt.go.set()
        return _outcome(tries[0].result(WAIT_S)), _outcome(tries[1].result(WAIT_S)), waited

    def _start(self, place: int, work: Work, halt: Halt | None) -> Future[Unit]:
        def halting(tx: Transaction) -> Any:
            tx.run(_PATIENCE)
            return work(Halting(tx, halt, self.faults))

        return self._pool.submit(_write, self._writers[place], halting, self._databases[place].node_key)

    @contextmanager
    def as_nodes(self, *keys: int) -> Iterator[None]:
        """Let the two write as the nodes with these keys."""
        for database, key in zip(self._databases, keys, strict=False):
            database.node_key = key
        yield
        for database in self._databases:
            database.node_key = None

    def _until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < until, "the two stand still"
            time.sleep(0.0005)

    def _waits(self, name: str) -> bool:
        """Whether a writer waits for a lock of the other."""
        found = self._watch.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND cardinality(pg_blocking_pids(pid)) > 0",
            [name],
        )
        return found.fetchone() is not None

    def close(self) -> None:
        self._pool.shutdown()
        self._watch.close()
        for database in self._databases:
            database.close()


def refusals(found: tuple[Any, Any]) -> list[type[Exception]]:
    """Return the kinds of errors among what two gave."""
    return [type(each) for each in found if isinstance(each, Exception)]


def _write(writer: Writer, work: Work, node_key: int | None) -> Unit:
    unit = Unit(apply=work)
    writer.write(Batch(units=[unit], node_key=node_key))
    return unit


def _outcome(unit: Unit) -> Any:
    if unit.error is None:
        return unit.value
    if isinstance(unit.error, LegatoError | Fenced):
        return unit.error
    raise unit.error


def _value(unit: Unit) -> Any:
    if unit.error is not None:
        raise unit.error
    return unit.value

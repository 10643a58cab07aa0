"""What storage promises above any driver: transactions are whole, refusals are free, and bad data harms only itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from legato.core.errors import Conflict, LegatoError, StorageUnavailable
from legato.core.event import LogItem
from legato.storage.committer import Command, Committer
from legato.storage.database import Database
from legato.storage.outbox import OutboxEvent, delete_events, first_events, put_event
from legato.storage.sqlite import SqliteDatabase
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import outbox
from tests.contract.storage_backends import PostgresStorage, Storage
from tests.live_log import Log
from tests.statements import execute, query

_DELETE = Prepared(outbox.delete().returning(outbox.c.event_id))


@pytest.fixture
async def database(storage: Storage) -> AsyncIterator[Database]:
    found = storage.database()
    found.open()
    yield found
    found.close()


@pytest.fixture
async def committer(database: Database) -> AsyncIterator[Committer]:
    found = Committer(database)
    yield found
    await found.close()


def put(tx: Transaction, name: str) -> None:
    put_event(tx, OutboxEvent(id=name, owner="o", topic="t", payload=name, trace_id=None, at_ms=0))


def names(tx: Transaction) -> list[str]:
    return [event.id for _, event in first_events(tx, 100)]


async def test_a_refusal_before_the_first_write_leaves_the_others_of_its_batch(
    database: Database, committer: Committer
) -> None:
    """Looking, and changes of no row, are no writes."""

    def refuse(tx: Transaction) -> None:
        assert names(tx) == ["a"]
        execute(tx, "UPDATE outbox SET topic = 'x' WHERE id = 999")
        raise Conflict("no")

    done = await asyncio.gather(
        committer.write(lambda tx: put(tx, "a")),
        committer.write(refuse),
        committer.write(lambda tx: put(tx, "b")),
        return_exceptions=True,
    )
    assert [type(each) for each in done] == [type(None), Conflict, type(None)]
    assert await database.read(names) == ["a", "b"]


@pytest.mark.parametrize("statement", ["insert", "run", "many", "one", "all"])
async def test_what_was_written_before_a_refusal_is_undone(
    database: Database, committer: Committer, statement: str
) -> None:
    """By whatever way it was written; the others of the batch are committed all the same."""
    await committer.write(lambda tx: put(tx, "here"))

    def refuse(tx: Transaction) -> None:
        before = tx.wrote
        match statement:
            case "insert":
                put(tx, "never")
            case "run":
                execute(tx, "DELETE FROM outbox")
            case "many":
                delete_events(tx, first_events(tx, 100))
            case "one":
                assert tx.one(_DELETE).event_id == "here"
            case _:
                assert [row.event_id for row in tx.all(_DELETE)] == ["here", "other"]
        assert tx.wrote > before
        raise Conflict("too late")

    done = await asyncio.gather(
        committer.write(lambda tx: put(tx, "other")), committer.write(refuse), return_exceptions=True
    )
    assert [type(each) for each in done] == [type(None), Conflict]
    assert await database.read(names) == ["here", "other"]


async def test_a_piece_that_cannot_be_written_fails_alone(committer: Committer) -> None:
    """The other runs of its batch, and the commands, are committed."""
    good, bad = Log(1), Log(2)
    committer.append(good, "a")
    committer.append(bad, "\ud800")
    await committer.write(lambda tx: put(tx, "a"))
    await committer.flush()
    assert (good.shown, good.failed) == (["a"], [])
    assert (bad.shown, len(bad.failed)) == ([], 1)


class EndLog(Command[None]):
    """Ends a log, as the end of a run does."""

    def __init__(self, log: Log) -> None:
        self.log = self._log = log
        self._last: list[LogItem] = []
        self.whole: list[LogItem] = []

    def prepare(self) -> None:
        self._last, self._log.pending = [*self._log.pending, "end"], []
        self.whole = [*self._log.shown, *self._last]

    def apply(self, tx: Transaction) -> None:
        put(tx, "end")

    def committed(self, value: None) -> None:
        self._log.publish(self._last)


async def test_a_command_that_ends_a_log_takes_all_of_it_along(
    storage: Storage, database: Database, committer: Committer
) -> None:
    """What is on its way when it comes, and what is appended until it goes."""
    log = Log(1)
    end = EndLog(log)
    await committer.write(lambda tx: put(tx, "a"))
    with away(storage, database):
        committer.append(log, "a")
        await asyncio.sleep(0.05)
        committer.append(log, "b")
        ending = asyncio.create_task(committer.execute(end))
        await asyncio.sleep(0.05)
        committer.append(log, "c")
    await ending
    assert end.whole == log.shown == ["a", "b", "c", "end"]


async def test_a_flush_waits_for_what_was_appended(committer: Committer) -> None:
    """And not for more."""
    log = Log(1)
    committer.append(log, "a")
    await committer.flush()
    assert log.shown == ["a"]
    await committer.flush(wait_s=1)


@pytest.mark.slow
async def test_a_flush_ends_while_the_database_is_away(
    storage: Storage, database: Database, committer: Committer
) -> None:
    """With an error; what waits is written when the database is back, once."""
    log = Log(1)
    await committer.write(lambda tx: put(tx, "a"))
    with away(storage, database):
        committer.append(log, "a")
        with pytest.raises(StorageUnavailable):
            await committer.flush(wait_s=0.1)
        assert log.shown == []
        assert committer.stalled_s > 0
    await committer.flush()
    assert (log.shown, committer.stalled_s) == (["a"], 0)


def test_a_transaction_of_a_command_is_whole(storage: Storage) -> None:
    """What fails in between leaves nothing, and who reads cannot write."""
    database = storage.database()
    database.transact(lambda tx: put(tx, "a"), writes=True)

    def fail(tx: Transaction) -> None:
        put(tx, "never")
        raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        database.transact(fail, writes=True)
    assert database.transact(names, writes=False) == ["a"]
    assert database.transact(lambda tx: query(tx, "SELECT count(*) FROM outbox"), writes=False) == [(1,)]
    with pytest.raises(LegatoError):
        database.transact(lambda tx: put(tx, "b"), writes=False)
    assert database.transact(names, writes=False) == ["a"]
    database.close()


def test_a_command_makes_the_database(tmp_path: Path) -> None:
    """Looking for its revision does not; a server may start behind it."""
    database = SqliteDatabase(tmp_path / "data" / "legato.db")
    assert database.revision() is None
    assert not (tmp_path / "data").exists()
    database.transact(lambda tx: put(tx, "a"), writes=True)
    server = SqliteDatabase(tmp_path / "data" / "legato.db")
    server.open()
    server.close()
    database.close()


@contextmanager
def away(storage: Storage, database: Database) -> Iterator[None]:
    """Have the database take no writes."""
    if isinstance(storage, PostgresStorage):
        with storage.connect() as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE piece")
            yield
        return
    with closing(sqlite3.connect(database.where, isolation_level=None)) as other_file:
        other_file.execute("BEGIN EXCLUSIVE")
        yield

"""Connections to PostgreSQL: few, killed, silent, in each other's way; and text that it cannot keep."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from legato.core.errors import InvalidValue, StorageUnavailable
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_transaction import PostgresTransaction
from legato.storage.statement import Transaction
from legato.storage.writer import Batch, Lane, Unit
from tests.postgres import Postgres, PostgresServer
from tests.postgres_world import NODE, names, node_database, put, write
from tests.statements import execute, query


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with node_database(postgres) as found:
        yield found


async def test_reads_wait_for_a_free_connection_and_heal(postgres: Postgres, url: str) -> None:
    """More of them than there are connections all pass; those whose connection was killed are told to try again."""
    database = PostgresDatabase(url, pool=2)
    database.application_name = "legato:one"

    def slow(tx: Transaction) -> Any:
        return query(tx, "SELECT 1 FROM pg_sleep(0.05)")

    assert await asyncio.gather(*(database.read(slow) for _ in range(10))) == [[(1,)]] * 10
    while postgres.end_sessions(database.application_name):
        pass
    # They were lost while nobody used them: nobody need know.
    assert await asyncio.gather(*(database.read(slow) for _ in range(10))) == [[(1,)]] * 10
    reading = asyncio.create_task(database.read(lambda tx: query(tx, "SELECT 1 FROM pg_sleep(5)")))
    while not await asyncio.to_thread(postgres.end_sessions, database.application_name):
        pass
    with pytest.raises(StorageUnavailable):
        await reading
    assert await database.read(slow) == [(1,)]
    database.close()


def test_a_transaction_that_stands_still_is_ended_by_the_server(url: str) -> None:
    """So that a stopped process keeps no locks; what it was doing is done anew when it goes on."""
    database = PostgresDatabase(url, lease_s=0.4)
    writer = database.writer(Lane.COMMAND)
    times = []

    def stand(tx: Transaction) -> str:
        found = put(tx, "a")
        times.append(time.monotonic())
        if len(times) == 1:
            time.sleep(0.5)
        return found

    unit = Unit(apply=stand)
    assert write(database, Batch(units=[unit], node_key=NODE), writer) == len(times) > 1
    assert unit.value == "a"
    assert database.transact(names, writes=False) == ["a"]
    database.close()


def test_a_server_that_says_nothing_is_given_up(postgres_server: PostgresServer) -> None:
    """One that has stopped, and keeps its connections open."""
    database = PostgresDatabase(postgres_server.url)
    session = database.connect(statement_s=0.1)
    postgres_server.pause()
    try:
        began_s = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            session.ask(b"SELECT 1")
        assert session.lost
        assert time.monotonic() - began_s < 5
    finally:
        postgres_server.resume()
    database.close()


def test_a_transaction_that_meets_another_is_run_again(url: str) -> None:
    """Of two that would each undo the other's, both come through; one that never does is refused in words."""
    database = PostgresDatabase(url)
    writer = database.writer(Lane.COMMAND)
    rivals: Iterator[str] = iter(("a", "b"))

    def meet(tx: Transaction) -> str:
        name = next(rivals, "c")
        if name != "c":
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("INSERT INTO schema_floor (id, least_revision) VALUES (9, 'x') ON CONFLICT DO NOTHING")
            execute(tx, "INSERT INTO schema_floor (id, least_revision) VALUES (9, 'y')")
        return name

    unit = Unit(apply=meet)
    assert write(database, Batch(units=[unit], node_key=NODE), writer) == 1
    assert (unit.value, unit.error) == ("c", None)

    def lock(tx: Transaction) -> None:
        query(tx, "SELECT 1 FROM search_place FOR UPDATE NOWAIT")

    with psycopg.connect(url) as other:
        other.execute("SELECT FROM search_place FOR UPDATE")
        unit = Unit(apply=lock)
        write(database, Batch(units=[unit], node_key=NODE), writer)
        assert isinstance(unit.error, StorageUnavailable)
    database.close()


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_postgresql_cannot_keep_is_refused_before_it_is_sent(url: str, value: str) -> None:
    """Nobody has such an id: looking for it finds nothing; keeping it is refused, and harms nobody else."""
    database = PostgresDatabase(url)

    def find(tx: Transaction) -> list[tuple[Any, ...]]:
        return query(tx, "SELECT id FROM outbox WHERE event_id = ?", value)

    assert database.transact(find, writes=False) == []
    with pytest.raises(InvalidValue):
        database.transact(partial(put, name=value), writes=True)
    database.close()


def test_what_does_not_fit_the_socket_is_sent_all_the_same(url: str) -> None:
    """Over a real network a socket takes some kilobytes at once; the server answers nothing before it has all."""
    database = PostgresDatabase(url)
    session = database.connect(statement_s=3)
    with socket.socket(fileno=os.dup(session.descriptor)) as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert query(PostgresTransaction(session), "SELECT length(CAST(? AS bytea)) AS length", b"x" * 500_000) == [
        (500_000,)
    ]
    database.close()


def test_an_error_says_nothing_of_the_row(url: str) -> None:
    """What it would repeat of it is what people have written; the server's own words and state are kept."""
    database = PostgresDatabase(url)
    tx = PostgresTransaction(database.connect())
    execute(tx, "CREATE TEMPORARY TABLE note (said text, text text NOT NULL)")
    with pytest.raises(psycopg.errors.NotNullViolation, match='null value in column "text"') as refused:
        execute(tx, "INSERT INTO note VALUES (?, NULL)", "private words")
    assert "private words" not in str(refused.value)
    assert refused.value.sqlstate == "23502"
    database.close()

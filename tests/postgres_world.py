"""A database with one node in it, and commands of two statements, for tests of what breaks between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from legato.storage.outbox import OutboxEvent, first_events, put_event
from legato.storage.postgres import PostgresDatabase
from legato.storage.statement import Transaction
from legato.storage.writer import Batch
from tests.postgres import Postgres

NODE = 7
ADD_NODE = """
INSERT INTO node (key, id, host, pid, executor_id, lease_ms, beat_at, until, version)
VALUES (7, 'n', 'h', 1, 'e', 5000, now(), now() + interval '1 h', '1')
"""


@contextmanager
def migrated(postgres: Postgres) -> Iterator[str]:
    """Make a database of the newest schema, until the end of the block."""
    postgres.make_template("legato", lambda url: PostgresDatabase(url).migrate())
    found = postgres.make_database("legato")
    yield found
    postgres.drop_database(found)


@contextmanager
def node_database(postgres: Postgres) -> Iterator[str]:
    """Make one with a node."""
    with migrated(postgres) as found:
        with postgres.connect(found) as connection:
            connection.execute(ADD_NODE)
        yield found


def put(tx: Transaction, name: str) -> str:
    """Two statements, so that there is something in between."""
    found = [event.id for _, event in first_events(tx, 1000)]
    put_event(tx, OutboxEvent(id=name, owner="o", topic="t", payload="p", trace_id=None, at_ms=len(found)))
    return name


def names(tx: Transaction) -> list[str]:
    return [event.id for _, event in first_events(tx, 100_000)]


def write(database: PostgresDatabase, batch: Batch[Any], writer: Any) -> int:
    """Write a batch as the committer does, again and again until the database has taken it; return how often."""
    for attempt in range(1, 50):
        try:
            writer.write(batch)
            return attempt
        except psycopg.Error as error:
            if not writer.is_away(error):
                raise
    raise AssertionError("the database never took it")

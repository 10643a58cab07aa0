"""The databases that contracts are run over: each test begins with an empty one of the newest schema."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from legato.storage.database import Database
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_tables import postgres_metadata
from legato.storage.root_keys import parse_root_keys
from legato.storage.schema import metadata
from legato.storage.sealing import Sealing
from legato.storage.sqlite import SqliteDatabase
from tests.new_database import new_database, put_database
from tests.postgres import Postgres

KEYS = "k1:" + base64.b64encode(bytes(range(32))).decode()
KEPT = ("schema_floor", "search_place", "audit_head")
"""Tables whose only row is made with the schema."""
FIRST = (
    # The audit log's triggers are not asked.
    "SET session_replication_role = replica; UPDATE audit_head SET seq = 0, at_ms = 0, hash = decode(repeat('00', 32), "
    "'hex'), cut_seq = 0, cut_hash = decode(repeat('00', 32), 'hex')"
)


class Storage(ABC):
    """One database of one kind, to be opened any number of times, one after another."""

    @abstractmethod
    def database(self) -> Database:
        """Return the database, not yet opened."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the settings of a node that uses it."""


class SqliteStorage(Storage):
    """A file in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        put_database(folder)

    def database(self) -> SqliteDatabase:
        return SqliteDatabase(self._folder / "legato.db", durability="process")

    def settings(self) -> dict[str, Any]:
        return {"data_dir": self._folder}


class SealedSqliteStorage(SqliteStorage):
    """The same with encryption on."""

    KEYS = KEYS

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "legato.db").write_bytes(_empty_sealed())

    def database(self) -> SqliteDatabase:
        database = super().database()
        database.sealing = sealing()
        return database

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"encryption_keys": KEYS}


class PostgresStorage(Storage):
    """A database that tests use one after another; what they leave is deleted."""

    kept: tuple[str, ...] = KEPT

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.url = postgres.make_database(self.template(postgres))

    def template(self, postgres: Postgres) -> str:
        """Make a database to begin with, and return its name."""
        postgres.make_template("legato", lambda url: PostgresDatabase(url).migrate())
        return "legato"

    def database(self) -> PostgresDatabase:
        return PostgresDatabase(self.url, pool=2)

    def settings(self) -> dict[str, Any]:
        return {"database_url": self.url, "database_pool": 2}

    def connect(self) -> psycopg.Connection:
        """Open a connection of the test's own; each statement is a transaction."""
        return self._postgres.connect(self.url)

    def empty(self) -> None:
        """Delete all rows."""
        tables = [*postgres_metadata.sorted_tables, *metadata.sorted_tables][::-1]
        orders = [f'DELETE FROM "{table.name}"' for table in tables if table.name not in self.kept]
        with self.connect() as connection:
            connection.pgconn.exec_("; ".join([FIRST, *orders]).encode())


class SealedPostgresStorage(PostgresStorage):
    """The same with encryption on."""

    kept = (*KEPT, "encryption_root")

    def template(self, postgres: Postgres) -> str:
        def take(url: str) -> None:
            database = PostgresDatabase(url)
            database.sealing = sealing()
            database.migrate()
            database.encrypt()

        postgres.make_template("legato sealed", take)
        return "legato sealed"

    def database(self) -> PostgresDatabase:
        database = super().database()
        database.sealing = sealing()
        return database

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"encryption_keys": KEYS}


def sealing() -> Sealing:
    """Return what a process with the keys has."""
    roots = parse_root_keys(KEYS)
    assert roots is not None
    return Sealing(roots)


@cache
def _empty_sealed() -> bytes:
    """A file that was taken by its keys, as a server takes it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "legato.db"
        path.write_bytes(new_database())
        database = SqliteDatabase(path)
        database.sealing = sealing()
        database.open()
        database.close()
        return path.read_bytes()

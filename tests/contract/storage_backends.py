"""The databases that contracts are run over: each test begins with an empty one of the newest schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from legato.storage.database import Database
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_tables import postgres_metadata
from legato.storage.schema import metadata
from legato.storage.sqlite import SqliteDatabase
from tests.postgres import Postgres

KEPT = ("schema_floor", "search_place")
"""Tables whose only row is made with the schema."""


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
        (folder / "legato.db").write_bytes(_empty_sqlite())

    def database(self) -> SqliteDatabase:
        return SqliteDatabase(self._folder / "legato.db", durability="process")

    def settings(self) -> dict[str, Any]:
        return {"data_dir": self._folder}


class PostgresStorage(Storage):
    """A database that tests use one after another; what they leave is deleted."""

    def __init__(self, postgres: Postgres) -> None:
        postgres.make_template("legato", lambda url: PostgresDatabase(url).migrate())
        self._postgres = postgres
        self.url = postgres.make_database("legato")

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
        orders = [f'DELETE FROM "{table.name}"' for table in tables if table.name not in KEPT]
        with self.connect() as connection:
            connection.pgconn.exec_("; ".join(orders).encode())


@cache
def _empty_sqlite() -> bytes:
    """A migrated file, made once: hundreds of tests begin with one."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "legato.db"
        SqliteDatabase(path).migrate()
        return path.read_bytes()

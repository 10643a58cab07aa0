"""The database file, opened beside a server that may be running."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from legato.core.errors import ConfigurationError

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.database import Database
    from legato.storage.statement import Transaction

T = TypeVar("T")


def settings_of(data_dir: Path | None, database_url: str | None) -> Settings:
    """Return the settings; a `database_url` that was given wins over a configured one, and so does a `data_dir`."""
    from legato.settings import load_settings

    return load_settings(data_dir=data_dir, database_url=database_url)


def revision(path: Path) -> str | None:
    """Return the schema's revision, or None where there is no database yet.

    Raises:
        sqlite3.Error: It cannot be read, or is no database.
    """
    if not path.exists():
        return None
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
        return found[0] if found else None
    finally:
        connection.close()


def write(settings: Settings, change: Callable[[Transaction], T]) -> T:
    """Run `change` in one transaction, making the database if there is none.

    Raises:
        ConfigurationError: The database cannot be written.
    """
    return _run(settings, change, writes=True)


def read(settings: Settings, query: Callable[[Transaction], T]) -> T | None:
    """Run `query` in one transaction; None where there is no database yet.

    Raises:
        ConfigurationError: The database cannot be read.
    """
    if not settings.database_path.exists():
        return None
    return _run(settings, query, writes=False)


def _run(settings: Settings, work: Callable[[Transaction], T], *, writes: bool) -> T:
    from legato.storage.database import Database
    from legato.storage.statement import Transaction

    path = settings.database_path
    database = Database(path, durability=settings.durability)
    try:
        _bring_up(database)
        connection = database.connect(writes=writes)
        try:
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            result = work(Transaction(connection))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"the database {path} cannot be {'written' if writes else 'read'}: {error}"
            ) from error
        return result
    finally:
        database.close()


def _bring_up(database: Database) -> None:
    """Migrate where that is due; never below a running server of another version."""
    from legato.storage.migrate import HEAD, migrate

    try:
        due = revision(database.path) != HEAD
    except sqlite3.Error as error:
        raise ConfigurationError(f"the database {database.path} cannot be used: {error}") from error
    if due:
        database.lock()
        migrate(database.path)

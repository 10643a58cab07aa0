"""The database, opened beside a server that may be running."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.statement import Transaction

T = TypeVar("T")

DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded database, `data` by default.")]
DatabaseUrl = Annotated[
    str | None, typer.Option(help="`sqlite:///path/to/legato.db` or `postgresql://user@host/name`, instead.")
]


def settings_of(data_dir: Path | None, database_url: str | None) -> Settings:
    """Return the settings; a `database_url` that was given wins over a configured one, and so does a `data_dir`."""
    from legato.settings import load_settings

    return load_settings(data_dir=data_dir, database_url=database_url)


def write(settings: Settings, change: Callable[[Transaction], T]) -> T:
    """Run `change` in one transaction, making the database if there is none.

    Raises:
        ConfigurationError: The database cannot be written.
    """
    from legato.storage.database import open_database

    database = open_database(settings)
    try:
        return database.transact(change, writes=True)
    finally:
        database.close()


def write_if_there(settings: Settings, change: Callable[[Transaction], T]) -> T | None:
    """Run `change` in one transaction; None where there is no database yet.

    Raises:
        ConfigurationError: The database cannot be written.
    """
    return _if_there(settings, change, writes=True)


def read(settings: Settings, query: Callable[[Transaction], T]) -> T | None:
    """Run `query` in one transaction; None where there is no database yet.

    Raises:
        ConfigurationError: The database cannot be read.
    """
    return _if_there(settings, query, writes=False)


def _if_there(settings: Settings, work: Callable[[Transaction], T], *, writes: bool) -> T | None:
    from legato.storage.database import open_database

    database = open_database(settings)
    try:
        return None if database.revision() is None else database.transact(work, writes=writes)
    finally:
        database.close()

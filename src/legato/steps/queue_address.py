"""Where a server's queue is."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from legato.settings import Settings

QueueAddress: TypeAlias = Path | str
"""A file, which one server uses; or postgresql://… of a database, which any number of processes share."""


def queue_path(database: Path) -> Path:
    """Return the queue's file beside a server's database file: queue.db beside legato.db."""
    return database.with_name("queue.db" if database.name == "legato.db" else f"{database.stem}-queue.db")


def queue_address(settings: Settings) -> QueueAddress:
    """Return where the queue of a server is: beside its SQLite file, or in its PostgreSQL database."""
    if settings.uses_postgres:
        return settings.database_url or ""
    return queue_path(settings.database_path)


def where_of(address: QueueAddress) -> str:
    """Return where it is, in words for people; never with a password."""
    if isinstance(address, Path):
        return str(address)
    parts = urlsplit(address)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"

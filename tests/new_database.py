"""An empty SQLite database of this version: to migrate one takes a test longer than what it is about."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from legato.storage.sqlite import SqliteDatabase


def put_database(folder: Path) -> None:
    """Put one into a folder, where there is none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "legato.db"
    if not path.exists():
        path.write_bytes(new_database())


@cache
def new_database() -> bytes:
    """Return its bytes, made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "legato.db"
        SqliteDatabase(path).migrate()
        return path.read_bytes()

"""What SQLite leaves of rows in the unused part of its pages is found, and gone after a scrub."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from legato.storage import residue
from legato.storage.sqlite import SqliteDatabase
from tests.new_database import put_database

WORD = b"wyvernquartz"


def plant(path: Path) -> None:
    """Put a word where SQLite leaves copies of rows that it has moved: between a page's cells and its first row."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    for start in range(size, len(data), size):
        if data[start] == 0x0D:
            cells = int.from_bytes(data[start + 3 : start + 5], "big")
            gap = start + 8 + 2 * cells
            content = int.from_bytes(data[start + 5 : start + 7], "big") or 65_536
            if start + content - gap > 100:
                data[gap + 20 : gap + 20 + len(WORD)] = WORD
                path.write_bytes(data)
                return
    raise AssertionError("no page has room")


def has_word(path: Path) -> bool:
    return WORD in path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the newest schema, checkpointed, with rows."""
    found = tmp_path / "legato.db"
    put_database(tmp_path)
    with closing(sqlite3.connect(found)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
    return found


async def test_a_scrub_leaves_nothing_in_unused_parts(path: Path) -> None:
    """Beside a server that has the database open; what is in it stays."""
    plant(path)
    assert residue.has_residue(path)
    database = SqliteDatabase(path)
    database.open()
    tables = await database.read(lambda tx: tx.wrote)
    assert await database.scrub()
    database.close()
    assert tables == 0
    assert not has_word(path)
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert found.execute("SELECT seq FROM audit_head").fetchone() == (0,)


async def test_a_large_file_is_not_written_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make writes wait for seconds."""
    plant(path)
    monkeypatch.setattr(residue, "MOST_BYTES", 1000)
    database = SqliteDatabase(path)
    database.open()
    assert await database.scrub()
    database.close()
    assert has_word(path)


async def test_a_scrub_beside_a_long_read_holds_no_writer_up(path: Path) -> None:
    """It leaves what it would have to wait for, says so, and does it once the reader has gone."""
    database = SqliteDatabase(path)
    database.open()
    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer,
        closing(sqlite3.connect(path)) as reader,
    ):
        writer.execute("UPDATE conversation SET title = 'one'")
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM conversation").fetchone()
        writer.execute("UPDATE conversation SET title = 'two'")
        scrubbing = asyncio.create_task(database.scrub())
        longest_s = 0.0
        while not scrubbing.done():
            began_s = time.monotonic()
            await asyncio.to_thread(writer.execute, "UPDATE conversation SET title = 'three'")
            longest_s = max(longest_s, time.monotonic() - began_s)
            await asyncio.sleep(0.005)
        assert not await scrubbing
        # SQLite's own patience is five seconds.
        assert longest_s < 2
        reader.rollback()
    assert await database.scrub()
    database.close()

"""`kill -9` in the middle of updates: what was acknowledged is kept, and no update is there in part."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from legato.storage.sqlite import SqliteDatabase
from tests.cli_process import ended, environment

ROOT = Path(__file__).parents[2]
KILLS = 8
WRITERS = 20
MOST_ACKNOWLEDGED = 600


def count_until_killed(database: Path, acknowledged: int) -> dict[int, int]:
    """Run the writers, kill them after so many updates; return the last count that each was told."""
    command = [sys.executable, "-m", "tests.integration.state_writer", str(database), str(WRITERS)]
    told: dict[int, int] = {}
    with ended(subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        for _ in range(acknowledged):
            line = process.stdout.readline()
            assert line, "it ended by itself"
            take(told, line)
        process.kill()
        # What the pipe still holds was acknowledged too; a last line may be cut.
        for line in process.stdout:
            if line.endswith(b"\n"):
                take(told, line)
    return told


def take(told: dict[int, int], line: bytes) -> None:
    writer, own = map(int, line.split())
    assert own == told.get(writer, own - 1) + 1, "a count came twice, or was left out"
    told[writer] = own


def kept(database: Path) -> tuple[dict[str, object], int]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        text, version = connection.execute("SELECT value, version FROM state WHERE key = 'k'").fetchone()
    value: dict[str, object] = msgspec.json.decode(text)
    return value, version


@pytest.mark.slow
def test_acknowledged_increments_outlive_kills(tmp_path: Path) -> None:
    """Every count that was told is there, at most the one under way beside it, and all parts of each or none."""
    database = tmp_path / "legato.db"
    SqliteDatabase(database).migrate()
    chance = random.Random(3)
    before: dict[int, int] = dict.fromkeys(range(WRITERS), 0)
    for _ in range(KILLS):
        told = count_until_killed(database, chance.randrange(1, MOST_ACKNOWLEDGED))
        value, version = kept(database)
        by = msgspec.convert(value["by"], dict[int, int], strict=False)
        for writer in range(WRITERS):
            least = told.get(writer, before[writer])
            assert least <= by.get(writer, 0) <= least + 1, f"writer {writer} was told {least}"
        assert value["total"] == sum(by.values()) == version
        before = {writer: by.get(writer, 0) for writer in range(WRITERS)}

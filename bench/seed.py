"""Fill a data directory with conversations, as if they had been held.

The turn-start figures compare a conversation of one turn with one of 10,000, and a database of
few conversations with one of 1,000,000. Of the bench this file alone knows the server's schema:
a column that it does not fill is an error that names it.

By hand: `python -m bench.seed DATA_DIR --prefix c- --conversations 1000 --turns 2`.
"""

import argparse
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from bench.toolchain import BenchError
from legato.core.principal import LOCAL
from legato.storage.tables import conversation, message, run

BATCH = 20_000
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A set of like conversations, owned by the principal of LEGATO_AUTH=none.

    Their ids are `<prefix>0` to `<prefix><conversations - 1>`. Each holds `turns` >= 1 finished
    turns: a short user message, a run that ended and the assistant's message, so that the next
    post is its turn number `turns + 1`. The runs' packed logs are left out.
    """

    prefix: str
    conversations: int
    turns: int


def seed(data_dir: Path, seeds: Sequence[Seed]) -> None:
    """Write the seeds into the database of a data directory that no server uses at present.

    The database is there: a server has run once on the directory and has been stopped.

    Raises:
        BenchError: There is no database, or its schema is not the one that is known here.
    """
    connection = sqlite3.connect(find_database(data_dir), isolation_level=None)
    try:
        for pragma in ("synchronous=OFF", "cache_size=-400000", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        for one in seeds:
            rows = _rows(connection, one)
            while batch := list(islice(rows, BATCH)):
                connection.execute("BEGIN IMMEDIATE")
                for table in (conversation, message, run):
                    _insert(connection, table, [row for of, row in batch if of is table])
                connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise BenchError(f"the database cannot be seeded: {error}") from error
    finally:
        connection.close()


def find_database(data_dir: Path) -> Path:
    """Return the SQLite file of a data directory."""
    for path in sorted(data_dir.glob("*.db")):
        with path.open("rb") as file:
            if file.read(16) == b"SQLite format 3\0":
                return path
    raise BenchError(f"there is no database in {data_dir}: a server has to run on it once")


def _rows(connection: sqlite3.Connection, one: Seed) -> Iterator[tuple[Table, Row]]:
    """Make the rows of a seed, in the order of their making; keys are given out here."""
    (key,) = connection.execute("SELECT coalesce(max(key), 0) FROM conversation").fetchone()
    now_ms = int(time.time() * 1000) - one.conversations * one.turns
    for number in range(one.conversations):
        key += 1
        # Ids that sort by time, as the server's own do; the prefix keeps them apart.
        stem = f"{one.prefix}{key:08x}"
        leaf = f"m-{stem}-{one.turns:06x}b"
        branch = f"m-{stem}-{1:06x}a"
        yield (
            conversation,
            {
                "key": key,
                "owner": LOCAL.id,
                "id": f"{one.prefix}{number}",
                "title": f"Question 1 of conversation {number}",
                "title_source": "words",
                "leaf_id": leaf,
                "leaf_branch": branch,
                "leaf_depth": 2 * one.turns,
                "next_turn": one.turns + 1,
                "message_count": 2 * one.turns,
                "created_at_ms": now_ms,
                "last_message_at_ms": now_ms + one.turns,
            },
        )
        for turn in range(1, one.turns + 1):
            now_ms += 1
            yield from _turn(key, stem, branch, turn, now_ms)


def _turn(key: int, stem: str, branch: str, turn: int, now_ms: int) -> Iterator[tuple[Table, Row]]:
    asked, replied = f"m-{stem}-{turn:06x}a", f"m-{stem}-{turn:06x}b"
    before = f"m-{stem}-{turn - 1:06x}b" if turn > 1 else None
    shared = {
        "conversation_key": key,
        "owner": LOCAL.id,
        "branch": branch,
        "run_id": f"r-{stem}-{turn:06x}",
        "session_id": f"s-{stem}",
        "status": "complete",
        "created_at_ms": now_ms,
    }
    question = _parts(f"Question {turn}: what comes after {turn}?")
    # About 180 tokens, as replies in chats have; the question has a dozen.
    answer = _parts(f"After {turn} comes {turn + 1}, and after that {turn + 2}. " * 18)
    user = {"id": asked, "parent_id": before, "depth": 2 * turn - 1, "role": "user"}
    yield message, {**shared, **user, "parts": question}
    reply = {"id": replied, "parent_id": asked, "depth": 2 * turn, "role": "assistant"}
    usage = '{"input_tokens":12,"output_tokens":14}'
    yield message, {**shared, **reply, "parts": answer, "model": "mock-model", "usage": usage}
    yield (
        run,
        {
            "id": shared["run_id"],
            "conversation_key": key,
            "owner": LOCAL.id,
            "session_id": shared["session_id"],
            "turn": turn,
            "state": "finished",
            "epoch": 0,
            "takeovers": 0,
            "user_message_id": asked,
            "message_id": replied,
            "asks": 1,
            "request": "{}",
            "model": "mock-model",
            "calls": 1,
            "usage": usage,
            "finish_reason": "stop",
            "created_at_ms": now_ms,
            "started_at_ms": now_ms,
            "first_token_at_ms": now_ms,
            "ended_at_ms": now_ms,
        },
    )


def _insert(connection: sqlite3.Connection, table: Table, rows: Iterable[Row]) -> None:
    # What has a default of the database's own is left to it.
    names = [column.name for column in table.columns if column.server_default is None]
    needed = {
        column.name
        for column in table.columns
        if not column.nullable and not column.primary_key and column.server_default is None
    }
    values = []
    for row in rows:
        if row.keys() - set(names) or needed - row.keys():
            odd = ", ".join(sorted((row.keys() - set(names)) | (needed - row.keys())))
            raise BenchError(f"bench/seed.py does not know the table {table.name}: {odd}")
        values.append(tuple(row.get(name) for name in names))
    marks = ", ".join("?" * len(names))
    connection.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", values)


def _parts(text: str) -> str:
    return json.dumps([{"type": "text", "text": text}], separators=(",", ":"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--prefix", default="c-")
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    wanted = Seed(prefix=given.prefix, conversations=given.conversations, turns=given.turns)
    seed(given.data_dir, [wanted])

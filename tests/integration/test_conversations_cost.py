"""What a turn costs the database does not depend on how much is in it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

import legato.storage
from legato.http.api import create_api
from legato.runs.node import Node
from legato.storage.sqlite import SqliteDatabase, SqliteTransaction
from legato.storage.statement import Prepared, Transaction
from tests.asgi import call
from tests.statements import execute, is_of_postgres, query

ALLOWED_SCANS = {
    "budgets._LIST": "the budgets that were set, which are a few",
    "runs._SELECT_SEGMENTS": "recovery reads every segment that is left, which is those of unfinished runs",
    "keys._LIST": "an operator lists all keys",
    "accounts._LIST": "an operator lists all accounts",
    "nodes._UNOWNED_ROWS": "an index that holds the running runs alone, and the nodes, which are a few",
    "probe._ONE": "one row, whichever comes first: whether the database answers",
    "probe._WAITING": "what the queue has not got yet, counted for /metrics: empty but for a second's events",
    "erasures._LIST": "what is to be erased: empty but for some seconds behind a deletion",
    "encryption._ROOTS": "a root key a row: one or two",
    "encryption._CURRENT": "a root key a row: one or two",
    "encryption._CURRENT_KEPT": "a root key a row: one or two",
    "encryption._RECORD": "a root key a row: one or two",
    "encryption._RECORD_KEPT": "a root key a row: one or two",
    "encryption._FORMER_ROOTS": "a root key a row: one or two",
    "encryption._NO_CURRENT": "a root key a row: one or two",
    "encryption._SOME_STATE": "one row, whichever comes first: whether there is any",
    "seal_old._PLAIN_SEGMENT": "an operator's command, of what is left of unfinished runs",
    "seal_old._DELETE_SEGMENTS": "an operator's command, of what is left of unfinished runs",
    "seal_old._PLAIN_LOG": "an operator's command, once, when all else is sealed",
    "seal_old._DECISION": "one row, whichever comes first: whether there is any",
    "search_index._DUE": "what is to be indexed again: titles, and replies that were being made when passed",
}
"""Statements that may read a table whole, and why."""
INDEXED_SCANS = {
    "nodes._QUEUED_ROWS": "a partial index that holds the waiting runs alone",
    "reviews._COUNT_OPEN": "a partial index that holds the texts that wait alone",
    "keys._ORIGINS": "a partial index that holds the publishable keys alone",
}
"""Statements that read an index from its beginning: it holds only what they are about."""
SORTED = {
    "budgets._MOST_SPENT": "the subjects of one budget in one period, when an administrator looks",
    "messages._PAGE": "the messages of one page, which are found from the leaf to the root",
    "sealed_copies._TO_COPY": "the messages of one path, which are found from the leaf to the root",
    "personal._COUNTS": "replies that were counted in one millisecond",
}
"""Statements that sort what they have found, and why."""


def statements() -> Iterator[tuple[str, str, Prepared]]:
    """The storage room's statements that SQLite has, by module and name."""
    for info in pkgutil.iter_modules(legato.storage.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"legato.storage.{info.name}")
        for name, value in vars(module).items():
            if isinstance(value, dict) and name.startswith("_PAGES"):
                yield from ((info.name, f"{name}[{key}]", each) for key, each in value.items())
            if not isinstance(value, Prepared) or is_of_postgres(value):
                continue
            if (info.name, name) not in {
                # Imported from where they are made.
                ("sqlite", "INSERT_SEGMENT"),
                ("conversations", "INSERT_CONVERSATION"),
                ("transfer", "INSERT_CONVERSATION"),
                ("transfer", "INSERT_MESSAGE"),
            }:
                yield info.name, name, value


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """An empty database, which plans as a database without statistics does."""
    path: Path = tmp_path_factory.mktemp("plans") / "legato.db"
    SqliteDatabase(path).migrate()
    found = sqlite3.connect(path)
    yield found
    found.close()


def plan_of(connection: sqlite3.Connection, sql: str) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]


@pytest.mark.parametrize(
    ("name", "statement"),
    [pytest.param(f"{module}.{name}", statement, id=f"{module}.{name}") for module, name, statement in statements()],
)
def test_no_plan_scans_a_table(connection: sqlite3.Connection, name: str, statement: Prepared) -> None:
    """Every statement finds its rows by an index; the exceptions are listed with their reasons."""
    plan = plan_of(connection, statement.sqlite.sql)
    scans = [
        line
        for line in plan
        if line.startswith("SCAN")
        and line not in ("SCAN path", "SCAN walk", "SCAN replies")
        and "CONSTANT ROW" not in line
        # The full-text index, by the words that are looked for.
        and not re.fullmatch(r"SCAN search_index VIRTUAL TABLE INDEX \d+:M1.*", line)
    ]
    if name in ALLOWED_SCANS:
        return
    if name in INDEXED_SCANS:
        assert all("USING" in line for line in scans), plan
        return
    assert not scans, plan
    assert not any("TEMP B-TREE" in line and "ORDER BY" in line for line in plan) or name in SORTED, plan


def test_every_exception_is_of_a_statement() -> None:
    """One that was renamed or moved leaves no hole behind."""
    known = {f"{module}.{name}" for module, name, _ in statements()}
    assert {*ALLOWED_SCANS, *INDEXED_SCANS, *SORTED} <= known


INDEXES = {
    "retention._IDLE": "ix_conversation_ages (last_message_at_ms>? AND last_message_at_ms<?)",
    "retention._OWN_IDLE": "ix_conversation_own_ages (own_idle_h=? AND last_message_at_ms>? AND last_message_at_ms<?)",
    "retention._NEXT_HOURS": "ix_conversation_own_ages (own_idle_h>?)",
    "retention._IDLE_OF_OWNER": "(owner=? AND last_message_at_ms>? AND last_message_at_ms<?)",
    "message_log._LOGGED": "ix_message_owner_created (owner=? AND created_at_ms>? AND created_at_ms<?)",
    "message_log._LOGGED_OF_SESSION": "ix_message_session_created (owner=? AND session_id=? AND created_at_ms>? AND "
    "created_at_ms<?)",
    "message_log._PLACES": "(conversation_key=?)",
    "conversations._PAGES[(False, None)]": "ix_conversation_owner_last (owner=? AND last_message_at_ms<?)",
    "conversations._PAGES[(False, False)]": "ix_conversation_owner_last (owner=? AND last_message_at_ms<?)",
    "conversations._PAGES[(False, True)]": "ix_conversation_pinned (owner=? AND last_message_at_ms<?)",
    "conversations._PAGES[(True, None)]": "ix_conversation_archived (owner=? AND last_message_at_ms<?)",
    "conversations._PAGES[(True, False)]": "ix_conversation_archived (owner=? AND last_message_at_ms<?)",
    "search._FIND": "SCAN search_index VIRTUAL TABLE INDEX",
    "search_index._NEXT": "SEARCH message USING INTEGER PRIMARY KEY (rowid>?)",
    "search_index._DELETE": "(conversation_key=? AND message_key=?)",
    "transfer._KEYS": "(conversation_key=?)",
    "conversations._IDS": "COVERING INDEX sqlite_autoindex_conversation_1 (owner=? AND id>?)",
    "conversations._DELETE_STATE": "(owner=? AND group=?)",
}


@pytest.mark.parametrize(("name", "index"), INDEXES.items(), ids=list(INDEXES))
def test_a_range_of_one_index_is_read(connection: sqlite3.Connection, name: str, index: str) -> None:
    """Not only no scan: the range that was meant, in its order."""
    (statement,) = [each for module, known, each in statements() if f"{module}.{known}" == name]
    plan = plan_of(connection, statement.sqlite.sql)
    assert index in plan[0], plan
    assert not any("TEMP" in line for line in plan), plan


def test_what_belongs_to_a_conversation_is_found_by_an_index(connection: sqlite3.Connection) -> None:
    """Every foreign key has one that begins with it, so that a delete reads no table whole."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    keys = [(table, key[3]) for table in tables for key in connection.execute(f"PRAGMA foreign_key_list({table})")]
    assert {table for table, _ in keys} == {
        "data_key",
        "message",
        "run",
        "run_log",
        "reply_count",
        "search_entry",
        "search_due",
        "decision",
        "review",
    }
    for table, column in keys:
        (line,) = plan_of(connection, f"DELETE FROM {table} WHERE {column} = ?")
        assert line.startswith("SEARCH"), (table, column, line)


OF_TASKS = {
    statement.sqlite.sql
    for module, name, statement in statements()
    if (module == "search_index" and name not in ("_INSERT_DUE", "_STEP_BACK"))
    or (module, name)
    in {
        ("budgets", "_LIST"),
        ("erasures", "_LIST"),
        ("erasures", "_PRINCIPALS"),
        ("runs", "_FIRST_SEGMENT"),
        ("runs", "_PRUNE"),
    }
}
"""What tasks of their own do every second: the search index, and looks at budgets, erasures and old segments."""


class Statements:
    """Counts what goes through Transaction, but for what no request waits for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        for name in ("run", "insert", "one", "all"):
            monkeypatch.setattr(SqliteTransaction, name, self._counting(getattr(SqliteTransaction, name)))

    def _counting(self, original: Any) -> Any:
        def counting(tx: Transaction, statement: Prepared, **values: Any) -> Any:
            if statement.sqlite.sql not in OF_TASKS:
                self.made.append(statement.sqlite.sql)
            return original(tx, statement, **values)

        return counting

    async def of_turn(self, node: Node, api: ASGIApp, conversation_id: str) -> list[str]:
        """Which statements a turn takes."""
        await node.committer.flush()
        self.made.clear()
        answer = await call(
            api, "POST", "/chat/stream", {"message": "script: tokens=3", "conversationId": conversation_id}
        )
        assert b"event: complete" in answer.body
        return sorted(self.made)


@pytest.fixture(autouse=True)
def nothing_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the eraser does behind a deletion, and once a minute, is no request's."""
    monkeypatch.setattr("legato.runs.erase.GATHER_S", 3600)


async def test_a_turn_takes_the_same_statements_in_a_long_conversation(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ones, one by one, behind 1 turn and behind 500, and among many other conversations."""
    api = create_api(node)
    statements = Statements(monkeypatch)
    for name in ("short", "long"):
        await call(api, "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": name})
    few = await statements.of_turn(node, api, "short")
    for _ in range(60):
        await call(api, "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": "long"})
        await call(api, "POST", "/conversations")
    # The rest by copying: a fork of a fork is as long as both.
    await node.committer.write(lambda tx: grow(tx, 500))
    many = await statements.of_turn(node, api, "long")
    assert (await call(api, "GET", "/conversations/long")).json["messageCount"] >= 1000
    assert many == few
    assert len(few) < 25


STATEMENTS = [
    ("POST", "/conversations", {"id": "d"}, 3),
    ("GET", "/conversations", None, 1),
    ("GET", "/conversations/c", None, 1),
    ("PATCH", "/conversations/c", {"title": "T", "pinned": True}, 4),
    ("PATCH", "/conversations/c", {"title": None}, 6),
    ("GET", "/conversations/c/messages", None, 3),
    ("GET", "/conversations/c/messages?cursor=9", None, 4),
    ("PUT", "/messages/{reply}/feedback", {"thumb": "up"}, 4),
    ("POST", "/conversations/c/fork", {"id": "f"}, 7),
    ("GET", "/runs/{run}", None, 1),
    ("DELETE", "/conversations/c", None, 11),
]


@pytest.mark.parametrize(("method", "path", "body", "most"), STATEMENTS, ids=lambda each: str(each)[:40])
async def test_a_request_takes_few_statements(
    node: Node, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: object, most: int
) -> None:
    """So many and no more, however the services are cut."""
    api = create_api(node)
    await call(api, "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": "c"})
    reply = (await call(api, "GET", "/conversations/c/messages")).json["messages"][1]
    statements = Statements(monkeypatch)
    answer = await call(api, method, path.format(reply=reply["id"], run=reply["runId"]), body)
    assert answer.status < 300
    made = [sql for sql in statements.made if "segment" not in sql]
    assert len(made) <= most, made


def grow(tx: Transaction, turns: int) -> None:
    """Lengthen the conversation `long` to so many turns, as rows."""
    ((key, branch, depth, leaf),) = query(
        tx, "SELECT key, leaf_branch, leaf_depth, leaf_id FROM conversation WHERE id = 'long'"
    )
    for turn in range(depth // 2, turns):
        for at, role in ((1, "user"), (2, "assistant")):
            name = f"m-{turn}-{at}"
            execute(
                tx,
                "INSERT INTO message (id, conversation_key, owner, parent_id, branch, depth, role, parts, status,"
                " created_at_ms) VALUES (?, ?, 'local', ?, ?, ?, ?, ?, 'complete', 0)",
                *(name, key, leaf, branch, 2 * turn + at, role, '[{"type":"text","text":"x"}]'),
            )
            leaf = name
    execute(
        tx,
        "UPDATE conversation SET leaf_id = ?, leaf_depth = ?, next_turn = ?, message_count = ? WHERE key = ?",
        *(leaf, 2 * turns, turns + 1, 2 * turns, key),
    )

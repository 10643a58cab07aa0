"""Figures of many replies: percentiles, pages, and what their statements read."""

from __future__ import annotations

import math
import runpy
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ClauseElement
from sqlalchemy.dialects import postgresql

from legato.storage import reply_counts, reply_figures, session_figures
from legato.storage.reply_figures import Span, find_figures
from legato.storage.session_figures import list_sessions
from legato.storage.sqlite import SqliteDatabase, SqliteTransaction
from legato.storage.statement import Prepared

EVER: Final = 2**53


class Rows:
    """Replies of one owner, as rows."""

    def __init__(self, path: Path) -> None:
        SqliteDatabase(path).migrate()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(
            "INSERT INTO conversation (key, owner, id, title, title_source, leaf_depth, next_turn, message_count,"
            " created_at_ms, last_message_at_ms) VALUES (1, 'ann', 'c', '', 'words', 0, 1, 0, 0, 0)"
        )
        self.tx = SqliteTransaction(self.connection.cursor())

    def fill(self, rows: list[tuple[str, str | None, int, int | None, int]]) -> None:
        """Put replies of (session, model, response time, time to first token, end)."""
        self.connection.execute("DELETE FROM reply_count")
        self.connection.executemany(
            "INSERT INTO reply_count (run_id, conversation_key, owner, session_id, model, outcome, estimated,"
            " response_time_ms, first_token_ms, at_ms) VALUES (?, 1, 'ann', ?, ?, 'completed', 0, ?, ?, ?)",
            [(f"r-{place}", *row) for place, row in enumerate(rows)],
        )

    def report(self, by: Any, **asked: Any) -> list[dict[str, Any]]:
        span = Span(owner="ann", since_ms=0, until_ms=EVER, session_id=None, model=None)
        found = find_figures(self.tx, span, by, **({"after": None, "limit": 1000} | asked))
        return [each.as_json() for each in found]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    """A database without replies."""
    found = Rows(tmp_path_factory.mktemp("rows") / "legato.db")
    yield found
    found.connection.close()


def nearest_rank(values: list[int], percent: int) -> int:
    """As textbooks define it."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("a", "b")), st.integers(0, 50) | st.integers(0, 10**9), st.none() | st.integers(0, 99)
        ),
        min_size=1,
        max_size=60,
    )
)
@settings(deadline=None, max_examples=150)
def test_percentiles_are_nearest_ranks(rows: Rows, replies: list[tuple[str, int, int | None]]) -> None:
    """With ties, with unknown values, in every group."""
    rows.fill([(session, None, spent, first, 0) for session, spent, first in replies])
    for figures in rows.report("session"):
        times = [spent for session, spent, _ in replies if session == figures["key"]]
        firsts = [first for session, _, first in replies if session == figures["key"] and first is not None]
        for name, values in (("responseTimeMs", times), ("firstTokenMs", firsts)):
            assert figures[name] == {
                "mean": sum(values) / len(values) if values else None,
                "p50": nearest_rank(values, 50) if values else None,
                "p95": nearest_rank(values, 95) if values else None,
            }


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 39, 40, 41, 100, 101, 1000, 1020])
def test_percentiles_are_exact_at_the_edges(rows: Rows, count: int) -> None:
    """Where a share of the values is exactly 50 or 95 in 100."""
    rows.fill([("s", None, value, None, 0) for value in range(1, count + 1)])
    (figures,) = rows.report("none")
    assert figures["responseTimeMs"]["p50"] == math.ceil(count / 2)
    assert figures["responseTimeMs"]["p95"] == -(-count * 95 // 100)


@pytest.mark.parametrize("by", ["day", "model", "session"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_a_report_are_the_report(rows: Rows, by: str, limit: int) -> None:
    """Every group once, in order, with its percentiles."""
    rows.fill([(f"s-{n % 7}", f"model-{n % 5}", n, n // 2, 86_400_000 * (n % 11 + 5 * n % 3)) for n in range(200)])
    whole, paged, after = rows.report(by), [], None
    while page := rows.report(by, after=after, limit=limit):
        assert len(page) <= limit
        paged += page
        after = page[-1]["key"]
    assert paged == whole
    assert len(whole) > 4


def test_replies_without_a_model_are_a_group(rows: Rows) -> None:
    """One that was stopped before any model was called has none; its group comes first."""
    rows.fill([("s", None, 1, 1, 0), ("s", "a", 2, 2, 0)])
    assert [each["key"] for each in rows.report("model")] == [None, "a"]
    assert [each["key"] for each in rows.report("model", after="")] == ["a"]


def test_sessions_are_listed_in_order(rows: Rows) -> None:
    """Each once, from behind any id, with no more than are wanted."""
    names = sorted(f"s{n}" for n in range(150))
    rows.fill([(name, None, 1, 1, n) for name in names for n in range(3)])
    assert list(list_sessions(rows.tx, "ann", "", 1000)) == names
    assert list(list_sessions(rows.tx, "ann", "s17", 3)) == names[names.index("s17") + 1 :][:3]
    assert list_sessions(rows.tx, "ann", "zzz", 3) == list_sessions(rows.tx, "ben", "", 3) == ()


def of_modules(kind: Any) -> list[Any]:
    """What of a kind the three modules have, as parameters."""
    return [
        pytest.param(value, id=f"{module.__name__.rpartition('.')[2]}.{name}")
        for module in (reply_counts, reply_figures, session_figures)
        for name, value in vars(module).items()
        if isinstance(value, kind)
    ]


@pytest.mark.parametrize("statement", of_modules(Prepared))
def test_every_statement_reads_a_range(rows: Rows, statement: Prepared) -> None:
    """All tables are searched by an index; scanned is only what was found so."""
    plan = [
        row[3]
        for row in rows.connection.execute(
            f"EXPLAIN QUERY PLAN {statement.sqlite.sql}", [None] * statement.sqlite.sql.count("?")
        )
    ]
    assert not [
        line for line in plan if line.startswith("SCAN") and line.split()[1] in ("reply_count", "run", "message")
    ]
    searched = [line for line in plan if line.startswith("SEARCH")]
    assert searched
    for line in searched:
        assert "USING" in line, plan
        if line.startswith("SEARCH reply_count"):
            assert "(owner=?" in line, plan


def test_every_statement_compiles_for_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """One schema and one set of statements for both databases."""
    made: list[ClauseElement] = []
    prepare = Prepared.__init__

    def keep(self: Prepared, statement: Any) -> None:
        made.append(statement)
        prepare(self, statement)

    monkeypatch.setattr(Prepared, "__init__", keep)
    for module in (reply_counts, reply_figures, session_figures):
        runpy.run_path(str(module.__file__))
    assert len(made) == len(of_modules(Prepared))
    for statement in made:
        assert str(statement.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]

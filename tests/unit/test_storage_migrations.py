"""The migrations make the schema that storage.tables describes, from any revision on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from legato.core.errors import ConfigurationError
from legato.storage.migrate import HEAD
from legato.storage.schema import metadata
from legato.storage.sqlite import SqliteDatabase
from tests.migrations import REVISIONS, SCRIPTS, differences, former_tables, upgrade_to, use


def test_there_is_one_line_of_revisions_and_its_end_is_known() -> None:
    """A start compares with HEAD alone whether a migration is due."""
    assert SCRIPTS.get_heads() == [HEAD]
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_a_database_of_any_revision_is_brought_to_the_tables(tmp_path: Path, revision: str | None) -> None:
    """Tables, columns, their types and defaults, indexes and constraints; what was in it stays."""
    path = tmp_path / "legato.db"
    if revision is not None:
        upgrade_to(f"sqlite:///{path}", revision)
        with closing(sqlite3.connect(path)) as database:
            database.execute(
                "INSERT INTO api_key (id, owner, role, name, hash, created_at_ms) "
                "VALUES ('1', 'ann', 'admin', 'ann', x'00', 1)"
            )
            database.commit()
    SqliteDatabase(path).migrate()
    SqliteDatabase(path).migrate()
    assert differences(f"sqlite:///{path}", metadata) == []
    with closing(sqlite3.connect(path)) as database:
        kept = database.execute("SELECT owner FROM api_key").fetchall()
        index = database.execute("SELECT count(*) FROM search_index WHERE search_index MATCH 'x'").fetchall()
    assert index == [(0,)]
    assert kept == ([] if revision is None else [("ann",)])


@pytest.mark.parametrize("revision", REVISIONS[4:-1])
def test_what_knows_an_older_schema_can_use_the_newest(tmp_path: Path, revision: str) -> None:
    """Each revision from the floor on: all that it knew can be written, read, changed and deleted as before."""
    upgrade_to(f"sqlite:///{tmp_path}/old.db", revision)
    old = former_tables(f"sqlite:///{tmp_path}/old.db")
    path = tmp_path / "legato.db"
    SqliteDatabase(path).migrate()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT least_revision FROM schema_floor").fetchall() == [(REVISIONS[4],)]
    engine = create_engine(f"sqlite:///{path}")
    use(engine, old)
    engine.dispose()


@pytest.mark.parametrize(("floor", "refused"), [(HEAD, False), ("9000", True), (None, True)])
def test_a_newer_database_is_used_as_far_as_it_allows(tmp_path: Path, floor: str | None, refused: bool) -> None:
    """A newer version says from which revision on its schema can be used; who knows less is told to be upgraded."""
    path = tmp_path / "legato.db"
    SqliteDatabase(path).migrate()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9001'")
        database.execute(
            "UPDATE schema_floor SET least_revision = ?" if floor else "DROP TABLE schema_floor",
            (floor,)[: bool(floor)],
        )
        database.commit()
    if refused:
        with pytest.raises(ConfigurationError, match="of revision 9001, which this version does not know"):
            SqliteDatabase(path).migrate()
    else:
        SqliteDatabase(path).migrate()
        assert SqliteDatabase(path).revision() == "9001"

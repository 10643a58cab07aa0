"""The migrations make the schema that storage.tables describes, from any revision on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

import legato.storage
from legato.storage.migrate import HEAD
from legato.storage.sqlite import SqliteDatabase
from legato.storage.tables import metadata

SCRIPTS = ScriptDirectory(str(Path(legato.storage.__file__).parent / "migrations"))
REVISIONS = [each.revision for each in SCRIPTS.walk_revisions()][::-1]


def upgrade_to(path: Path, revision: str) -> None:
    """Bring a database to a revision that is not the newest."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", SCRIPTS.dir)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


def is_of_the_schema(name: str | None, kind: str, parents: object) -> bool:
    """Whether storage.tables describes it: not the full-text index, which each database has its own of."""
    return not (kind == "table" and name is not None and name.startswith("search_index"))


def test_there_is_one_line_of_revisions_and_its_end_is_known() -> None:
    """A start compares with HEAD alone whether a migration is due."""
    assert SCRIPTS.get_heads() == [HEAD]
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_a_database_of_any_revision_is_brought_to_the_tables(tmp_path: Path, revision: str | None) -> None:
    """Tables, columns, their types and defaults, indexes and constraints; what was in it stays."""
    path = tmp_path / "legato.db"
    if revision is not None:
        upgrade_to(path, revision)
        with closing(sqlite3.connect(path)) as database:
            database.execute(
                "INSERT INTO api_key (id, owner, role, name, hash, created_at_ms) "
                "VALUES ('1', 'ann', 'admin', 'ann', x'00', 1)"
            )
            database.commit()
    SqliteDatabase(path).migrate()
    SqliteDatabase(path).migrate()
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": is_of_the_schema}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        for table in metadata.tables.values():
            assert inspect(connection).get_pk_constraint(table.name)["constrained_columns"] == [
                column.name for column in table.primary_key
            ]
        kept = connection.exec_driver_sql("SELECT owner FROM api_key").all()
        index = connection.exec_driver_sql("SELECT count(*) FROM search_index WHERE search_index MATCH 'x'").all()
    engine.dispose()
    assert index == [(0,)]
    assert kept == ([] if revision is None else [("ann",)])

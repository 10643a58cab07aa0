"""For tests of migrations: databases of older revisions, and what tells two schemas apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    ARRAY,
    Boolean,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    create_engine,
    inspect,
)

import legato.storage

SCRIPTS = ScriptDirectory(str(Path(legato.storage.__file__).parent / "migrations"))
REVISIONS = [each.revision for each in SCRIPTS.walk_revisions()][::-1]
"""The oldest first."""
OF_ONE_DATABASE = ("search_index", "ix_search_entry_words", "alembic_version")
"""What storage.tables does not describe: each database has a full-text index of its own."""


def engine_of(url: str) -> Engine:
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))


def upgrade_to(url: str, revision: str) -> None:
    """Bring a database to a revision that is not the newest."""
    engine = engine_of(url)
    config = Config()
    config.set_main_option("script_location", SCRIPTS.dir)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


def differences(url: str, *described: MetaData) -> Sequence[Any]:
    """Return what a database has otherwise than it is described: tables, columns, types, defaults, keys, indexes."""
    engine = engine_of(url)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": _is_shared}
        context = MigrationContext.configure(connection, opts=options)
        found = list(compare_metadata(context, cast(MetaData, described)))
        for table in (table for each in described for table in each.tables.values()):
            keys = inspect(connection).get_pk_constraint(table.name)["constrained_columns"]
            if keys != [column.name for column in table.primary_key]:
                found.append((table.name, keys))
    engine.dispose()
    return found


def _is_shared(name: str | None, kind: str, parents: object) -> bool:
    return not (name is not None and name.startswith(OF_ONE_DATABASE))


GUARDED = ("audit_",)
"""Tables whose triggers refuse what is done to all others; they have tests of their own."""


def former_tables(url: str) -> list[Table]:
    """Return the tables of a database as they are there, those that others need first."""
    engine = engine_of(url)
    found = MetaData()
    found.reflect(engine, only=lambda name, _: not name.startswith((*OF_ONE_DATABASE, *GUARDED)))
    engine.dispose()
    return found.sorted_tables


def use(engine: Engine, tables: Sequence[Table]) -> None:
    """Write, read, change and delete a row of each table with all its columns."""
    rows = {table: {column.name: _value(column.type) for column in table.columns} for table in tables}
    with engine.begin() as connection:
        for table, row in rows.items():
            connection.execute(table.insert(), row)
        for table, row in rows.items():
            (key, *_) = table.primary_key
            found = connection.execute(table.select().where(key == row[key.name])).mappings()
            assert [dict(each) for each in found] == [row]
            assert connection.execute(table.update().where(key == row[key.name]).values(row)).rowcount == 1
        for table, row in reversed(rows.items()):
            (key, *_) = table.primary_key
            assert connection.execute(table.delete().where(key == row[key.name])).rowcount == 1


def _value(kind: Any) -> Any:
    """Return a value of a column's type: the same each time, so that what refers to a row finds it."""
    match kind:
        case Boolean():
            return True
        # Of search_place there is one row already, with 1.
        case Integer():
            return 2
        case Float():
            return 2.0
        case LargeBinary():
            return b"x"
        case DateTime():
            return datetime(2026, 1, 2, tzinfo=UTC if kind.timezone else None)
        case ARRAY():
            return [_value(kind.item_type)]
        case _:
            return "x"

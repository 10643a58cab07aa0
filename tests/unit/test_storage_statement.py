"""Statements compile for both databases, and each database's form says the same."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import bindparam, select

from legato.storage.schema import metadata
from legato.storage.statement import Prepared
from legato.storage.tables import run
from tests.statements import all_statements, is_of_postgres

ALL = all_statements()
STATEMENTS = {name: each for name, each in ALL.items() if not is_of_postgres(each)}
"""Those that both databases run."""
OWN_KEYS = {
    table.name: column.name for table in metadata.sorted_tables if (column := table.autoincrement_column) is not None
}
"""Tables whose keys the database counts."""


@pytest.mark.parametrize(("name", "statement"), STATEMENTS.items(), ids=list(STATEMENTS))
def test_a_statement_compiles_for_both_databases(name: str, statement: Prepared) -> None:
    """Each wants the same parameters; PostgreSQL numbers them, once each."""
    assert statement.sqlite.sql.count("?") == len(statement.sqlite.names)
    # Constants may differ: one of the databases has them in the text.
    given = set(statement.sqlite.names) - statement.sqlite.constants.keys()
    assert given == set(statement.postgres.names) - statement.postgres.constants.keys()
    assert len(set(statement.postgres.names)) == len(statement.postgres.names)
    numbers = {int(number) for number in re.findall(r"\$(\d+)", statement.postgres.sql)}
    assert numbers == set(range(1, len(statement.postgres.names) + 1))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, each in STATEMENTS.items()
        if re.match(r"INSERT [^;]* (DEFAULT )?VALUES\b", each.sqlite.sql, re.DOTALL)
    ],
)
def test_an_insert_returns_the_key_that_is_counted(name: str) -> None:
    """On PostgreSQL, where no cursor knows it; of a row whose key is given, nothing is."""
    statement = STATEMENTS[name]
    table = statement.postgres.sql.split()[2]
    key = OWN_KEYS.get(table)
    counted = key is not None and key not in statement.postgres.names
    assert statement.postgres.sql.endswith(f" RETURNING {table}.{key}") is counted


def test_names_in_the_database_are_unique() -> None:
    """What one connection prepares under a name is never another statement."""
    names = [each.postgres.name for each in ALL.values()]
    assert len(set(names)) == len(names) > 100


def test_a_missing_parameter_is_an_error() -> None:
    """It is named, and not taken for null."""
    statement = Prepared(select(run.c.key).where(run.c.id == bindparam("id"), run.c.owner == bindparam("owner")))
    with pytest.raises(KeyError, match="owner"):
        statement.sqlite.pick({"id": "r-1"})

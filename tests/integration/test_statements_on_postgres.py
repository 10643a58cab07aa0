"""PostgreSQL takes the statements that SQLite runs: the schema is one, and so is what is asked of it."""

from __future__ import annotations

from psycopg.postgres import types
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from legato.storage.migrate import upgrade
from legato.storage.statement import Prepared
from tests.postgres import Postgres
from tests.statements import all_statements

OF_SQLITE = {
    "search._FIND": "looks in the FTS5 table, of which PostgreSQL has none",
    "search_index._MERGE": "orders the FTS5 table to tidy up",
    "search_index._STRUCTURE": "looks how many parts the FTS5 table has",
}
"""Statements that only SQLite has, and why."""
TYPES = {"bool", "int2", "int4", "int8", "float8", "text", "varchar", "bytea"}
"""Parameters and results that storage code may have: no decimals or times, which would come back as objects."""


def test_postgresql_prepares_every_statement(postgres: Postgres, postgres_url: str) -> None:
    """With parameters of plain types, in the order in which they are named; the exceptions are listed."""
    upgrade(postgres_url, where="a test's database")
    refused = {}
    with postgres.connect(postgres_url) as connection:
        for name, statement in all_statements().items():
            if fault := _fault(connection.pgconn, statement):
                refused[name] = fault
    assert refused.keys() == OF_SQLITE.keys(), refused


def _fault(pgconn: PGconn, statement: Prepared) -> str:
    compiled = statement.postgres
    prepared = pgconn.prepare(compiled.name.encode(), compiled.sql.encode())
    if prepared.status != ExecStatus.COMMAND_OK:
        return prepared.error_message.decode()
    found = pgconn.describe_prepared(compiled.name.encode())
    if found.nparams != len(compiled.names):
        return f"{found.nparams} parameters, {len(compiled.names)} are named"
    kinds = [found.param_type(place) for place in range(found.nparams)]
    kinds += [found.ftype(place) for place in range(found.nfields)]
    # An array is known by the type of what it holds.
    strange = {types[kind].name for kind in kinds} - TYPES
    return f"types {strange}" if strange else ""

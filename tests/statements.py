"""Statements for tests: those of the storage room, all of them, and SQL that no part of the server has."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.exc import UnsupportedCompilationError
from sqlalchemy.sql.util import find_tables

import legato.storage
from legato.storage.postgres_tables import postgres_metadata
from legato.storage.statement import Prepared, Transaction


def all_statements() -> dict[str, Prepared]:
    """Return each statement of the storage room once, by module and name, also those in tables of statements."""
    found: dict[int, tuple[str, Prepared]] = {}
    for info in pkgutil.iter_modules(legato.storage.__path__):
        if not info.ispkg:
            module = importlib.import_module(f"legato.storage.{info.name}")
            for name, value in vars(module).items():
                for key, each in _prepared(value):
                    found.setdefault(id(each), (f"{info.name}.{name}{key}", each))
    return dict(found.values())


def is_of_postgres(statement: Prepared) -> bool:
    """Whether PostgreSQL alone has it: it is plain SQL, of one of its own tables, or of a type of its own."""
    if isinstance(statement.statement, TextClause):
        return True
    try:
        assert statement.sqlite
    except UnsupportedCompilationError:
        return True
    tables = find_tables(statement.statement, include_selects=True, include_joins=True, include_crud=True)
    return any(table in postgres_metadata.tables.values() for table in tables)


def _prepared(value: object) -> Iterator[tuple[str, Prepared]]:
    if isinstance(value, Prepared):
        yield "", value
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, Prepared):
                yield f"[{key}]", each


def execute(tx: Transaction, sql: str, *parameters: object) -> int:
    """Write as no part of the server does, with `?` or `?1` for parameters; return how many rows were changed."""
    return tx.run(_named(sql), **_values(parameters))


def query(tx: Transaction, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return what a SELECT finds, with `?` or `?1` for parameters."""
    return tx.tuples(_named(sql), **_values(parameters))


def _named(sql: str) -> Prepared:
    places = itertools.count(1)
    return Prepared(text(re.sub(r"\?(\d*)", lambda found: f":p{found[1] or next(places)}", sql)))


def _values(parameters: tuple[object, ...]) -> dict[str, Any]:
    return {f"p{place}": value for place, value in enumerate(parameters, start=1)}

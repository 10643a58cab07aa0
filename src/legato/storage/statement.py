"""A SQLAlchemy Core statement, compiled once and then run on the driver.

Building and compiling a statement costs fifty times what SQLite needs to run it; a turn runs a dozen. The statement
stays the one that both databases share, only its execution is short.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import CompoundSelect, Select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

_SQLITE = sqlite.dialect(paramstyle="qmark")


class Prepared:
    """One statement with named parameters (`bindparam`s), ready for SQLite."""

    __slots__ = ("_constants", "_pick", "_row", "sql")

    def __init__(self, statement: Select[Any] | UpdateBase | CompoundSelect[Any]) -> None:
        compiled = statement.compile(dialect=_SQLITE)
        assert isinstance(compiled, SQLCompiler)
        self.sql = str(compiled)
        names = tuple(compiled.positiontup or ())
        self._pick = _picker(names)
        self._constants: dict[str, Any] = {name: value for name, value in compiled.params.items() if value is not None}
        columns = [str(column.key) for column in statement.exported_columns]
        self._row: Any = namedtuple("Row", columns) if columns else None

    def bind(self, values: dict[str, Any]) -> tuple[Any, ...]:
        """Return the parameters in the order of the SQL text; a missing name is a KeyError."""
        return self._pick(self._constants | values if self._constants else values)

    def row(self, values: Sequence[Any]) -> Any:
        return self._row._make(values)


def _picker(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    match names:
        case ():
            return lambda values: ()
        case (name,):
            return lambda values: (values[name],)
        case _:
            return itemgetter(*names)


class Transaction:
    """What storage code is given: statements in, rows out, inside one transaction.

    Attributes:
        rings: Something was put into the outbox: whoever empties it is to be told once it is committed.
    """

    __slots__ = ("cursor", "rings")

    def __init__(self, connection: sqlite3.Connection) -> None:
        # One for all statements: the driver would make one for each, and remember it for a while.
        self.cursor = connection.cursor()
        self.rings = False

    def run(self, statement: Prepared, **values: Any) -> int:
        """Run a statement for its effect; return how many rows it changed."""
        return self.cursor.execute(statement.sql, statement.bind(values)).rowcount

    def insert(self, statement: Prepared, **values: Any) -> int:
        """Run an INSERT of one row; return its integer key."""
        key = self.cursor.execute(statement.sql, statement.bind(values)).lastrowid
        assert key is not None
        return key

    def many(self, statement: Prepared, rows: list[tuple[Any, ...]]) -> None:
        """Run a statement once per row; `rows` hold the parameters in the statement's order."""
        self.cursor.executemany(statement.sql, rows)

    def one(self, statement: Prepared, **values: Any) -> Any:
        """Return the first row as a named tuple, or None."""
        row = self.cursor.execute(statement.sql, statement.bind(values)).fetchone()
        return None if row is None else statement.row(row)

    def all(self, statement: Prepared, **values: Any) -> list[Any]:
        """Return all rows as named tuples."""
        rows = self.cursor.execute(statement.sql, statement.bind(values)).fetchall()
        return [statement.row(row) for row in rows]


def insert_into(table: Table, *, without: str = "") -> Prepared:
    """Return an INSERT of one row with a parameter for each column, but for the one that the database fills."""
    names = [column.name for column in table.columns if column.name != without]
    return Prepared(insert(table).values({name: bindparam(name) for name in names}))

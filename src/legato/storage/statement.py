"""A SQLAlchemy Core statement, compiled once for each database and then run on the driver; and who runs it.

Building and compiling a statement costs fifty times what SQLite needs to run it; a turn runs a dozen. The statement
stays the one that both databases share, only its execution is short. Storage code sees no driver: it is given a
Transaction, of which each database has its own.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from sqlalchemy import Table, TextClause, bindparam, insert
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import CompoundSelect, Select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

if TYPE_CHECKING:
    from legato.storage.sealing import Sealing

Kind: TypeAlias = Literal["sqlite", "postgresql"]
Values: TypeAlias = Mapping[str, Any]

_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A statement as one database takes it.

    Attributes:
        names: The parameters, in the order in which the SQL text wants them.
        constants: Those of them that the statement itself gives.
        pick: Makes the tuple of parameters of a dict that has all of `names`; a missing one is a KeyError.
        name: Unique in the process: what a statement that is prepared in the database is called there.
    """

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    pick: Callable[[dict[str, Any]], tuple[Any, ...]]
    name: str


class Prepared:
    """One statement with named parameters (`bindparam`s), compiled for a database when it first runs there.

    An INSERT of one row that leaves out a key which the database counts returns that key on PostgreSQL.

    Attributes:
        statement: As SQLAlchemy has it.
        writes: Whether rows that it returns are rows that it has changed.
        plain: Whether it is SQL text of ours, which one of the databases alone has; its columns are not known here.
    """

    def __init__(self, statement: Select[Any] | UpdateBase | CompoundSelect[Any] | TextClause) -> None:
        self.statement = statement
        self.writes = isinstance(statement, UpdateBase)
        self.plain = isinstance(statement, TextClause)

    # Attributes of the instance once they were asked for: a statement that runs costs no call for them.

    @cached_property
    def sqlite(self) -> Compiled:
        """The statement with `?` for parameters."""
        return self._compile(_sqlite())

    @cached_property
    def postgres(self) -> Compiled:
        """The statement with `$1`, `$2` … for parameters, without casts; a name that stands twice is one parameter."""
        return self._compile(_postgres())

    @cached_property
    def row(self) -> Callable[[Sequence[Any]], Any]:
        """Make a named tuple of a row."""
        assert not isinstance(self.statement, TextClause)
        names = [str(column.key) for column in self.statement.exported_columns]
        kind: Any = namedtuple("Row", names)  # type: ignore[misc]
        made: Callable[[Sequence[Any]], Any] = kind._make
        return made

    def _compile(self, dialect: Dialect) -> Compiled:
        compiled = self.statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        names = tuple(compiled.positiontup or ())
        return Compiled(
            sql=str(compiled),
            names=names,
            constants={name: value for name, value in compiled.params.items() if value is not None},
            pick=_picker(names),
            name=f"p{next(_numbers)}",
        )


@cache
def _sqlite() -> Dialect:
    from sqlalchemy.dialects import sqlite

    return sqlite.dialect(paramstyle="qmark")


@cache
def _postgres() -> Dialect:
    from sqlalchemy.dialects.postgresql.base import PGDialect

    return PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def _picker(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    match names:
        case ():
            return lambda values: ()
        case (name,):
            return lambda values: (values[name],)
        case _:
            return itemgetter(*names)


_NONE: Final[Set[int]] = frozenset()


class Transaction(ABC):
    """What storage code is given: statements in, rows out, inside one transaction.

    Attributes:
        database: Which database it is on, for the few statements that only one of them has.
        rings: Something was put into the outbox: whoever empties it is to be told once it is committed.
        wrote: Rows that its statements have changed, ever: it has grown where something was written.
        node_key: The node that is known not to be fenced for as long as it lasts; None where no node is asked for.
    """

    __slots__ = ("node_key", "rings", "wrote")

    database: ClassVar[Kind]
    sealing: Sealing | None = None
    """What seals and opens texts (storage.sealed_transaction); None where encryption is off."""

    def __init__(self) -> None:
        self.rings = False
        self.wrote = 0
        self.node_key: int | None = None

    def settled(self, committed: bool) -> None:
        """Learn that a transaction has ended; the next one may begin."""
        # Only where encryption is on there is something to do.
        return

    @abstractmethod
    def run(self, statement: Prepared, **values: Any) -> int:
        """Run a statement for its effect; return how many rows it changed."""

    @abstractmethod
    def insert(self, statement: Prepared, **values: Any) -> int:
        """Run an INSERT of one row; return its integer key, or something else where the table counts none."""

    @abstractmethod
    def many(self, statement: Prepared, rows: Sequence[Values]) -> None:
        """Run a statement once per row of parameters, for its effect."""

    @abstractmethod
    def one(self, statement: Prepared, **values: Any) -> Any:
        """Return the first row as a named tuple, or None."""

    @abstractmethod
    def all(self, statement: Prepared, **values: Any) -> list[Any]:
        """Return all rows as named tuples."""

    def readable(self, statement: Prepared, **values: Any) -> tuple[list[Any], Set[int]]:
        """Return the same, and the places of rows with texts that do not open: None stands in place of those.

        For work on behalf of all, which one such row must not stop. Only where encryption is on there are some.
        """
        return self.all(statement, **values), _NONE

    @abstractmethod
    def tuples(self, statement: Prepared, **values: Any) -> list[tuple[Any, ...]]:
        """Return all rows as plain tuples: for many rows, of which named ones would cost more than all else."""


def insert_into(table: Table, *, without: str = "") -> Prepared:
    """Return an INSERT of one row with a parameter for each column, but for the one that the database fills."""
    names = [column.name for column in table.columns if column.name != without]
    return Prepared(insert(table).values({name: bindparam(name) for name in names}))

"""What of a statement is to be sealed or opened; found once for each statement, from the statement itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import BindParameter, Column, Table
from sqlalchemy.sql import ColumnElement, CompoundSelect, Select
from sqlalchemy.sql.dml import Insert, Update

from legato.storage.sealed_columns import SEALED, Sealed
from legato.storage.sealing import Scope, place_of
from legato.storage.statement import Prepared
from legato.storage.tables import conversation


class Unsealable(AssertionError):
    """A statement touches what is sealed and does not say where it stands: it is to be written otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """What a statement that writes seals.

    Attributes:
        values: Names of parameters, each with its column (`table.column`).
        makes_scope: It makes the conversation whose data key is wanted.
    """

    table: Table
    values: tuple[tuple[str, str], ...]
    makes_scope: bool

    def scope(self, values: Mapping[str, Any]) -> Scope:
        """Return whose data key the values of a run of the statement want."""
        found: Scope = _given(values, (SEALED[self.table].scope, SEALED[self.table].scope + "_"))
        return found

    def place(self, column: str, values: Mapping[str, Any]) -> bytes:
        """Return where a value will stand."""
        return place_of(column, *(_given(values, names) for names in SEALED[self.table].place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opens:
    """One sealed column of the rows that a statement returns; the numbers are places in a row.

    Attributes:
        number: Where the row's integer key stands; None where the table has none.
        free: It holds any text, not JSON.
    """

    at: int
    column: str
    table: str
    scope: int
    place: tuple[int, ...]
    number: int | None
    free: bool


Plan: TypeAlias = Writes | tuple[Opens, ...] | None
_plans: dict[Prepared, Plan] = {}


def plan_of(statement: Prepared) -> Plan:
    """Return what of a statement is to be sealed or opened; None where nothing is.

    Raises:
        Unsealable: It cannot be.
    """
    try:
        return _plans[statement]
    except KeyError:
        plan = _plans[statement] = _plan(statement)
        return plan


def _plan(statement: Prepared) -> Plan:
    found = statement.statement
    if isinstance(found, Insert | Update):
        return _writes(found)
    if isinstance(found, Select | CompoundSelect):
        return _opens(list(found.exported_columns)) or None
    return None


def _writes(statement: Insert | Update) -> Writes | None:
    table = statement.table
    if not isinstance(table, Table) or (sealed := SEALED.get(table)) is None:
        return None
    if isinstance(statement, Insert) and statement.select is not None:
        raise Unsealable(f"rows of {table.name} are copied without being opened")
    if statement._multi_values:
        raise Unsealable(f"several rows of {table.name} in one statement")
    values: list[tuple[str, str]] = []
    for key, value in (statement._values or {}).items():
        name = key if isinstance(key, str) else key.name
        if name not in sealed.columns:
            continue
        if not isinstance(value, BindParameter):
            raise Unsealable(f"{table.name}.{name} is made by the database")
        values.append((value.key, f"{table.name}.{name}"))
    if not values:
        return None
    makes = table is conversation and isinstance(statement, Insert)
    return Writes(table=table, values=tuple(values), makes_scope=makes)


def _opens(columns: Sequence[ColumnElement[Any]]) -> tuple[Opens, ...]:
    bases = [_base(column) for column in columns]
    found: list[Opens] = []
    for at, base in enumerate(bases):
        if base is None or (sealed := SEALED.get(base.table)) is None or base.name not in sealed.columns:
            continue
        table = base.table
        found.append(
            Opens(
                at=at,
                column=f"{table.name}.{base.name}",
                table=table.name,
                scope=_scope_at(bases, table, sealed),
                place=tuple(_at(bases, table, names[0]) for names in sealed.place),
                number=None if sealed.number is None else _number_at(bases, table, sealed.number),
                free=base.name in sealed.free,
            )
        )
    return tuple(found)


def _base(column: ColumnElement[Any]) -> Column[Any] | None:
    """Return the column of a table that a column of a result is."""
    bases = [base for base in column.base_columns if isinstance(base, Column) and isinstance(base.table, Table)]
    return bases[0] if bases else None


def _at(bases: Sequence[Column[Any] | None], table: Table, name: str) -> int:
    for at, base in enumerate(bases):
        if base is not None and base.table is table and base.name == name:
            return at
    raise Unsealable(f"a sealed column of {table.name} is selected without its {name}")


def _number_at(bases: Sequence[Column[Any] | None], table: Table, name: str) -> int:
    # What belongs to a conversation stands beside its row's key or that of the conversation itself.
    return _scope_at(bases, table, SEALED[table]) if table is conversation else _at(bases, table, name)


def _scope_at(bases: Sequence[Column[Any] | None], table: Table, sealed: Sealed) -> int:
    if sealed.scope != "conversation_key":
        return _at(bases, table, sealed.scope)
    # A statement is about one conversation a row: whichever column names it.
    for at, base in enumerate(bases):
        if base is not None and (base.name == "conversation_key" or base is conversation.c.key):
            return at
    raise Unsealable(f"a sealed column of {table.name} is selected without its conversation's key")


def _given(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in values:
            return values[name]
    raise Unsealable(f"none of {names} is given to a statement that seals")

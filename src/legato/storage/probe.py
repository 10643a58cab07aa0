"""What is asked of the database as a whole: whether it answers, what waits in the outbox, which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select, text

from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import outbox

_ONE = Prepared(select(outbox.c.id).limit(1))
_FIGURES: Final[Sequence[ColumnElement[Any]]] = (
    func.count(outbox.c.id).label("events"),
    func.min(outbox.c.at_ms).label("oldest_ms"),
)
_WAITING = Prepared(select(*_FIGURES))
_IDENTITY = Prepared(
    text(
        "SELECT CAST(oid AS bigint) AS number, CAST(datname AS text) AS name"
        " FROM pg_database WHERE datname = current_database()"
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Events that the queue has not got yet; `oldest_ms` is when the oldest happened, None where there is none."""

    events: int
    oldest_ms: int | None


def answers(tx: Transaction) -> bool:
    """Return True once a row has been looked for."""
    tx.one(_ONE)
    return True


def find_waiting(tx: Transaction) -> Waiting:
    """Return what is in the outbox."""
    row = tx.one(_WAITING)
    assert row is not None
    return Waiting(events=row.events, oldest_ms=row.oldest_ms)


def find_identity(tx: Transaction) -> str:
    """Return what tells a database from others of its server, by whatever address it is reached; "" for SQLite's."""
    if tx.database == "sqlite":
        return ""
    ((number, name),) = tx.tuples(_IDENTITY)
    return f"{number} {name}"

"""What monitoring asks the database: whether it answers, and what waits in the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select

from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import outbox

_ONE = Prepared(select(outbox.c.id).limit(1))
_FIGURES: Final[Sequence[ColumnElement[Any]]] = (
    func.count(outbox.c.id).label("events"),
    func.min(outbox.c.at_ms).label("oldest_ms"),
)
_WAITING = Prepared(select(*_FIGURES))


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

"""The outbox: what has happened, kept by the transaction that made it happen until the queue has it.

Nothing that was committed is lost on its way to the queue, and nothing is there before it was committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from sqlalchemy import bindparam, select

from legato.core.errors import SealBroken
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import outbox

log = structlog.get_logger(__name__)

_INSERT = insert_into(outbox, without="id")
_SELECT = Prepared(
    select(outbox).where(outbox.c.id > bindparam("after")).order_by(outbox.c.id).limit(bindparam("most"))
)
_PLACES = Prepared(
    select(outbox.c.id).where(outbox.c.id > bindparam("after")).order_by(outbox.c.id).limit(bindparam("most"))
)
_AT = Prepared(select(outbox).where(outbox.c.id == bindparam("place")))
# SQLite gives the place of an event that was erased to the next one.
_DELETE = Prepared(outbox.delete().where(outbox.c.id == bindparam("place"), outbox.c.event_id == bindparam("event_id")))
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """Something that happened.

    Attributes:
        id: Unique; whoever counts each id once counts right.
        owner: Whose it is.
        payload: A JSON value.
        trace_id: Of the request that caused it.
    """

    id: str
    owner: str
    topic: str
    payload: Any
    trace_id: str | None
    at_ms: int


def put_event(tx: Transaction, event: OutboxEvent) -> None:
    """Record an event in the transaction that makes it happen."""
    tx.insert(
        _INSERT,
        event_id=event.id,
        owner=event.owner,
        topic=event.topic,
        payload=_encode(event.payload).decode(),
        trace_id=event.trace_id,
        at_ms=event.at_ms,
    )
    tx.rings = True


def first_events(tx: Transaction, limit: int, after: int = 0) -> list[tuple[int, OutboxEvent]]:
    """Return up to `limit` events behind the place `after`, with their places, in the order of appending."""
    return [
        (
            row.id,
            OutboxEvent(
                id=row.event_id,
                owner=row.owner,
                topic=row.topic,
                payload=msgspec.json.decode(row.payload),
                trace_id=row.trace_id,
                at_ms=row.at_ms,
            ),
        )
        for row in _first_rows(tx, limit, after)
    ]


def _first_rows(tx: Transaction, limit: int, after: int) -> list[Any]:
    try:
        return tx.all(_SELECT, after=after, most=limit)
    except SealBroken:
        return _rows_that_open(tx, limit, after)


def _rows_that_open(tx: Transaction, limit: int, after: int) -> list[Any]:
    """Return the rows without those that do not open: they must not hold the others up."""
    found: list[Any] = []
    for (place,) in tx.tuples(_PLACES, after=after, most=limit):
        try:
            found.append(tx.one(_AT, place=place))
        except SealBroken as error:
            log.error("an event stays in the outbox: it does not open", place=place, error=error.code)
    return found


def delete_events(tx: Transaction, found: Sequence[tuple[int, OutboxEvent]]) -> None:
    """Forget events, each with its place: the queue has them."""
    tx.many(_DELETE, [{"place": place, "event_id": event.id} for place, event in found])

"""Deletes conversations whose time is over, a page a transaction.

In the order of their latest message, by indexes that hold only those that age: first those that the server's settings
are for (ix_conversation_ages), then, for each number of hours that a conversation or its owner has of its own, those
(ix_conversation_own_ages). What is pinned, kept or held is in neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, or_, select, text

from legato.storage.audit_tables import keeping
from legato.storage.conversations import delete_found
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import IS_QUEUED, IS_RUNNING, conversation, run

PAGE: Final = 50
"""Conversations that one transaction looks at."""
PAGE_MESSAGES: Final = 200
"""A page ends behind the conversation with which it has come to so many messages."""
HOUR_MS: Final = 3_600_000
Place = tuple[int, int, int]
"""Hours of its own, 0 for those of the server; time of the last message; key."""
FIRST: Final[Place] = (0, -1, 0)

# As the indexes have it: SQLite takes a partial index only for a query that names its condition.
_KEPT_BY_NOBODY: Final = "NOT conversation.pinned AND conversation.held_at_ms IS NULL AND NOT conversation.owner_held"
_AGES: Final = text(f"conversation.retention = 'default' AND conversation.own_idle_h IS NULL AND {_KEPT_BY_NOBODY}")
_OWN_AGES: Final = text(
    f"conversation.own_idle_h IS NOT NULL AND conversation.retention <> 'keep' AND {_KEPT_BY_NOBODY}"
)
# One that was made at the very moment in which its owner's settings changed may not be marked yet.
_is_of_owner = and_(
    keeping.c.owner == conversation.c.owner, or_(keeping.c.idle_h.is_not(None), keeping.c.held_at_ms.is_not(None))
)
_is_held = and_(keeping.c.owner == conversation.c.owner, keeping.c.held_at_ms.is_not(None))


def _idle(*conditions: ColumnElement[bool] | Any) -> Select[Any]:
    return (
        select(
            conversation.c.key,
            conversation.c.owner,
            conversation.c.id,
            conversation.c.message_count,
            conversation.c.last_message_at_ms,
        )
        .where(
            *conditions,
            conversation.c.last_message_at_ms < bindparam("before_ms"),
            conversation.c.last_message_at_ms >= bindparam("from_ms"),
            or_(
                conversation.c.last_message_at_ms > bindparam("from_ms"),
                conversation.c.key > bindparam("after_key"),
            ),
            ~exists().where(and_(run.c.conversation_key == conversation.c.key, IS_RUNNING)),
            ~exists().where(and_(run.c.conversation_key == conversation.c.key, IS_QUEUED)),
        )
        .order_by(conversation.c.last_message_at_ms, conversation.c.key)
        .limit(bindparam("most"))
        # What somebody else holds is being used, or deleted.
        .with_for_update(skip_locked=True, of=conversation)
    )


_idle_by_default = _idle(_AGES, ~exists().where(_is_of_owner))
_idle_by_own = _idle(_OWN_AGES, conversation.c.own_idle_h == bindparam("own_h"), ~exists().where(_is_held))
_IDLE = Prepared(_idle_by_default)
_IDLE_OF_OWNER = Prepared(_idle_by_default.where(conversation.c.owner == bindparam("owner")))
_OWN_IDLE = Prepared(_idle_by_own)
_OWN_IDLE_OF_OWNER = Prepared(_idle_by_own.where(conversation.c.owner == bindparam("owner")))
# From each number of hours to the next.
_NEXT_HOURS = Prepared(
    select(func.min(conversation.c.own_idle_h).label("hours")).where(
        _OWN_AGES, conversation.c.own_idle_h > bindparam("above")
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """What is to be deleted.

    Attributes:
        owner: Whose conversations; None: those of all owners.
        now_ms: Epoch milliseconds.
        idle_ms: For how long conversations that have no time of their own are kept; None: for ever.
        behind: The place behind which the page begins.
        limit: Most conversations to delete.
    """

    owner: str | None
    now_ms: int
    idle_ms: int | None
    behind: Place
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """How many a page deleted; `next` is the place where the next begins, None where none is left."""

    deleted: int
    next: Place | None


def expire_page(tx: Transaction, expiring: Expiring, live: frozenset[int]) -> Expired:
    """Delete the next conversations that are idle; pass over those whose keys are in `live`."""
    hours, from_ms, after_key = expiring.behind
    idle_ms = expiring.idle_ms if hours == 0 else hours * HOUR_MS
    if idle_ms is None:
        return Expired(deleted=0, next=_next_hours(tx, hours))
    most = min(PAGE, expiring.limit)
    values: dict[str, Any] = {
        "before_ms": expiring.now_ms - idle_ms,
        "from_ms": from_ms,
        "after_key": after_key,
        "most": most,
    }
    if hours:
        values["own_h"] = hours
    if expiring.owner is None:
        rows = tx.all(_OWN_IDLE if hours else _IDLE, **values)
    else:
        rows = tx.all(_OWN_IDLE_OF_OWNER if hours else _IDLE_OF_OWNER, owner=expiring.owner, **values)
    deleted = messages = 0
    for row in rows:
        if row.key not in live:
            delete_found(tx, row.owner, row.id, row.key)
            deleted += 1
            messages += row.message_count
        if messages >= PAGE_MESSAGES:
            return Expired(deleted=deleted, next=(hours, row.last_message_at_ms, row.key))
    if len(rows) == most:
        return Expired(deleted=deleted, next=(hours, rows[-1].last_message_at_ms, rows[-1].key))
    return Expired(deleted=deleted, next=_next_hours(tx, hours))


def _next_hours(tx: Transaction, hours: int) -> Place | None:
    found = tx.one(_NEXT_HOURS, above=hours).hours
    return None if found is None else (found, FIRST[1], FIRST[2])

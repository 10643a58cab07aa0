"""Deletes conversations whose time is over, a page a transaction.

In the order of their latest message, by the index that holds only those that age (ix_conversation_ages).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, bindparam, exists, or_, select, text

from legato.storage.conversations import delete_found
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import IS_QUEUED, IS_RUNNING, conversation, run

PAGE: Final = 50
"""Conversations that one transaction looks at."""
PAGE_MESSAGES: Final = 200
"""A page ends behind the conversation with which it has come to so many messages."""

# As the index has it: SQLite takes a partial index only for a query that names its condition.
_AGES = text("conversation.retention = 'default' AND NOT conversation.pinned")
_is_idle = (
    _AGES,
    conversation.c.last_message_at_ms < bindparam("before_ms"),
    conversation.c.last_message_at_ms >= bindparam("from_ms"),
    or_(
        conversation.c.last_message_at_ms > bindparam("from_ms"),
        conversation.c.key > bindparam("after_key"),
    ),
    ~exists().where(and_(run.c.conversation_key == conversation.c.key, IS_RUNNING)),
    ~exists().where(and_(run.c.conversation_key == conversation.c.key, IS_QUEUED)),
)
_idle = (
    select(
        conversation.c.key,
        conversation.c.owner,
        conversation.c.id,
        conversation.c.message_count,
        conversation.c.last_message_at_ms,
    )
    .where(*_is_idle)
    .order_by(conversation.c.last_message_at_ms, conversation.c.key)
    .limit(bindparam("most"))
    # What somebody else holds is being used, or deleted.
    .with_for_update(skip_locked=True)
)
_IDLE = Prepared(_idle)
_IDLE_OF_OWNER = Prepared(_idle.where(conversation.c.owner == bindparam("owner")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """What is to be deleted.

    Attributes:
        owner: Whose conversations; None: those of all owners.
        before_ms: Idle since before this time, epoch milliseconds.
        behind: The place (time of last message, key) behind which the page begins.
        limit: Most conversations to delete.
    """

    owner: str | None
    before_ms: int
    behind: tuple[int, int]
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """How many a page deleted; `next` is the place where the next begins, None where none is left."""

    deleted: int
    next: tuple[int, int] | None


def expire_page(tx: Transaction, expiring: Expiring, live: frozenset[int]) -> Expired:
    """Delete the next conversations that are idle; pass over those whose keys are in `live`."""
    most = min(PAGE, expiring.limit)
    values = {
        "before_ms": expiring.before_ms,
        "from_ms": expiring.behind[0],
        "after_key": expiring.behind[1],
        "most": most,
    }
    owner = expiring.owner
    rows = tx.all(_IDLE, **values) if owner is None else tx.all(_IDLE_OF_OWNER, owner=owner, **values)
    deleted = messages = 0
    for row in rows:
        if row.key not in live:
            delete_found(tx, row.owner, row.id, row.key)
            deleted += 1
            messages += row.message_count
        if messages >= PAGE_MESSAGES:
            return Expired(deleted=deleted, next=(row.last_message_at_ms, row.key))
    last = rows[-1] if len(rows) == most else None
    return Expired(deleted=deleted, next=None if last is None else (last.last_message_at_ms, last.key))

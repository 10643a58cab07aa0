"""The message log: every message of an owner by time, of one conversation, one session, or all."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, tuple_

from legato.storage.messages import MADE_BY, OF_RUN
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation, message, run

_rows = (
    select(*message.columns, *OF_RUN, conversation.c.id.label("conversation_id"))
    .join(conversation, conversation.c.key == message.c.conversation_key)
    .outerjoin(run, MADE_BY)
)
_is_in_span = (
    tuple_(message.c.created_at_ms, message.c.key) > tuple_(bindparam("behind_ms"), bindparam("behind_key")),
    message.c.created_at_ms < bindparam("until_ms"),
)
# One range of the index on the owner, or on owner and session, in its order.
_by_time = (
    _rows.where(message.c.owner == bindparam("owner"), *_is_in_span)
    .order_by(message.c.created_at_ms, message.c.key)
    .limit(bindparam("most"))
)
_LOGGED = Prepared(_by_time)
_LOGGED_OF_SESSION = Prepared(_by_time.where(message.c.session_id == bindparam("session_id")))
_FIND_KEY = Prepared(
    select(conversation.c.key).where(conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id"))
)
# One range of the index on the conversation, which has its branches in order, not the time.
_PLACES = Prepared(
    select(message.c.created_at_ms, message.c.key, message.c.session_id).where(
        message.c.conversation_key == bindparam("conversation_key"), *_is_in_span
    )
)
_BY_KEY = Prepared(_rows.where(message.c.key == bindparam("key")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which messages are wanted.

    Attributes:
        conversation_id: Of this conversation alone, all its branches.
        session_id: Of this session alone.
        behind: The place (epoch milliseconds, key) behind which they begin.
        until_ms: They are older than this.
        limit: Most messages.
    """

    owner: str
    conversation_id: str | None
    session_id: str | None
    behind: tuple[int, int]
    until_ms: int
    limit: int


def find_logged(tx: Transaction, wanted: Wanted) -> list[Any]:
    """Return messages with the ids of their conversations, in the order of time and key."""
    span = {"behind_ms": wanted.behind[0], "behind_key": wanted.behind[1], "until_ms": wanted.until_ms}
    if wanted.conversation_id is not None:
        return _of_conversation(tx, wanted, wanted.conversation_id, span)
    if wanted.session_id is not None:
        return tx.all(_LOGGED_OF_SESSION, owner=wanted.owner, session_id=wanted.session_id, most=wanted.limit, **span)
    return tx.all(_LOGGED, owner=wanted.owner, most=wanted.limit, **span)


def _of_conversation(tx: Transaction, wanted: Wanted, conversation_id: str, span: dict[str, int]) -> list[Any]:
    found = tx.one(_FIND_KEY, owner=wanted.owner, id=conversation_id)
    if found is None:
        return []
    # One more index would cost every message that is written; a conversation's are few enough to be sorted here.
    places = [
        (row.created_at_ms, row.key)
        for row in tx.all(_PLACES, conversation_key=found.key, **span)
        if wanted.session_id is None or row.session_id == wanted.session_id
    ]
    return [tx.one(_BY_KEY, key=key) for _, key in heapq.nsmallest(wanted.limit, places)]

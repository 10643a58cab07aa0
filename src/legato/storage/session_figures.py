"""What is counted of replies, one row a reply: reading it as the figures of a session, and which sessions there are.

Every statement reads one range of an index: the replies of a session, or the first of each session.
"""

from __future__ import annotations

from heapq import nlargest
from operator import attrgetter
from typing import Final

from sqlalchemy import Integer, and_, bindparam, case, func, literal_column, select

from legato.core.figures import SessionFigures, Thumbs
from legato.storage.reply_figures import COLUMNS, COMPLETED, COUNTED, number_of, sum_of
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation, message, reply_count

MOST_CONVERSATIONS: Final = 1000
"""Named in a session's figures."""

_in_session = and_(COLUMNS.owner == bindparam("owner"), COLUMNS.session_id == bindparam("session_id"))
_SESSION = Prepared(
    select(
        func.count().label("rows"),
        number_of(COMPLETED).label("messages"),
        number_of(COLUMNS.outcome == literal_column("'failed'")).label("errors"),
        number_of(COLUMNS.outcome == literal_column("'stopped'")).label("stops"),
        sum_of(
            func.coalesce(COLUMNS.input_tokens, literal_column("0"))
            + func.coalesce(COLUMNS.output_tokens, literal_column("0"))
        ).label("tokens"),
        number_of(COLUMNS.estimated).label("estimated"),
        sum_of(case((COMPLETED, COLUMNS.response_time_ms))).label("response_ms"),
        func.count(case((COUNTED, COLUMNS.conversation_key)).distinct()).label("conversations"),
        number_of(COLUMNS.thumb == literal_column("'up'")).label("up"),
        number_of(COLUMNS.thumb == literal_column("'down'")).label("down"),
        func.max(case((COUNTED, COLUMNS.at_ms))).label("last_ms"),
    ).where(_in_session)
)
_SESSION_CONVERSATIONS = Prepared(
    select(conversation.c.id, func.max(COLUMNS.at_ms).label("last_ms"))
    .select_from(reply_count)
    .join(conversation, conversation.c.key == COLUMNS.conversation_key)
    .where(_in_session, COUNTED)
    .group_by(conversation.c.key, conversation.c.id)
)
_KNOWS_SESSION = Prepared(
    select(message.c.key)
    .where(message.c.owner == bindparam("owner"), message.c.session_id == bindparam("session_id"))
    .limit(1)
)
# From each id to the next: the replies of a session are not walked over.
_walk = (
    select(func.min(COLUMNS.session_id).label("id"), literal_column("1", Integer).label("place"))
    .where(COLUMNS.owner == bindparam("owner"), COLUMNS.session_id > bindparam("after"))
    .cte("walk", recursive=True)
)
_next = (
    select(func.min(COLUMNS.session_id))
    .where(COLUMNS.owner == bindparam("owner"), COLUMNS.session_id > _walk.c.id)
    .correlate(_walk)
    .scalar_subquery()
)
_walk = _walk.union_all(
    select(_next, _walk.c.place + literal_column("1")).where(
        _walk.c.id.is_not(None), _walk.c.place < bindparam("most", type_=Integer)
    )
)
_SESSIONS = Prepared(select(_walk.c.id, _walk.c.place).where(_walk.c.id.is_not(None)))


def find_session(tx: Transaction, owner: str, session_id: str) -> SessionFigures | None:
    """Return the figures of a session, or None where nothing of this owner's is of it."""
    row = tx.one(_SESSION, owner=owner, session_id=session_id)
    # There is no row at all where PostgreSQL cannot even look for the id.
    if row is None or (not row.rows and tx.one(_KNOWS_SESSION, owner=owner, session_id=session_id) is None):
        return None
    found = tx.all(_SESSION_CONVERSATIONS, owner=owner, session_id=session_id) if row.rows else []
    latest = nlargest(MOST_CONVERSATIONS, found, key=attrgetter("last_ms"))
    return SessionFigures(
        session_id=session_id,
        total_messages=row.messages or 0,
        total_tokens=row.tokens or 0,
        estimated_tokens=bool(row.estimated),
        average_response_time_ms=row.response_ms / row.messages if row.messages else None,
        conversation_count=row.conversations,
        conversations={each.id: each.last_ms for each in latest},
        errors=row.errors or 0,
        stops=row.stops or 0,
        feedback=Thumbs(up=row.up or 0, down=row.down or 0),
        last_message_at_ms=row.last_ms,
    )


def list_sessions(tx: Transaction, owner: str, after: str, limit: int) -> tuple[str, ...]:
    """Return up to `limit` ids of sessions in which something is counted, in order, from behind `after` on."""
    rows = tx.all(_SESSIONS, owner=owner, after=after, most=limit)
    rows.sort(key=attrgetter("place"))
    return tuple([row.id for row in rows])

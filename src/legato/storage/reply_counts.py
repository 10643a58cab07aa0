"""What is counted of replies, one row a reply: writing it, once however often and in whatever order events come.

A reply counts only as long as its run is there, feedback only as long as its message is: what comes after a
conversation was deleted is passed over, even where a new conversation has the same id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import and_, bindparam, case, func, literal_column, or_, select

# Of the two spellings this one compiles for SQLite too.
from sqlalchemy.dialects.postgresql import insert

from legato.core.resources import Thumb
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation, message, reply_count, run

Outcome = Literal["completed", "failed", "stopped"]

_OF_REPLY: Final = (
    "session_id",
    "model",
    "outcome",
    "input_tokens",
    "output_tokens",
    "estimated",
    "cost_nusd",
    "response_time_ms",
    "first_token_ms",
    "at_ms",
)


def _param(name: str) -> Any:
    """Return a parameter with the type of its column: PostgreSQL takes one that is only selected for text."""
    return bindparam(name, type_=reply_count.c[name].type)


_reply = insert(reply_count).from_select(
    ["run_id", "conversation_key", "owner", *_OF_REPLY],
    select(run.c.id, run.c.conversation_key, run.c.owner, *map(_param, _OF_REPLY))
    .join(conversation, conversation.c.key == run.c.conversation_key)
    .where(
        run.c.id == bindparam("id_of_run"),
        run.c.owner == bindparam("of_owner"),
        conversation.c.id == bindparam("conversation_id"),
    ),
    include_defaults=False,
)
_COUNT_REPLY = Prepared(
    _reply.on_conflict_do_update(
        index_elements=[reply_count.c.run_id],
        set_={name: _reply.excluded[name] for name in _OF_REPLY},
        where=reply_count.c.outcome.is_(None),
    )
)
_feedback = insert(reply_count).from_select(
    ["run_id", "conversation_key", "owner", "session_id", "model", "estimated", "at_ms", "thumb", "thumb_at_ms"],
    select(
        # The copy of a reply in a fork has no run.
        func.coalesce(message.c.run_id, message.c.id),
        message.c.conversation_key,
        message.c.owner,
        func.coalesce(message.c.session_id, literal_column("''")),
        message.c.model,
        literal_column("false"),
        _param("at_ms"),
        _param("thumb"),
        _param("at_ms"),
    ).where(
        message.c.id == bindparam("message_id"),
        message.c.owner == bindparam("of_owner"),
        message.c.role == literal_column("'assistant'"),
    ),
    include_defaults=False,
)
_given = _feedback.excluded
_COUNT_FEEDBACK = Prepared(
    _feedback.on_conflict_do_update(
        index_elements=[reply_count.c.run_id],
        set_={
            "thumb": _given.thumb,
            "thumb_at_ms": _given.thumb_at_ms,
            "at_ms": case((reply_count.c.outcome.is_(None), _given.at_ms), else_=reply_count.c.at_ms),
        },
        where=or_(
            reply_count.c.thumb_at_ms.is_(None),
            reply_count.c.thumb_at_ms < _given.thumb_at_ms,
            # Of the same millisecond: the same one wins in whatever order they come.
            and_(
                reply_count.c.thumb_at_ms == _given.thumb_at_ms,
                func.coalesce(reply_count.c.thumb, literal_column("''"))
                < func.coalesce(_given.thumb, literal_column("''")),
            ),
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedReply:
    """What is counted of a reply that has ended.

    Attributes:
        estimated: `output_tokens` is a guess.
        cost_nusd: Billionths of a US dollar; None where it is not known.
        at_ms: When it ended.
    """

    run_id: str
    conversation_id: str
    session_id: str
    model: str | None
    outcome: Outcome
    input_tokens: int | None
    output_tokens: int | None
    estimated: bool
    cost_nusd: int | None
    response_time_ms: int
    first_token_ms: int | None
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFeedback:
    """What a person thought of a reply at a time; a thumb of None takes back what was there."""

    message_id: str
    thumb: Thumb | None
    at_ms: int


def count_reply(tx: Transaction, owner: str, reply: EndedReply) -> bool:
    """Count a reply; return False where that was done before, or there is no such run of this owner any more."""
    changed = tx.run(
        _COUNT_REPLY,
        id_of_run=reply.run_id,
        of_owner=owner,
        conversation_id=reply.conversation_id,
        session_id=reply.session_id,
        model=reply.model,
        outcome=reply.outcome,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        estimated=reply.estimated,
        cost_nusd=reply.cost_nusd,
        response_time_ms=reply.response_time_ms,
        first_token_ms=reply.first_token_ms,
        at_ms=reply.at_ms,
    )
    return changed == 1


def count_feedback(tx: Transaction, owner: str, feedback: GivenFeedback) -> bool:
    """Count what was thought of a reply last, whether or not the reply is counted already.

    Returns:
        False where something later is known, or there is no such reply of this owner any more.
    """
    changed = tx.run(
        _COUNT_FEEDBACK,
        message_id=feedback.message_id,
        of_owner=owner,
        thumb=feedback.thumb,
        at_ms=feedback.at_ms,
    )
    return changed == 1

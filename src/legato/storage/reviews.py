"""Texts that policies have flagged, until somebody has decided about them, and what was decided.

A queue is the server's own: an admin reads it over all owners. A text goes with its conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import bindparam, delete, func, select, update

from legato.core.ids import new_id
from legato.storage.review_tables import review
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import conversation

Decision = Literal["fine", "violation"]
State = Literal["open", "decided"]
MOST = 2**62
TEXT_CHARS = 4000
"""Of a text that is flagged so much is kept."""

_INSERT = insert_into(review, without="key")
_IS_THERE = Prepared(
    select(conversation.c.key).where(
        conversation.c.key == bindparam("conversation_key"), conversation.c.id == bindparam("conversation_id")
    )
)
_FIND = Prepared(select(review).where(review.c.id == bindparam("id")))
_OPEN = Prepared(
    select(review)
    .where(review.c.decision.is_(None), review.c.key > bindparam("after"))
    .order_by(review.c.key)
    .limit(bindparam("limit"))
)
_DECIDED = Prepared(
    select(review)
    .where(review.c.decision.is_not(None), review.c.key < bindparam("after"))
    .order_by(review.c.key.desc())
    .limit(bindparam("limit"))
)
_COUNT_OPEN = Prepared(select(func.count().label("open")).where(review.c.decision.is_(None)))
_DECIDE = Prepared(
    update(review)
    .where(
        review.c.id == bindparam("of_id"),
        review.c.conversation_key == bindparam("conversation_key_"),
        review.c.decision.is_(None),
    )
    .values(
        decision=bindparam("decided"),
        note=bindparam("said"),
        decided_by=bindparam("by"),
        decided_at_ms=bindparam("now_ms"),
    )
)
_some = select(review.c.key).where(review.c.owner == bindparam("owner")).limit(bindparam("limit"))
_FORGET_OWNER = Prepared(delete(review).where(review.c.key.in_(_some)))
_FORGET_CONVERSATION = Prepared(
    delete(review).where(
        review.c.owner == bindparam("owner"),
        review.c.conversation_key.in_(
            select(conversation.c.key).where(
                conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("conversation_id")
            )
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReview:
    """A flagged text."""

    stage: str
    source: str
    policy: str
    reason: str
    text: str


def insert_reviews(
    tx: Transaction,
    reviews: Sequence[NewReview],
    *,
    owner: str,
    conversation_id: str,
    conversation_key: int,
    run_id: str,
    now_ms: int,
) -> int:
    """Put texts into the queue; return how many. None where their conversation is gone by now."""
    there = tx.one(_IS_THERE, conversation_key=conversation_key, conversation_id=conversation_id)
    if there is None:
        return 0
    for each in reviews:
        tx.insert(
            _INSERT,
            id=new_id("v", now_ms),
            owner=owner,
            conversation_id=conversation_id,
            conversation_key=conversation_key,
            run_id=run_id,
            at_ms=now_ms,
            stage=each.stage,
            source=each.source,
            policy=each.policy,
            reason=each.reason,
            text=each.text[:TEXT_CHARS],
            decision=None,
            note=None,
            decided_by=None,
            decided_at_ms=None,
        )
    return len(reviews)


def find_review(tx: Transaction, review_id: str) -> Any | None:
    """Return a row, or None."""
    return tx.one(_FIND, id=review_id)


def list_reviews(tx: Transaction, state: State, *, limit: int, after: int | None = None) -> list[Any]:
    """Return rows of all owners: open ones, the oldest first, or decided ones, those first that were flagged last.

    Args:
        after: Key of the last that is known; None for none.
    """
    if state == "open":
        return tx.all(_OPEN, limit=limit, after=0 if after is None else after)
    return tx.all(_DECIDED, limit=limit, after=MOST if after is None else after)


def count_open(tx: Transaction) -> int:
    """Return how many wait for a decision."""
    return int(tx.one(_COUNT_OPEN).open)


def decide(tx: Transaction, row: Any, decision: Decision, *, note: str | None, by: str, now_ms: int) -> bool:
    """Decide about a text; return whether it had waited for that."""
    given = {"decided": decision, "said": note, "by": by, "now_ms": now_ms}
    return tx.run(_DECIDE, of_id=row.id, conversation_key_=row.conversation_key, **given) == 1


def forget_owner(tx: Transaction, owner: str, limit: int) -> int:
    """Delete up to `limit` texts of an owner; return how many."""
    return tx.run(_FORGET_OWNER, owner=owner, limit=limit)


def forget_conversation(tx: Transaction, owner: str, conversation_id: str) -> None:
    """Delete the texts of a conversation, which would go with it anyway."""
    tx.run(_FORGET_CONVERSATION, owner=owner, conversation_id=conversation_id)

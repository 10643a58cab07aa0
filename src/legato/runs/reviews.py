"""Decides about a flagged text, and writes into the audit log who did."""

from __future__ import annotations

from typing import Any

from legato.runs.audit import Actor, audit
from legato.storage.reviews import Decision, decide, find_review
from legato.storage.statement import Transaction


def decide_review(
    tx: Transaction, review_id: str, decision: Decision, *, note: str | None, by: str, actor: Actor, now_ms: int
) -> tuple[bool, Any | None]:
    """Decide about a flagged text; return whether it had waited for that, and its row as it is then.

    Returns:
        None for the row where there is none with this id.
    """
    row = find_review(tx, review_id)
    if row is None:
        return False, None
    done = decide(tx, row, decision, note=note, by=by, now_ms=now_ms)
    row = find_review(tx, review_id)
    if done and row is not None:
        detail = {"decision": decision, "policy": row.policy, "conversation": row.conversation_id}
        audit(tx, actor=actor, action="review.decide", subject=review_id, at_ms=now_ms, owner=row.owner, detail=detail)
    return done, row

"""Feedback on a reply, and the event that tells steps of it: one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from legato.core.errors import Conflict, NotFound
from legato.core.resources import Feedback
from legato.runs.node import Node
from legato.runs.rows import feedback_column, feedback_of
from legato.storage.committer import Command
from legato.storage.messages import find_message, hold_message, set_feedback
from legato.storage.outbox import OutboxEvent, put_event
from legato.storage.reviews import NewReview, insert_reviews
from legato.storage.statement import Transaction

GIVEN: Final = "chat.feedback.given"


async def judged_feedback(
    node: Node, owner: str, message_id: str, feedback: Feedback | None
) -> tuple[Feedback | None, Sequence[NewReview]]:
    """Return feedback as policies leave its reason, and what they want somebody to look at.

    Raises:
        InvalidRequest: The reason may not be kept.
        BudgetExceeded: Judging it would cost more than may be spent.
    """
    if node.moderation is None or feedback is None or not feedback.reason:
        return feedback, ()
    row = await node.database.read(lambda tx: find_message(tx, owner, message_id))
    if row is None:
        # Writing it says so.
        return feedback, ()
    reason, reviews = await node.moderation.aside(
        feedback.reason, "feedback", owner, row.conversation_id, field="reason"
    )
    return replace(feedback, reason=reason), reviews


class WriteFeedback(Command[tuple[Any, Feedback | None]]):
    """Keeps what is thought of a reply; gives the message's row as it was, and what is kept now.

    Where that was so before, nothing is written and no event is put.
    """

    def __init__(
        self,
        *,
        owner: str,
        message_id: str,
        feedback: Feedback | None,
        reviews: Sequence[NewReview] = (),
        event_id: str,
        trace_id: str | None,
        now_ms: int,
    ) -> None:
        self._owner = owner
        self._message_id = message_id
        self._feedback = feedback
        self._reviews = reviews
        self._event_id = event_id
        self._trace_id = trace_id
        self._now_ms = now_ms

    def apply(self, tx: Transaction) -> tuple[Any, Feedback | None]:
        row = hold_message(tx, self._owner, self._message_id)
        if row is None:
            raise NotFound("there is no message with this id")
        if row.role != "assistant":
            raise Conflict("this is a message of the user: feedback is for replies")
        kept, given = feedback_of(row.feedback), self._feedback
        if _said(kept) == _said(given):
            return row, kept
        # Counting goes by this time: later feedback needs a later one, even where the clock goes back.
        at_ms = self._now_ms if kept is None else max(self._now_ms, kept.at_ms + 1)
        given = None if given is None else replace(given, at_ms=at_ms)
        set_feedback(tx, self._owner, self._message_id, feedback_column(given), conversation_key=row.conversation_key)
        if self._reviews:
            of = {"owner": self._owner, "conversation_id": row.conversation_id, "run_id": row.run_id or ""}
            insert_reviews(tx, self._reviews, conversation_key=row.conversation_key, now_ms=at_ms, **of)
        put_event(tx, self._event(row, at_ms))
        return row, given

    def _event(self, row: Any, at_ms: int) -> OutboxEvent:
        thumb, reason = _said(self._feedback)
        payload = {
            "id": self._event_id,
            "conversationId": row.conversation_id,
            "sessionId": row.session_id,
            "runId": row.run_id,
            "messageId": row.id,
            "thumb": thumb,
            "reason": reason,
            "timestamp": at_ms,
            "model": row.model,
        }
        return OutboxEvent(
            id=self._event_id,
            owner=self._owner,
            topic=GIVEN,
            payload=payload,
            trace_id=self._trace_id,
            at_ms=at_ms,
        )


def _said(feedback: Feedback | None) -> tuple[str | None, str | None]:
    return (None, None) if feedback is None else (feedback.thumb, feedback.reason)

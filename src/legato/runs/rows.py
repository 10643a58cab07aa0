"""Rows of conversations, messages and runs as what services give out (core.resources)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from legato.core.reply import fold_reply
from legato.core.resources import Conversation, Cost, Feedback, Message, Run, RunFault
from legato.core.run import RunState
from legato.core.usage import Usage
from legato.runs.node import Node

_encode = msgspec.json.Encoder().encode
_load = msgspec.json.Decoder().decode
_load_usage = msgspec.json.Decoder(Usage).decode
_load_fault = msgspec.json.Decoder(RunFault).decode
T = TypeVar("T")
Said = Mapping[str, list[dict[str, Any]]]
"""Parts of replies, by the ids of their runs."""


def conversation_of(row: Any) -> Conversation:
    """Return the conversation of a row with `active_run_id`."""
    return Conversation(
        id=row.id,
        title=row.title,
        title_source=row.title_source,
        system_prompt=row.system_prompt,
        model=row.model,
        temperature=row.temperature,
        max_tokens=row.max_tokens,
        metadata=_loaded(row.metadata, _load),
        message_count=row.message_count,
        leaf_id=row.leaf_id,
        leaf_depth=row.leaf_depth,
        active_run_id=row.active_run_id,
        created_at_ms=row.created_at_ms,
        last_message_at_ms=row.last_message_at_ms,
        retention=row.retention,
        pinned=bool(row.pinned),
        archived=bool(row.archived),
        temporary=bool(row.temporary),
    )


def message_of(
    row: Any, node: Node, conversation_id: str, said: Said, siblings: Mapping[str, tuple[str, ...]] | None = None
) -> Message:
    """Return the message of a row with the columns of its run. On the event loop: a reply that is being made is read
    from its log.

    Args:
        said: What replies that are being made elsewhere said when the row was read (storage.followed.find_said).
        siblings: Of each message that has others in its place.
    """
    run = node.live.get(row.run_id) if row.status == "running" else None
    # The row is written when the run ends; until then its log has what was said so far.
    if run is not None:
        parts = fold_reply(run.tail.log).parts
    else:
        parts = said[row.run_id] if row.status == "running" and row.run_id in said else _load(row.parts)
    return Message(
        id=row.id,
        conversation_id=conversation_id,
        session_id=row.session_id,
        role=row.role,
        text="".join([part["text"] for part in parts if part["type"] == "text"]),
        parts=parts,
        created_at_ms=row.created_at_ms,
        status=row.status,
        parent_id=row.parent_id,
        run_id=row.run_id if row.role == "assistant" else None,
        model=row.model,
        usage=_loaded(row.usage, _load_usage),
        cost=cost_of(row.usage),
        feedback=feedback_of(row.feedback),
        metadata=_loaded(row.metadata, _load),
        siblings=None if siblings is None else siblings.get(row.id, (row.id,)),
        response_time_ms=row.response_time_ms,
        first_token_ms=row.first_token_ms,
        finish_reason=row.finish_reason,
        error=_loaded(row.error, _load_fault),
    )


def feedback_of(text: str | None) -> Feedback | None:
    """Return the feedback that a column holds."""
    if text is None:
        return None
    kept = _load(text)
    return Feedback(thumb=kept["thumb"], reason=kept["reason"], at_ms=kept["at"])


def feedback_column(feedback: Feedback | None) -> str | None:
    """Return the column that holds this feedback."""
    if feedback is None:
        return None
    return msgspec.json.encode({"thumb": feedback.thumb, "reason": feedback.reason, "at": feedback.at_ms}).decode()


def usage_column(usage: Usage | None, usd: str | None) -> str | None:
    """Return the column that holds what a reply used, and what it cost."""
    if usage is None:
        return None
    return _encode(msgspec.to_builtins(usage) | ({} if usd is None else {"cost": usd})).decode()


def cost_of(text: str | None) -> Cost | None:
    """Return the cost that a column of usage holds; None in those from before costs were kept."""
    usd = None if text is None else _load(text).get("cost")
    return None if usd is None else Cost(usd=usd)


def run_of(row: Any) -> Run:
    """Return the run of a row with `conversation_id`."""
    return Run(
        id=row.id,
        conversation_id=row.conversation_id,
        session_id=row.session_id,
        user_message_id=row.user_message_id,
        message_id=row.message_id,
        state=RunState(row.state),
        turn=row.turn,
        # A hand-over at a planned stop takes one off beforehand.
        takeovers=max(0, row.takeovers),
        calls=row.calls,
        model=row.model,
        usage=_loaded(row.usage, _load_usage),
        cost=cost_of(row.usage),
        finish_reason=row.finish_reason,
        error=_loaded(row.error, _load_fault),
        created_at_ms=row.created_at_ms,
        started_at_ms=row.started_at_ms,
        first_token_at_ms=row.first_token_at_ms,
        ended_at_ms=row.ended_at_ms,
    )


def _loaded(text: str | None, load: Callable[[str], T]) -> T | None:
    return None if text is None else load(text)

"""How conversations, messages and runs look as JSON: camelCase, times in epoch milliseconds, unknown is null."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from legato.core.reply import fold_reply
from legato.core.usage import Usage
from legato.runs.context import parts_text
from legato.runs.node import Node
from legato.wire.native import usage_json


class Resource(BaseModel):
    """A documented shape; the answers themselves are written without it."""

    model_config = ConfigDict(alias_generator=to_camel)


class ConversationOut(Resource):
    id: str
    title: str
    title_source: Literal["words", "model", "user"]
    system_prompt: str | None
    model: str | None
    temperature: float | None
    max_tokens: int | None
    metadata: dict[str, Any] | None
    message_count: int
    leaf_id: str | None = Field(description="Last message of the active branch.")
    active_run_id: str | None = Field(description="The reply that is being made, to be followed.")
    created_at: int
    last_message_at: int


class ConversationPage(Resource):
    conversations: list[ConversationOut]
    next_cursor: str | None


class UsageOut(Resource):
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    reasoning_tokens: int | None


class FeedbackOut(Resource):
    thumb: Literal["up", "down"]
    reason: str | None
    at: int


class MessageOut(Resource):
    id: str
    role: Literal["user", "assistant"]
    content: str = Field(description="All text of the message.")
    parts: list[dict[str, Any]]
    timestamp: int
    status: Literal["complete", "queued", "running", "failed", "stopped"]
    parent_id: str | None
    run_id: str | None
    model: str | None
    usage: UsageOut | None
    feedback: FeedbackOut | None
    metadata: dict[str, Any] | None


class MessagePage(Resource):
    messages: list[MessageOut]
    next_cursor: int | None


class RunOut(Resource):
    id: str
    conversation_id: str
    session_id: str
    user_message_id: str
    message_id: str
    state: Literal["queued", "running", "finished", "failed", "stopped"]
    turn: int
    takeovers: int
    calls: int
    model: str | None
    usage: UsageOut | None
    finish_reason: str | None
    error: dict[str, Any] | None
    created_at: int
    started_at: int | None
    first_token_at: int | None
    ended_at: int | None


def conversation_out(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "title": row.title,
        "titleSource": row.title_source,
        "systemPrompt": row.system_prompt,
        "model": row.model,
        "temperature": row.temperature,
        "maxTokens": row.max_tokens,
        "metadata": _load(row.metadata),
        "messageCount": row.message_count,
        "leafId": row.leaf_id,
        "activeRunId": row.active_run_id,
        "createdAt": row.created_at_ms,
        "lastMessageAt": row.last_message_at_ms,
    }


def message_out(row: Any, node: Node) -> dict[str, Any]:
    parts = _load(row.parts)
    run = node.live.get(row.run_id) if row.status == "running" else None
    if run is not None:
        # The row is written when the run ends; until then its log has what was said so far.
        text = fold_reply(run.tail.log).text
        parts = [{"type": "text", "text": text}] if text else []
    return {
        "id": row.id,
        "role": row.role,
        "content": parts_text(row.parts) if run is None else "".join(part["text"] for part in parts),
        "parts": parts,
        "timestamp": row.created_at_ms,
        "status": row.status,
        "parentId": row.parent_id,
        "runId": row.run_id if row.role == "assistant" else None,
        "model": row.model,
        "usage": _usage(row.usage),
        "feedback": _load(row.feedback),
        "metadata": _load(row.metadata),
    }


def run_out(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "conversationId": row.conversation_id,
        "sessionId": row.session_id,
        "userMessageId": row.user_message_id,
        "messageId": row.message_id,
        "state": row.state,
        "turn": row.turn,
        "takeovers": max(0, row.takeovers),
        "calls": row.calls,
        "model": row.model,
        "usage": _usage(row.usage),
        "finishReason": row.finish_reason,
        "error": _load(row.error),
        "createdAt": row.created_at_ms,
        "startedAt": row.started_at_ms,
        "firstTokenAt": row.first_token_at_ms,
        "endedAt": row.ended_at_ms,
    }


def _load(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _usage(text: str | None) -> dict[str, int | None] | None:
    return None if text is None else usage_json(msgspec.json.decode(text, type=Usage))

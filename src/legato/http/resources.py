"""How conversations, messages and runs look as JSON: camelCase, times in epoch milliseconds, unknown is null."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from legato.core.resources import MessageRole, MessageStatus, Retention, Thumb, TitleSource


class Resource(BaseModel):
    """A shape of JSON: filled from the attributes of a value of core.resources that has the same names.

    Every time is in milliseconds, so that its name in JSON need not say so.
    """

    model_config = ConfigDict(
        from_attributes=True,
        alias_generator=AliasGenerator(serialization_alias=lambda name: to_camel(name.removesuffix("_ms"))),
    )


class ConversationOut(Resource):
    id: str
    title: str
    title_source: TitleSource
    system_prompt: str | None
    model: str | None
    temperature: float | None
    max_tokens: int | None
    metadata: dict[str, Any] | None
    message_count: int
    leaf_id: str | None = Field(description="Last message of the active branch.")
    active_run_id: str | None = Field(description="The reply that is being made, to be followed.")
    created_at_ms: int
    last_message_at_ms: int
    retention: Retention = Field(description="`default`: deleted when it was idle for long; `keep`: never.")
    pinned: bool = Field(description="Kept, whatever the retention.")
    archived: bool = Field(description="Out of sight: listed only where archived ones are asked for.")
    temporary: bool = Field(description="Never listed, never found.")


class ConversationPage(Resource):
    conversations: list[ConversationOut]
    next_cursor: str | None


class FoundOut(Resource):
    conversation: ConversationOut
    message_id: str | None = Field(description="Null: the conversation's title was found.")
    snippet: str = Field(description="Plain text on one line; each match stands between U+E000 and U+E001.")
    at_ms: int


class FoundPage(Resource):
    results: list[FoundOut]
    next_cursor: str | None


class UsageOut(Resource):
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    reasoning_tokens: int | None
    counted: bool = Field(
        False,
        description="Stands there where it is true: some of it was counted here, the model's server has not told it.",
        exclude_if=lambda counted: not counted,
    )


class FeedbackOut(Resource):
    thumb: Thumb
    reason: str | None
    at_ms: int


class FaultOut(Resource):
    code: str
    message: str
    retryable: bool


class CostOut(Resource):
    usd: str = Field(description="A decimal of US dollars.")


class ExportedMessage(Resource):
    id: str
    role: MessageRole
    text: str = Field(serialization_alias="content", description="All text of the message.")
    parts: list[dict[str, Any]]
    created_at_ms: int = Field(serialization_alias="timestamp")
    status: MessageStatus
    parent_id: str | None
    run_id: str | None
    model: str | None
    usage: UsageOut | None
    feedback: FeedbackOut | None
    metadata: dict[str, Any] | None
    response_time_ms: int | None = Field(
        serialization_alias="responseTimeMs", description="From the start of the reply's run to its end."
    )
    first_token_ms: int | None = Field(
        serialization_alias="firstTokenMs", description="From the start of the reply's run to its first token."
    )
    finish_reason: str | None
    error: FaultOut | None = Field(description="Why the reply failed.")
    cost: CostOut | None = Field(description="Of all calls of models for the reply; null where it is not known.")


class MessageOut(ExportedMessage):
    siblings: tuple[str, ...] = Field(
        description="Ids of the messages in the same place of the tree, itself included, in order of making."
    )


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
    cost: CostOut | None = Field(description="Of all calls of models; null where it is not known, or not yet.")
    finish_reason: str | None
    error: FaultOut | None
    created_at_ms: int
    started_at_ms: int | None
    first_token_at_ms: int | None
    ended_at_ms: int | None


def respond(shape: type[Resource], value: object, status: int = 200) -> Response:
    """Return the response that shows a value of core.resources in its shape."""
    data = shape.model_validate(value).model_dump(by_alias=True)
    return Response(msgspec.json.encode(data), status, {"Cache-Control": "no-store"}, "application/json")

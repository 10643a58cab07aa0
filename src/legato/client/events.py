"""The events of one reply, as a reader of it sees them: what the stream says, and what became of the connection.

Pure types. Names and fields are those of the wire (docs/protocol.md), in snake_case; events and fields that come later
are passed through, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts; None is unknown, never 0.

    Attributes:
        cache_read_tokens: Part of the input.
        reasoning_tokens: Part of the output.
        counted: Some were counted by the server, because the model's had not told them.
    """

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    reasoning_tokens: int | None
    counted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """US dollars as a decimal string, exact."""

    usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Another model than the first answered."""

    from_model: str
    to_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FromStream:
    """What all events of the stream share.

    Attributes:
        cursor: `<run>.<epoch>.<seq>`, the place behind this event; None for an event that is not of the run's log.
    """

    cursor: str | None
    conversation_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The server has accepted the message, or has found the run: first, and once.

    An id is None only where the server's headers do not come through.
    """

    type: ClassVar[Literal["open"]] = "open"
    run_id: str | None
    message_id: str | None
    conversation_id: str | None
    session_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(FromStream):
    """More of the reply's text; `index` counts from 1."""

    type: ClassVar[Literal["chunk"]] = "chunk"
    content: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning(FromStream):
    """More of what the model thinks aloud; no part of the reply's text."""

    type: ClassVar[Literal["reasoning"]] = "reasoning"
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(FromStream):
    """The reply waits for `ahead` others of its conversation."""

    type: ClassVar[Literal["queued"]] = "queued"
    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEvent(FromStream):
    """A tool call has come further. Calls run at the same time: tell them apart by `call_id`.

    Attributes:
        arguments: With `called`: JSON text as the model wrote it, which may be wrong JSON.
        output: With `done` and `failed`: what the model is told.
        elapsed_ms: With `done` and `failed`; 0 for a call that was not carried out.
    """

    type: ClassVar[Literal["tool"]] = "tool"
    call_id: str
    name: str
    status: Literal["called", "running", "done", "failed"]
    arguments: str | None = None
    output: str | None = None
    elapsed_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalEvent(FromStream):
    """A tool call waits for a person, or was decided on.

    Attributes:
        until_ms: With `asked`: epoch milliseconds at which nobody's answer becomes a refusal.
        by: With a decision: who made it; None where nobody did in time.
    """

    type: ClassVar[Literal["approval"]] = "approval"
    call_id: str
    name: str
    arguments: str
    status: Literal["asked", "granted", "denied"]
    until_ms: int | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationEvent(FromStream):
    """A source that the reply rests upon."""

    type: ClassVar[Literal["citation"]] = "citation"
    document_id: str
    title: str
    locator: str | None
    quote: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class End(FromStream):
    """What both ends of a run tell.

    Attributes:
        message_count: Messages of the conversation, this reply included.
        response_length: UTF-16 code units, JavaScript's `.length`.
    """

    message_id: str | None
    run_id: str | None
    model: str | None
    usage: Usage | None
    cost: Cost | None
    message_count: int | None
    response_length: int | None
    response_time_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(End):
    """The reply has ended, or was stopped; nothing follows.

    Attributes:
        finish_reason: `stop`, `length`, `content_filter`, `tool_limit`, `stopped`, `budget`, `fallback`; more may come.
        stopped_by: After a stop: `user`, `time`, `policy`, `budget`.
    """

    type: ClassVar[Literal["complete"]] = "complete"
    finish_reason: str
    stopped_by: str | None
    failover: Failover | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(End):
    """The reply could not be completed; what it said is kept, and nothing follows.

    Attributes:
        error: What failed, for people.
        code: One of docs/reference/errors.md.
        partial: Whether any text came before.
    """

    type: ClassVar[Literal["error"]] = "error"
    error: str
    code: str
    retryable: bool
    partial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnecting:
    """The connection was cut before the reply's end; try number `attempt` (from 1) begins in `delay_ms`."""

    type: ClassVar[Literal["reconnecting"]] = "reconnecting"
    attempt: int
    delay_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnected:
    """The stream is open again.

    Attributes:
        restarted: What was told is no longer what the server has (its disk was restored from a backup, say): forget
            it, the reply is told again from its first character. `fold` does so.
    """

    type: ClassVar[Literal["reconnected"]] = "reconnected"
    restarted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(FromStream):
    """An event that this version does not know; pass over it.

    Attributes:
        name: Its name on the wire.
        data: As on the wire; empty where that was no JSON object.
    """

    type: ClassVar[Literal["unknown"]] = "unknown"
    name: str
    data: Mapping[str, Any]


WireEvent: TypeAlias = (
    Chunk | Complete | Failure | Queued | Reasoning | ToolEvent | ApprovalEvent | CitationEvent | Unknown
)
"""What the stream itself says."""

ChatEvent: TypeAlias = Open | WireEvent | Reconnecting | Reconnected
"""All that a reader of a reply is told."""

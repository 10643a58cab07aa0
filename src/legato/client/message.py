"""The reply that a person sees, as `fold` makes it and as the server's JSON shows a message that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from legato.client.events import Cost, Failover, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """What was said, or thought aloud, without a break."""

    type: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallPart:
    """A tool call; `approval` is None where nobody was asked."""

    type: ClassVar[Literal["tool-call"]] = "tool-call"
    call_id: str
    name: str
    arguments: str
    approval: Literal["asked", "granted", "denied"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResultPart:
    """What a tool call brought; `elapsed_ms` is 0 for a call that was not carried out."""

    type: ClassVar[Literal["tool-result"]] = "tool-result"
    call_id: str
    name: str
    output: str
    is_error: bool
    elapsed_ms: int


Part: TypeAlias = TextPart | ToolCallPart | ToolResultPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a person is asked, or has decided; `by` is None where nobody has, or did in time."""

    status: Literal["asked", "granted", "denied"]
    until_ms: int | None
    by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One tool call as far as it came.

    Attributes:
        arguments: JSON text as the model wrote it, which may be wrong JSON.
        output: None until it is done or has failed; so is `elapsed_ms`.
        approval: None where nobody is asked.
    """

    call_id: str
    name: str
    arguments: str
    status: Literal["called", "running", "done", "failed"] = "called"
    output: str | None = None
    elapsed_ms: int | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A source that the reply rests upon."""

    document_id: str
    title: str
    locator: str | None
    quote: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFault:
    """Why a reply failed."""

    code: str
    message: str
    retryable: bool


ReplyStatus: TypeAlias = Literal["queued", "running", "complete", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyMessage:
    """One reply; never changed: `fold` returns new ones.

    Attributes:
        ahead: Turns of the conversation that come first; 0 once the reply is being made.
        parts: In the order in which they were said, the same live and from `GET /conversations/{id}/messages`.
        tools: All tool calls, oldest first.
        finish_reason: None while it goes on, and where it failed.
        error: None unless it failed.
        cursor: Place in the run's log up to which it was read.
    """

    id: str | None = None
    run_id: str | None = None
    conversation_id: str | None = None
    status: ReplyStatus = "running"
    ahead: int = 0
    text: str = ""
    reasoning: str = ""
    parts: tuple[Part, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    citations: tuple[Citation, ...] = ()
    model: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    finish_reason: str | None = None
    stopped_by: str | None = None
    failover: Failover | None = None
    response_time_ms: int | None = None
    error: ReplyFault | None = None
    cursor: str | None = None


EMPTY_REPLY: Final = ReplyMessage()
"""A reply of which nothing is known yet."""

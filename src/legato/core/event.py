"""The typed events of a run's log.

Pure. A log is dense and append-only: seq counts from 0, one seq a delta. Its first event is RunStarted, its last is
exactly one of TERMINAL. A text delta, by far the most frequent event, is a bare non-empty `str`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

SCHEMA_VERSION = 1
"""Version of this vocabulary, stored with every row; older versions are upcast on read, for ever."""

CallReason = Literal["first", "retry", "failover", "takeover", "tools"]
FinishReason = Literal["stop", "length", "content_filter", "tool_limit", "fallback"]
StopCause = Literal["user", "policy", "budget", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """Always seq 0. Ids and times live in the log so that any node renders the same bytes."""

    type: ClassVar[str] = "run-started"
    conversation_id: str
    session_id: str
    user_message_id: str
    message_id: str
    at_ms: int
    ahead: int = 0
    """Turns of the same conversation that were before this one when it was accepted."""
    request_key: str | None = None
    message_length: int | None = None
    """Of the user's message, in UTF-16 units; None in logs from before it was noted."""
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """One model call. A takeover raises `epoch`."""

    type: ClassVar[str] = "call-started"
    epoch: int
    provider: str
    model: str
    reason: CallReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """Text that the model marks as its reasoning; never part of the reply's text."""

    type: ClassVar[str] = "reasoning-delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReported:
    """What one call used: the last event of every call, of one that failed or was cut too. Unknown is None, never 0.

    In logs from before costs were kept, only calls that came to their end have one, without a cost.
    """

    type: ClassVar[str] = "usage"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: str | None = None
    """US dollars as a decimal string; None where the price is not known."""
    counted: bool = False
    """The tokens were counted here, because the model's server has not told them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled:
    """The model asked for a tool. All calls of one answer are written together, when it has ended."""

    type: ClassVar[str] = "tool-call"
    call_id: str
    """Unique in its run."""
    name: str
    arguments: str
    """As the model wrote them, whole: JSON text, unless the model went wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked:
    """A person must agree before the call runs."""

    type: ClassVar[str] = "approval-asked"
    call_id: str
    until_ms: int
    """When nobody has answered by then, the call is not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    """A person has agreed or refused, or nobody answered in time."""

    type: ClassVar[str] = "approval-given"
    call_id: str
    granted: bool
    by: str | None = None
    """Who; None where nobody answered."""
    reason: str | None = None
    """In the person's words; the model is told why it was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """The call begins to run: from here on nobody can say that it had no effect."""

    type: ClassVar[str] = "tool-started"
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResulted:
    """What the model is told: the tool's output, or why there is none."""

    type: ClassVar[str] = "tool-result"
    call_id: str
    output: str
    is_error: bool
    elapsed_s: float
    """0 for a call that was not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """Terminal: the model came to an end."""

    type: ClassVar[str] = "run-finished"
    reason: FinishReason
    message_count: int
    response_time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """Terminal: the reply could not be completed; its partial text is kept."""

    type: ClassVar[str] = "run-failed"
    code: str
    message: str
    retryable: bool
    message_count: int
    response_time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped:
    """Terminal: somebody or some limit ended it; its partial text is kept."""

    type: ClassVar[str] = "run-stopped"
    by: StopCause
    message_count: int
    response_time_ms: int


Terminal: TypeAlias = RunFinished | RunFailed | RunStopped
ToolEvent: TypeAlias = ToolCalled | ApprovalAsked | ApprovalGiven | ToolStarted | ToolResulted
Event: TypeAlias = RunStarted | CallStarted | ReasoningDelta | UsageReported | ToolEvent | Terminal
LogItem: TypeAlias = str | Event
"""What is appended: a bare str is a text delta."""

EVENT_TYPES: dict[str, type[Event]] = {
    cls.type: cls
    for cls in (
        RunStarted,
        CallStarted,
        ReasoningDelta,
        UsageReported,
        ToolCalled,
        ApprovalAsked,
        ApprovalGiven,
        ToolStarted,
        ToolResulted,
        RunFinished,
        RunFailed,
        RunStopped,
    )
}
TERMINAL: tuple[type[Terminal], ...] = (RunFinished, RunFailed, RunStopped)

"""The typed events of a run's log.

Pure. A log is dense and append-only: seq counts from 0, one seq a delta. Its first event is RunStarted, its last is
exactly one of TERMINAL. A text delta, by far the most frequent event, is a bare non-empty `str`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

SCHEMA_VERSION = 1
"""Version of this vocabulary, stored with every row; older versions are upcast on read, for ever."""

CallReason = Literal["first", "retry", "failover", "takeover"]
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
    """What one call used. Unknown is None, never 0."""

    type: ClassVar[str] = "usage"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: str | None = None
    """US dollars as a decimal string."""


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
Event: TypeAlias = RunStarted | CallStarted | ReasoningDelta | UsageReported | Terminal
LogItem: TypeAlias = str | Event
"""What is appended: a bare str is a text delta."""

EVENT_TYPES: dict[str, type[Event]] = {
    cls.type: cls
    for cls in (
        RunStarted,
        CallStarted,
        ReasoningDelta,
        UsageReported,
        RunFinished,
        RunFailed,
        RunStopped,
    )
}
TERMINAL: tuple[type[Terminal], ...] = (RunFinished, RunFailed, RunStopped)

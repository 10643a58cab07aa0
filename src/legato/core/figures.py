"""What is counted of replies, as services tell it.

Pure. Times are milliseconds; what is not known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

By = Literal["day", "model", "session", "none"]
BY: Final[tuple[By, ...]] = ("day", "model", "session", "none")
"""What figures can be grouped by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long something took, over all replies where it is known.

    Percentiles are by the nearest rank: p95 is the least that was measured of which 95 of 100 are no more.
    """

    mean_ms: float | None
    p50_ms: int | None
    p95_ms: int | None

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"mean": self.mean_ms, "p50": self.p50_ms, "p95": self.p95_ms}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbs:
    """How many replies were found good, and bad."""

    up: int
    down: int

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"up": self.up, "down": self.down}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is counted of the replies of one day, model or session, or of all.

    Attributes:
        key: The day (UTC, `YYYY-MM-DD`, of the replies' ends), model or session; None where a reply has none, and
            where nothing groups them.
        messages: Replies that were completed.
        errors, stops: Replies that failed, and that were stopped.
        input_tokens, output_tokens: Sums of what is known, over all three; None where nothing is.
        estimated: How many of the replies have a guess for their output, because the model's server told nothing.
        response_time, first_token: From start to end, and to the first token; of completed replies.
        cost_usd: Sum of what is known, a decimal; None where nothing is.
        cost_unknown: How many of the replies have no known cost.
        conversations: How many different ones the replies are in.
    """

    key: str | None
    messages: int
    errors: int
    stops: int
    input_tokens: int | None
    output_tokens: int | None
    estimated: int
    response_time: Durations
    first_token: Durations
    cost_usd: str | None
    cost_unknown: int
    conversations: int
    feedback: Thumbs

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it; durations in milliseconds, the cost in US dollars."""
        return {
            "key": self.key,
            "messages": self.messages,
            "errors": self.errors,
            "stops": self.stops,
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "estimated": self.estimated,
            "responseTimeMs": self.response_time.as_json(),
            "firstTokenMs": self.first_token.as_json(),
            "cost": self.cost_usd,
            "costUnknown": self.cost_unknown,
            "conversations": self.conversations,
            "feedback": self.feedback.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFigures:
    """What is counted of one session.

    Attributes:
        total_messages: Replies that were completed.
        total_tokens: Input and output where they are known, else the guess; over all replies.
        estimated_tokens: Whether there is a guess among them.
        average_response_time_ms: Mean of completed replies; None where there is none.
        conversations: Id and time of the last counted reply of the latest conversations, the latest first.
        conversation_count: How many there are, also where `conversations` has not all of them.
        last_message_at_ms: Of the last counted reply; None where there is none.
    """

    session_id: str
    total_messages: int
    total_tokens: int
    estimated_tokens: bool
    average_response_time_ms: float | None
    conversation_count: int
    conversations: dict[str, int]
    errors: int
    stops: int
    feedback: Thumbs
    last_message_at_ms: int | None

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that existing users rely upon; times in epoch milliseconds."""
        return {
            "sessionId": self.session_id,
            "totalMessages": self.total_messages,
            "totalTokens": self.total_tokens,
            "estimatedTokens": self.estimated_tokens,
            "averageResponseTime": self.average_response_time_ms,
            "conversationCount": self.conversation_count,
            "conversations": self.conversations,
            "errors": self.errors,
            "stops": self.stops,
            "feedback": self.feedback.as_json(),
            "lastMessageAt": self.last_message_at_ms,
        }

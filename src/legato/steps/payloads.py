"""What the built-in topics carry; a queue step that names one of these as its input gets it checked and typed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Payload(BaseModel):
    """A payload: camelCase as JSON, snake_case in Python; what a later version adds is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class TokenUsage(Payload):
    """Tokens as the model's server told them; with `counted` some of them were counted here instead."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None
    counted: bool = False


class ChatMessageEnded(Payload):
    """A reply has come to an end.

    Attributes:
        id: Of the event: whoever counts each once counts right.
        message_length, response_length: In UTF-16 units, what JavaScript's `.length` gives.
        chunk_count: Pieces in which the reply was shown.
        timestamp: Of the end, epoch milliseconds.
        cost: US dollars as a decimal; None where the price is not known.
        response_time_ms, first_token_ms: From the start to the end, and to the first token.
    """

    id: str
    conversation_id: str
    session_id: str
    run_id: str
    message_id: str
    user_message_id: str
    message_length: int | None
    response_length: int
    chunk_count: int
    timestamp: int
    model: str | None
    usage: TokenUsage | None
    cost: str | None
    finish_reason: str | None
    response_time_ms: int
    first_token_ms: int | None


class ChatMessageCompleted(ChatMessageEnded):
    """Topic `chat.message.completed`: the model came to an end."""


class ChatMessageFailed(ChatMessageEnded):
    """Topic `chat.message.failed`: the reply could not be completed; `partial` says whether there is some text."""

    error: str
    code: str
    retryable: bool
    partial: bool


class ChatMessageStopped(ChatMessageEnded):
    """Topic `chat.message.stopped`: a person or a limit ended it."""

    stopped_by: Literal["user", "policy", "budget", "time"]


class ChatFeedbackGiven(Payload):
    """Topic `chat.feedback.given`: what a person thinks of a reply; `thumb` None takes it back."""

    id: str
    conversation_id: str
    session_id: str | None
    run_id: str | None
    message_id: str
    thumb: Literal["up", "down"] | None
    reason: str | None
    timestamp: int
    model: str | None


class BudgetEvent(Payload):
    """A budget has come to a mark; told once a budget, subject and period.

    Attributes:
        id: Of the event: whoever counts each once counts right.
        per: Whose budget it is.
        subject: Which of them: a principal, the id of a key, a session, a model; None for the server.
        since, until: The period, epoch milliseconds; `until` is None where it never begins anew.
        limit_usd, spent_usd: US dollars as a decimal.
        timestamp: When it came there, epoch milliseconds.
    """

    id: str
    per: Literal["server", "principal", "key", "session", "model"]
    subject: str | None
    period: Literal["day", "month", "all"]
    since: int
    until: int | None
    limit_usd: str
    spent_usd: str
    timestamp: int


class BudgetWarning(BudgetEvent):
    """Topic `budget.warning`: as much of a budget is spent as was to be told, 80 percent by default."""


class BudgetExhausted(BudgetEvent):
    """Topic `budget.spent`: a budget is spent, or a call was refused for which too little is left."""

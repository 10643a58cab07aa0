"""Conversations, their messages and runs, as services give them to steps and to the API.

Pure. Times are milliseconds since the Unix epoch; None is unknown, or not set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from legato.core.errors import InvalidRequest
from legato.core.run import RunState
from legato.core.usage import Usage

TitleSource = Literal["words", "model", "user"]
Retention = Annotated[str, Field(pattern=r"^(default|keep|[1-9][0-9]{0,5}h|[1-9][0-9]{0,4}d)$")]
"""`default`: a conversation is deleted when it was idle for as long as its owner, or else the server, says. `keep`:
never. A number of hours or days, as `36h` or `90d`: when it was idle for so long."""
MessageRole = Literal["user", "assistant"]
MessageStatus = Literal["complete", "queued", "running", "failed", "stopped"]
Thumb = Literal["up", "down"]
STATE_VIEWS: Final = ("conversations", "rate-limits", "session-stats")
"""Groups of state that show what the server keeps elsewhere; none can be written."""


def check_group_is_kept(group: str) -> None:
    """Refuse to write to a group that only shows something.

    Raises:
        InvalidRequest: It is one of STATE_VIEWS.
    """
    if group in STATE_VIEWS:
        raise InvalidRequest.of("group", f"{group!r} shows what the server keeps, and cannot be written: take another")


def retention_hours(retention: str) -> int | None:
    """Return for how many hours a conversation of its own retention is kept; None where it has no such number."""
    if retention in ("default", "keep"):
        return None
    return int(retention[:-1]) * (24 if retention[-1] == "d" else 1)


def state_group(conversation_id: str) -> str:
    """Return the group for state that goes with a conversation: it is deleted when the conversation is.

    Groups have 200 characters at most: a conversation whose id has more than 187 has no such group.
    """
    return f"conversation:{conversation_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation.

    Attributes:
        title_source: Who made the title: the first words, a model, or a person.
        leaf_id: Last message of the active branch; None where there is none yet.
        leaf_depth: How many messages the active branch has.
        active_run_id: The reply that is being made.
        retention: As the type says.
        pinned: Whether it is kept whatever its retention says.
        archived: Whether it is out of sight: listed only where archived ones are asked for.
        temporary: Whether it is never listed and never found.
    """

    id: str
    title: str
    title_source: TitleSource
    system_prompt: str | None
    model: str | None
    temperature: float | None
    max_tokens: int | None
    metadata: dict[str, Any] | None
    message_count: int
    leaf_id: str | None
    leaf_depth: int
    active_run_id: str | None
    created_at_ms: int
    last_message_at_ms: int
    retention: Retention
    pinned: bool
    archived: bool
    temporary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationPage:
    """Conversations, the one with the latest message first; `next_cursor` is None on the last page."""

    conversations: tuple[Conversation, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a person thinks of a reply."""

    thumb: Thumb
    reason: str | None
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFault:
    """Why a run failed; `code` is one of docs/reference/errors.md."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What something cost: US dollars as a decimal string."""

    usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a user, or a reply; one that is being made has what it said so far.

    Attributes:
        session_id: None in messages from before it was noted.
        text: All text of `parts`.
        parts: In the order in which they were said: `text` and `reasoning` (`text`), `tool-call` (`callId`, `name`,
            `arguments`, and `approval` where one was asked for) and `tool-result` (`callId`, `name`, `output`,
            `isError`, `elapsedMs`).
        created_at_ms: Of a reply that has ended, when it ended.
        run_id: The run that made the reply; None in a message of a user.
        usage: None where no model was asked, and in replies from before usage was counted where no server told it.
        cost: Of all calls of models for the reply; None where it is not known.
        siblings: Ids of the messages that stand in the same place, itself included, in order of making; None where
            nobody asked for them.
        response_time_ms: From the start of the reply's run to its end; None of copies and imports.
        first_token_ms: From the start of the reply's run to its first token.
        finish_reason: As the native protocol spells it; None while the reply is made, or where it failed.
        error: Why it failed.
    """

    id: str
    conversation_id: str
    session_id: str | None
    role: MessageRole
    text: str
    parts: list[dict[str, Any]]
    created_at_ms: int
    status: MessageStatus
    parent_id: str | None
    run_id: str | None
    model: str | None
    usage: Usage | None
    cost: Cost | None
    feedback: Feedback | None
    metadata: dict[str, Any] | None
    siblings: tuple[str, ...] | None = None
    response_time_ms: int | None = None
    first_token_ms: int | None = None
    finish_reason: str | None = None
    error: RunFault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePage:
    """Messages of a branch, oldest first; `next_cursor` is the `after` of the next page, None on the last."""

    messages: tuple[Message, ...]
    next_cursor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLogPage:
    """Messages of any conversations, oldest first; `next_cursor` is None on the last page."""

    messages: tuple[Message, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One reply being produced, or that was.

    Attributes:
        turn: Its number among the runs of the conversation, from 1.
        takeovers: How often another process took it up after a crash.
        calls: Calls of models so far.
        cost: Of all of them, once it has ended; None where it is not known.
        finish_reason: As the native protocol spells it; None while it goes on, or where it failed.
    """

    id: str
    conversation_id: str
    session_id: str
    user_message_id: str
    message_id: str
    state: RunState
    turn: int
    takeovers: int
    calls: int
    model: str | None
    usage: Usage | None
    cost: Cost | None
    finish_reason: str | None
    error: RunFault | None
    created_at_ms: int
    started_at_ms: int | None
    first_token_at_ms: int | None
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRun:
    """A run that answers a message: a new one, or the one that a repeated key has begun before."""

    run_id: str
    conversation_id: str
    session_id: str
    user_message_id: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A text in which everything stands that was looked for.

    Attributes:
        message_id: None: the conversation's title.
        snippet: The piece of the text around it, each match between U+E000 and U+E001.
        at_ms: When the text was written, or, of a title, given.
    """

    conversation: Conversation
    message_id: str | None
    snippet: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPage:
    """Texts that were found, the latest first; `next_cursor` is None on the last page."""

    results: tuple[Found, ...]
    next_cursor: str | None

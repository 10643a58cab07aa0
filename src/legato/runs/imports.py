"""Taking a conversation in that comes from elsewhere: all of it, or nothing. No model is called, and no run is made.

Messages get new ids; what they said, how they hang together, their times and the feedback on them stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from legato.core.errors import FieldError, InvalidRequest
from legato.core.ids import new_id
from legato.core.principal import Principal
from legato.core.resources import Conversation, Feedback, MessageRole, Retention, TitleSource
from legato.core.text import first_words
from legato.core.usage import Usage
from legato.runs.node import Node
from legato.runs.rows import conversation_of, feedback_column, usage_column
from legato.storage.transfer import insert_conversation

if TYPE_CHECKING:
    from legato.runs.moderate import Moderation

MAX_MESSAGES: Final = 10_000
"""Messages of one import: written in one transaction, which takes a tenth of a second then."""
MAX_FAULTS: Final = 20

_TEXTS: Final = ("text", "arguments", "output")
"""Fields of a message's parts that hold what was said."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedMessage:
    """A message as it comes; `id` and `parent_id` mean something among the messages of one import alone."""

    id: str
    parent_id: str | None
    role: MessageRole
    parts: list[dict[str, Any]]
    status: str
    model: str | None
    usage: Usage | None
    usd: str | None
    feedback: Feedback | None
    metadata: dict[str, Any] | None
    created_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConversation:
    """A conversation as it comes.

    Attributes:
        title: Empty: the first words of its first message.
        model: Left out where it is not configured here.
        leaf_id: Of the reply in which the active branch ends; None: the last one.
        created_at_ms: None: now.
    """

    title: str
    title_source: TitleSource
    system_prompt: str | None
    model: str | None
    temperature: float | None
    max_tokens: int | None
    metadata: dict[str, Any] | None
    retention: Retention
    pinned: bool
    archived: bool
    leaf_id: str | None
    created_at_ms: int | None
    messages: Sequence[ImportedMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message stands: its new id, that of its parent, and its branch and depth (docs/decisions/0007)."""

    id: str
    parent_id: str | None
    branch: str
    depth: int
    role: MessageRole


def place_all(messages: Sequence[ImportedMessage], now_ms: int) -> dict[str, Place]:
    """Return the place of each message by its old id.

    A parent comes before its children, so that there is no circle; questions and replies take turns on every path.

    Raises:
        InvalidRequest: They are no tree of questions and replies; names each message at fault.
    """
    places: dict[str, Place] = {}
    taken: set[tuple[str, int]] = set()
    faults: list[FieldError] = []
    for number, each in enumerate(messages):
        parent = None if each.parent_id is None else places.get(each.parent_id)
        if (fault := _fault(each, parent, known=each.id in places)) is not None:
            field, words = fault
            faults.append(FieldError(field=f"messages.{number}.{field}", message=words))
            if len(faults) == MAX_FAULTS:
                break
            if each.id in places:
                continue
        name = new_id("m", now_ms)
        branch, depth = (name, 1) if parent is None else (parent.branch, parent.depth + 1)
        if (branch, depth) in taken:
            branch = name
        taken.add((branch, depth))
        places[each.id] = Place(
            id=name,
            parent_id=None if parent is None else parent.id,
            branch=branch,
            depth=depth,
            role=each.role,
        )
    if faults:
        raise InvalidRequest(faults)
    return places


def _fault(message: ImportedMessage, parent: Place | None, *, known: bool) -> tuple[str, str] | None:
    """Return the field of a message that is wrong, and what is."""
    if known:
        return "id", "is that of a message before it: give each its own"
    if message.parent_id is not None and parent is None:
        return "parentId", "names no message before this one: list parents before their children"
    if message.role == "assistant" and (parent is None or parent.role != "user"):
        return "parentId", "names no message of the user, which a reply needs"
    if message.role == "user" and parent is not None and parent.role != "assistant":
        return "parentId", "names a message of the user: name a reply, or null"
    if message.role == "user" and message.status != "complete":
        return "status", "is not complete, as every message of the user is"
    if message.role == "user" and message.feedback is not None:
        return "feedback", "is for replies alone"
    return None


class Imports:
    """What one principal takes in."""

    def __init__(self, node: Node, principal: Principal) -> None:
        self._node = node
        self._owner = principal.id

    async def add(self, given: ImportedConversation) -> Conversation:
        """Make a conversation of what is given; it counts as used just now. Times that are still to come become now.

        Raises:
            InvalidRequest: The messages are no tree of questions and replies, or `leaf_id` names none of the replies.
            StorageUnavailable: The database takes no writes.
        """
        now_ms = self._node.clock.now_ms()
        places = place_all(given.messages, now_ms)
        leaf = _leaf(given, places)
        if self._node.moderation is not None:
            given = await _moderated(self._node.moderation, given)
        rows = [_row(each, places[each.id], now_ms) for each in given.messages]
        title = given.title or (first_words(_text(given.messages[0])) if given.messages else "")
        known = given.model in self._node.models.names
        values = {
            "id": new_id("c", now_ms),
            "title": title,
            "title_source": given.title_source if given.title else "words",
            "system_prompt": given.system_prompt,
            "model": given.model if known else None,
            "temperature": given.temperature,
            "max_tokens": given.max_tokens,
            "metadata": _column(given.metadata),
            "leaf_id": leaf.id if leaf else None,
            "leaf_branch": leaf.branch if leaf else None,
            "leaf_depth": leaf.depth if leaf else 0,
            "next_turn": sum(1 for each in given.messages if each.role == "assistant") + 1,
            "message_count": len(rows),
            "retention": given.retention,
            "pinned": given.pinned,
            "archived": given.archived,
            "temporary": False,
            "created_at_ms": _at(given.created_at_ms, now_ms),
            # An old one would be deleted at the next cleanup.
            "last_message_at_ms": now_ms,
        }
        row = await self._node.committer.write(
            lambda tx: insert_conversation(tx, self._owner, values, rows),
            wait_s=self._node.settings.storage_wait_s,
        )
        return conversation_of(row)


async def _moderated(moderation: Moderation, given: ImportedConversation) -> ImportedConversation:
    """Return what is given as policies leave it."""
    told = [[[part.get(name) for name in _TEXTS] for part in each.parts] for each in given.messages]
    of_messages = [[each.metadata, None if each.feedback is None else each.feedback.reason] for each in given.messages]
    brought = [given.title, given.system_prompt, given.metadata, told, of_messages]
    title, system_prompt, metadata, told, of_messages = await moderation.imported(brought)
    messages = [
        replace(
            each,
            parts=[
                part | {name: text for name, text in zip(_TEXTS, texts, strict=True) if name in part}
                for part, texts in zip(each.parts, parts, strict=True)
            ],
            metadata=of_message,
            feedback=None if each.feedback is None else replace(each.feedback, reason=reason),
        )
        for each, parts, (of_message, reason) in zip(given.messages, told, of_messages, strict=True)
    ]
    return replace(given, title=title, system_prompt=system_prompt, metadata=metadata, messages=messages)


def _leaf(given: ImportedConversation, places: dict[str, Place]) -> Place | None:
    if given.leaf_id is not None:
        leaf = places.get(given.leaf_id)
        if leaf is None or leaf.role != "assistant":
            raise InvalidRequest.of("conversation.leafId", "names no reply among the messages")
        return leaf
    replies = [each.id for each in given.messages if each.role == "assistant"]
    if given.messages and not replies:
        raise InvalidRequest.of("messages", "hold no reply: a branch ends in one")
    return places[replies[-1]] if replies else None


def _row(message: ImportedMessage, place: Place, now_ms: int) -> dict[str, Any]:
    return {
        "id": place.id,
        "parent_id": place.parent_id,
        "branch": place.branch,
        "depth": place.depth,
        "role": message.role,
        "parts": _encode(message.parts).decode(),
        "status": message.status,
        "run_id": None,
        "session_id": None,
        "model": message.model,
        "usage": usage_column(message.usage, message.usd),
        "metadata": _column(message.metadata),
        "feedback": feedback_column(message.feedback),
        "created_at_ms": _at(message.created_at_ms, now_ms),
    }


def _text(message: ImportedMessage) -> str:
    return "".join(part["text"] for part in message.parts if part["type"] == "text")


def _at(time_ms: int | None, now_ms: int) -> int:
    return now_ms if time_ms is None else min(time_ms, now_ms)


def _column(metadata: dict[str, Any] | None) -> str | None:
    return None if metadata is None else _encode(metadata).decode()

"""What somebody says of a conversation (title, system prompt, metadata and the like), until it is kept.

Texts among it pass the policies of requests first; what they want somebody to look at goes into the queue in the
transaction that keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from legato.core.text import first_words
from legato.runs.context import parts_text
from legato.runs.inputs import ConversationChanges, FirstSettings
from legato.runs.node import Node
from legato.storage.conversations import change_conversation, create_conversation, find_conversation, fork_conversation
from legato.storage.messages import find_page
from legato.storage.reviews import NewReview, insert_reviews
from legato.storage.statement import Transaction


def first_columns(node: Node, settings: FirstSettings) -> dict[str, Any]:
    """Return the columns of a conversation that is made with these settings.

    Raises:
        InvalidRequest: The model is not configured.
    """
    columns = _columns(node, settings) | {"temporary": bool(settings.get("temporary"))}
    if (title := settings.get("title")) is not None:
        columns |= {"title": title, "title_source": "user"}
    return columns


def changed_columns(node: Node, changes: ConversationChanges) -> dict[str, Any]:
    """Return the columns that changes set; an empty title stands for the first words.

    Raises:
        InvalidRequest: The model is not configured.
    """
    columns = _columns(node, changes)
    if "archived" in changes:
        columns["archived"] = bool(changes["archived"])
    if "title" in changes:
        title = changes["title"]
        columns |= {"title": title or "", "title_source": "user" if title else "words"}
    return columns


async def judged(node: Node, owner: str, conversation_id: str, columns: dict[str, Any]) -> Sequence[NewReview]:
    """Have policies judge what is about to be kept; `columns` then hold what they left.

    Raises:
        InvalidRequest, BudgetExceeded: As Moderation.settings.
    """
    return () if node.moderation is None else await node.moderation.settings(owner, conversation_id, columns)


def make(
    tx: Transaction,
    owner: str,
    conversation_id: str,
    columns: dict[str, Any],
    *,
    reviews: Sequence[NewReview],
    now_ms: int,
) -> Any:
    """Make an empty conversation; return its row.

    Raises:
        Conflict: There is one with this id.
    """
    create_conversation(tx, owner, conversation_id, now_ms, **columns)
    return _reviewed(tx, owner, find_conversation(tx, owner, conversation_id), reviews, now_ms)


def change(
    tx: Transaction,
    owner: str,
    conversation_id: str,
    columns: dict[str, Any],
    *,
    leaf_id: str | None,
    reviews: Sequence[NewReview],
    now_ms: int,
) -> Any:
    """Change a conversation; return its row.

    Raises:
        NotFound, Conflict: As storage.conversations.change_conversation.
    """
    if columns.get("title") == "" and (row := find_conversation(tx, owner, conversation_id)) is not None:
        columns = columns | {"title": _title_by_words(tx, row)}
    row = change_conversation(tx, owner, conversation_id, columns, leaf_id)
    return _reviewed(tx, owner, row, reviews, now_ms)


def fork(
    tx: Transaction,
    owner: str,
    conversation_id: str,
    copy_id: str,
    *,
    message_id: str | None,
    prefix: str,
    title: str | None,
    reviews: Sequence[NewReview],
    now_ms: int,
) -> Any:
    """Copy a conversation; return the copy's row.

    Raises:
        NotFound, Conflict: As storage.conversations.fork_conversation.
    """
    row = fork_conversation(
        tx, owner, conversation_id, new_id=copy_id, message_id=message_id, prefix=prefix, title=title, now_ms=now_ms
    )
    return _reviewed(tx, owner, row, reviews, now_ms)


def _reviewed(tx: Transaction, owner: str, row: Any, reviews: Sequence[NewReview], now_ms: int) -> Any:
    if reviews:
        of = {"owner": owner, "conversation_id": row.id, "conversation_key": row.key}
        insert_reviews(tx, reviews, run_id="", now_ms=now_ms, **of)
    return row


def _columns(node: Node, given: FirstSettings | ConversationChanges) -> dict[str, Any]:
    """Return the columns that settings are kept in, but for the title's."""
    if (model := given.get("model")) is not None:
        node.models.find(model)
    columns: dict[str, Any] = {
        name: value for name, value in given.items() if name in ("system_prompt", "model", "temperature", "max_tokens")
    }
    if "metadata" in given:
        metadata = given["metadata"]
        columns["metadata"] = None if metadata is None else msgspec.json.encode(metadata).decode()
    if "retention" in given:
        columns["retention"] = given["retention"] or "default"
    if "pinned" in given:
        columns["pinned"] = bool(given["pinned"])
    return columns


def _title_by_words(tx: Transaction, conversation: Any) -> str:
    first = find_page(tx, conversation.key, conversation.leaf_id, 0, 1) if conversation.leaf_id else []
    return first_words(parts_text(first[0].parts)) if first else ""

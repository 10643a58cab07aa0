"""Conversations as a whole: reading all messages of one, and writing one that comes from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select

from legato.core.resources import retention_hours
from legato.storage.conversations import find_conversation
from legato.storage.messages import MADE_BY, OF_RUN
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import message, run
from legato.storage.turns import INSERT_CONVERSATION, INSERT_MESSAGE

# One range of the index on the conversation, which has its branches in order, not the time.
_KEYS = Prepared(select(message.c.key).where(message.c.conversation_key == bindparam("conversation_key")))
_BY_KEY = Prepared(
    select(*message.columns, *OF_RUN)
    .select_from(message)
    .outerjoin(run, MADE_BY)
    .where(
        message.c.key == bindparam("key"),
        # The keys may be another's by now.
        message.c.owner == bindparam("owner"),
        message.c.conversation_key == bindparam("conversation_key"),
    )
)


def list_message_keys(tx: Transaction, conversation_key: int) -> list[int]:
    """Return the keys of all messages of a conversation, in order of making."""
    return sorted(row.key for row in tx.all(_KEYS, conversation_key=conversation_key))


def find_messages(tx: Transaction, owner: str, conversation_key: int, keys: Sequence[int]) -> list[Any]:
    """Return the messages of these keys, but for those that have gone meanwhile."""
    rows = [tx.one(_BY_KEY, key=key, owner=owner, conversation_key=conversation_key) for key in keys]
    return [row for row in rows if row is not None]


def insert_conversation(tx: Transaction, owner: str, values: dict[str, Any], messages: Sequence[dict[str, Any]]) -> Any:
    """Write a conversation with its messages, which name their parents by id; return its row.

    Args:
        values: All columns of the conversation but its key and owner.
        messages: All columns of each message but key, owner and conversation.
    """
    key = tx.insert(INSERT_CONVERSATION, owner=owner, **values, own_idle_h=retention_hours(values["retention"]))
    shared = {"owner": owner, "conversation_key": key}
    tx.many(INSERT_MESSAGE, [shared | each for each in messages])
    return find_conversation(tx, owner, values["id"])

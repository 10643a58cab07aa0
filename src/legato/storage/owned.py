"""What there is of a principal, or of one conversation: counted for whoever is about to erase it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Table, bindparam, cast, func, select

from legato.core.errors import NotFound
from legato.storage.account_tables import account
from legato.storage.charge_tables import charge
from legato.storage.review_tables import review
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import IS_UNFINISHED, api_key, conversation, run, state

_sums: tuple[Any, ...] = (
    func.count().label("conversations"),
    cast(func.coalesce(func.sum(conversation.c.message_count), 0), BigInteger).label("messages"),
)
_CONVERSATIONS = Prepared(select(*_sums).where(conversation.c.owner == bindparam("owner")))
_ONE = Prepared(
    select(conversation.c.key, conversation.c.message_count, conversation.c.held_at_ms).where(
        conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id")
    )
)
_UNFINISHED = Prepared(
    select(func.count().label("number"))
    .select_from(run)
    .where(run.c.conversation_key == bindparam("conversation_key"), IS_UNFINISHED)
)


def _count(table: Table) -> Prepared:
    return Prepared(select(func.count().label("number")).select_from(table).where(table.c.owner == bindparam("owner")))


_OTHERS: Final[dict[str, Prepared]] = {
    "keys": _count(api_key),
    "accounts": _count(account),
    "state of steps": _count(state),
    "flagged texts": _count(review),
    "charged calls (figures stay, without a name)": _count(charge),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation, as whoever erases it needs to know it.

    Attributes:
        unfinished: Replies that are being made in it, or wait.
        held: It may not be deleted.
    """

    messages: int
    unfinished: int
    held: bool


def count_owned(tx: Transaction, owner: str) -> dict[str, int]:
    """Return how many rows of which kind a principal has, in words for people; kinds of which there is none too."""
    row: Any = tx.one(_CONVERSATIONS, owner=owner)
    counts = {"conversations": row.conversations, "messages": row.messages}
    return counts | {name: tx.one(order, owner=owner).number for name, order in _OTHERS.items()}


def find_conversation(tx: Transaction, owner: str, conversation_id: str) -> Conversation:
    """Return what there is of a conversation.

    Raises:
        NotFound: There is none.
    """
    row = tx.one(_ONE, owner=owner, id=conversation_id)
    if row is None:
        raise NotFound(f"{owner} has no conversation {conversation_id}")
    unfinished = tx.one(_UNFINISHED, conversation_key=row.key).number
    return Conversation(messages=row.message_count, unfinished=unfinished, held=row.held_at_ms is not None)

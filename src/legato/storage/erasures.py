"""What goes beside the rows of a conversation or a principal, what stays of them without a name, and what is still to
be erased elsewhere: in the queue, and in the bytes of a file.

A conversation's own rows go by their foreign keys (storage.conversations). tests/unit/test_erase_tables.py holds every
table of the schema to a decision about it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    tuple_,
    update,
)

from legato.core.errors import BeingErased, SealBroken
from legato.core.ids import is_made_id
from legato.core.topics import CHAT_TOPICS
from legato.storage.audit_tables import erasure
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import (
    api_key,
    conversation,
    outbox,
    reply_count,
    reply_total,
    request_key,
    segment,
    sign_in,
    state,
)

HOUR_MS: Final = 3_600_000
PAGE_ROWS: Final = 500
"""Rows of a table that one transaction deletes."""
PAGE_CONVERSATIONS: Final = 20
PAGE_MESSAGES: Final = 200
"""A page of conversations ends behind the one with which it has come to so many messages."""

_TOTALS: Final = [column.name for column in reply_total.columns if column.name not in ("key", "at_ms")]
_hour = literal_column(str(HOUR_MS), BigInteger)
_KEEP_TOTALS = Prepared(
    insert(reply_total).from_select(
        ["at_ms", *_TOTALS],
        select(reply_count.c.at_ms - reply_count.c.at_ms % _hour, *(reply_count.c[name] for name in _TOTALS)).where(
            reply_count.c.conversation_key == bindparam("conversation_key"), reply_count.c.outcome.is_not(None)
        ),
        include_defaults=False,
    )
)
_DELETE_PIECES = Prepared(
    text(
        "DELETE FROM piece WHERE run_key IN"
        " (SELECT key FROM run WHERE conversation_key = CAST(:conversation_key AS bigint))"
    )
)
_NOTE = Prepared(insert(erasure).values({name: bindparam(name) for name in ("owner", "conversation_id")}))
_BEGIN = insert_into(erasure, without="id")
_FIND = Prepared(
    select(*erasure.columns).where(erasure.c.owner == bindparam("owner"), erasure.c.conversation_id.is_(None))
)
_LOCK = Prepared(
    select(erasure.c.id)
    .where(erasure.c.owner == bindparam("owner"), erasure.c.conversation_id.is_(None))
    .with_for_update()
)
_LIST = Prepared(select(*erasure.columns).order_by(erasure.c.id).limit(bindparam("most")))
_PRINCIPALS = Prepared(
    select(*erasure.columns)
    # As the index has it.
    .where(text("conversation_id IS NULL"), erasure.c.owner > bindparam("after"))
    .order_by(erasure.c.owner)
    .limit(bindparam("most"))
)
_SAVE = Prepared(update(erasure).where(erasure.c.id == bindparam("of_id")).values(done=bindparam("new_done")))
_END = Prepared(delete(erasure).where(erasure.c.id == bindparam("of_id")))
_CONVERSATIONS = Prepared(
    select(conversation.c.key, conversation.c.id, conversation.c.message_count)
    .where(
        conversation.c.owner == bindparam("owner"),
        conversation.c.id > bindparam("after"),
        # One that is held by itself stays, and the erasure with it.
        conversation.c.held_at_ms.is_(None),
    )
    .order_by(conversation.c.id)
    .limit(bindparam("most"))
    .with_for_update()
)
_MADE = Prepared(
    select(conversation.c.created_at_ms).where(
        conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id")
    )
)
# What an event says is read of few alone: one that does not open, as its owner's key is gone, must not stop the others.
_OUTBOX = Prepared(
    select(outbox.c.id, outbox.c.owner)
    .where(outbox.c.id > bindparam("after"))
    .order_by(outbox.c.id)
    .limit(bindparam("most"))
)
_EVENT = Prepared(select(outbox).where(outbox.c.id == bindparam("of_id")))
_DELETE_EVENT = Prepared(delete(outbox).where(outbox.c.id == bindparam("of_id")))
_SEGMENTS = Prepared(select(func.min(segment.c.id).label("first")))
_LAST_SEGMENT = Prepared(select(func.max(segment.c.id).label("last")))
_KEYS = Prepared(select(api_key.c.id).where(api_key.c.owner == bindparam("owner")))
_DELETE_KEY = Prepared(delete(api_key).where(api_key.c.id == bindparam("of_id")))
_DELETE_SIGN_INS = Prepared(delete(sign_in).where(sign_in.c.key_id == bindparam("of_id")))
_DELETE_SIGN_INS_OF_OWNER = Prepared(delete(sign_in).where(sign_in.c.owner == bindparam("owner")))
_DELETE_WINDOWS = Prepared(
    text(
        "DELETE FROM rate_window WHERE key = 'principal' || chr(31) || :owner"
        " OR (key >= 'session' || chr(31) || :owner || chr(31) AND key < 'session' || chr(31) || :owner || chr(32))"
    )
)


def _delete_of_owner(table: Any, *keys: Any) -> Prepared:
    """Return what deletes the next rows of an owner, by the beginning of the table's key."""
    some = select(*keys).where(table.c.owner == bindparam("owner")).limit(bindparam("most"))
    found = tuple_(*keys).in_(some) if len(keys) > 1 else keys[0].in_(some)
    return Prepared(delete(table).where(table.c.owner == bindparam("owner"), found))


_OF_OWNER: Final = {
    "state": _delete_of_owner(state, state.c.group, state.c.key),
    "request_key": _delete_of_owner(request_key, request_key.c.key),
}


def keep_totals(tx: Transaction, conversation_key: int) -> None:
    """Keep what was counted of a conversation's replies, without whose they were, before it goes."""
    tx.run(_KEEP_TOTALS, conversation_key=conversation_key)


def delete_logs(tx: Transaction, conversation_key: int) -> None:
    """Delete what was appended to the logs of a conversation's runs and is not packed yet.

    On SQLite such a row holds pieces of many runs; it goes when none of them is being made any more.
    """
    if tx.database == "postgresql":
        tx.run(_DELETE_PIECES, conversation_key=conversation_key)


def note_erased(tx: Transaction, owner: str, conversation_id: str) -> None:
    """Note that what speaks of a conversation elsewhere is to be erased too."""
    tx.insert(_NOTE, owner=owner, conversation_id=conversation_id)


def begin_erasure(
    tx: Transaction, owner: str, *, actor: str, via: str, key_id: str | None, now_ms: int
) -> tuple[int, bool]:
    """Note that all that a principal has is to be erased; return the erasure's id, and whether it is new."""
    if (found := tx.one(_FIND, owner=owner)) is not None:
        return found.id, False
    values = {"actor": actor, "via": via, "key_id": key_id, "asked_at_ms": now_ms, "done": "{}"}
    return tx.insert(_BEGIN, owner=owner, conversation_id=None, **values), True


def find_erasure(tx: Transaction, owner: str) -> Any | None:
    """Return the row of a principal's erasure that goes on, or None."""
    return tx.one(_FIND, owner=owner)


def lock_erasure(tx: Transaction, owner: str) -> None:
    """Keep a principal's erasure, where one goes on, from doing anything until this transaction ends.

    Who deletes for it and who holds what it is about take turns by it: nothing is deleted behind an answer that says
    that it is held.
    """
    tx.one(_LOCK, owner=owner)


def check_not_being_erased(tx: Transaction, owner: str) -> None:
    """Refuse to make anything for a principal that is being erased: it would be deleted with the rest.

    Raises:
        BeingErased: So it is.
    """
    if find_erasure(tx, owner) is not None:
        raise being_erased()


def being_erased() -> BeingErased:
    """Return the error for whoever comes back too early."""
    return BeingErased("all that this principal had is being erased: come back when that has ended")


def list_erasures(tx: Transaction, limit: int) -> list[Any]:
    """Return the rows of all erasures that go on, oldest first."""
    return tx.all(_LIST, most=limit)


def list_principals(tx: Transaction, after: str, limit: int) -> list[Any]:
    """Return the rows of the erasures of principals, in the order of their ids."""
    return tx.all(_PRINCIPALS, after=after, most=limit)


def save_counts(tx: Transaction, erasure_id: int, counts: dict[str, int]) -> None:
    """Keep what was deleted so far."""
    tx.run(_SAVE, of_id=erasure_id, new_done=msgspec.json.encode(counts).decode())


def end_erasures(tx: Transaction, ids: Sequence[int]) -> None:
    """Forget erasures: nothing is left."""
    tx.many(_END, [{"of_id": each} for each in ids])


def next_conversations(tx: Transaction, owner: str, after: str) -> list[Any]:
    """Return the next conversations of a principal, held by this transaction until its end."""
    rows = tx.all(_CONVERSATIONS, owner=owner, after=after, most=PAGE_CONVERSATIONS)
    messages = 0
    for place, row in enumerate(rows):
        messages += row.message_count
        if messages >= PAGE_MESSAGES:
            return rows[: place + 1]
    return rows


def delete_credentials(tx: Transaction, owner: str) -> int:
    """Delete what a principal could come in by; return how many keys that were."""
    keys = [row.id for row in tx.all(_KEYS, owner=owner)]
    for key_id in keys:
        tx.run(_DELETE_SIGN_INS, of_id=key_id)
        tx.run(_DELETE_KEY, of_id=key_id)
    tx.run(_DELETE_SIGN_INS_OF_OWNER, owner=owner)
    return len(keys)


def delete_owned(tx: Transaction, owner: str) -> dict[str, int]:
    """Delete the next rows that name a principal, beside conversations; return how many of each table."""
    counts = {name: tx.run(order, owner=owner, most=PAGE_ROWS) for name, order in _OF_OWNER.items()}
    if tx.database == "postgresql":
        counts["rate_window"] = tx.run(_DELETE_WINDOWS, owner=owner)
    return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """Of whom nothing is to be left.

    Attributes:
        owners: Principals.
        conversations: By owner and id, until when (epoch milliseconds, exclusive) what happened in it is to go: an id
            may be given to another conversation later.
    """

    owners: frozenset[str]
    conversations: Mapping[tuple[str, str], int]

    def names(self, owner: str, topic: str, payload: Any, at_ms: int) -> bool:
        """Whether an event is of them: its owner is, or its payload names a conversation of that owner.

        What the chat tells has a field for that. Elsewhere any text may be the id, so that only ids that the server
        has made count: one that a client has chosen may be a common word.
        """
        if owner in self.owners:
            return True
        return any(
            owner == of and at_ms < until_ms and _is_about(topic, payload, id_)
            for (of, id_), until_ms in self.conversations.items()
        )


def _is_about(topic: str, payload: Any, conversation_id: str) -> bool:
    if topic in CHAT_TOPICS:
        return isinstance(payload, dict) and payload.get("conversationId") == conversation_id
    return is_made_id("c", conversation_id) and _holds(payload, conversation_id)


def _holds(value: Any, wanted: str) -> bool:
    match value:
        case str():
            return value == wanted
        case dict():
            return any(_holds(each, wanted) for each in value.values())
        case list():
            return any(_holds(each, wanted) for each in value)
        case _:
            return False


def erase_events(tx: Transaction, erased: Erased, after: int) -> int | None:
    """Delete the next events that wait in the outbox; return the place behind, None at the end."""
    rows = tx.all(_OUTBOX, after=after, most=PAGE_ROWS)
    gone = [row.id for row in rows if row.owner in erased.owners or _names(tx, erased, row)]
    tx.many(_DELETE_EVENT, [{"of_id": each} for each in gone])
    return rows[-1].id if len(rows) == PAGE_ROWS else None


def _names(tx: Transaction, erased: Erased, row: Any) -> bool:
    if not any(owner == row.owner for owner, _ in erased.conversations):
        return False
    try:
        event = tx.one(_EVENT, of_id=row.id)
    except SealBroken:
        # Nobody can read it any more, this erasure neither.
        return False
    return erased.names(event.owner, event.topic, msgspec.json.decode(event.payload), event.at_ms)


def last_segment(tx: Transaction) -> int:
    """Return the number of the newest segment, 0 where there is none."""
    return tx.one(_LAST_SEGMENT).last or 0


def first_segment(tx: Transaction) -> int | None:
    """Return the number of the oldest segment, None where there is none: what was begun before it is packed."""
    return tx.one(_SEGMENTS).first  # type: ignore[no-any-return]


def find_erased(tx: Transaction, rows: Collection[Any], now_ms: int) -> Erased:
    """Return what erasures' rows name: of conversations what happened until now, or until another one had its id."""
    until: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.conversation_id is not None:
            later = tx.one(_MADE, owner=row.owner, id=row.conversation_id)
            until[row.owner, row.conversation_id] = now_ms + 1 if later is None else later.created_at_ms
    return Erased(owners=frozenset(row.owner for row in rows if row.conversation_id is None), conversations=until)


STATEMENTS: Final = (
    _KEEP_TOTALS,
    _FIND,
    _LOCK,
    _LIST,
    _PRINCIPALS,
    _CONVERSATIONS,
    _OUTBOX,
    _EVENT,
    _SEGMENTS,
    _LAST_SEGMENT,
    _KEYS,
    *_OF_OWNER.values(),
)
"""For the test that none reads a whole table."""

"""Reading messages: the path from a conversation's first message to any other, in pages, and feedback."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import CompoundSelect, Select, and_, bindparam, func, literal_column, select, union_all, update

from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation, message, run

# The branches between a message and the root, each with the depth up to which the path runs in it. There is one row
# a fork, not one a message, so a path of 10,000 messages that was never edited is one range of one index.
_start = select(
    message.c.conversation_key.label("conversation_key"),
    message.c.branch.label("branch"),
    message.c.depth.label("top"),
).where(message.c.id == bindparam("tip_id"), message.c.conversation_key == bindparam("conversation_key"))
_path = _start.cte("path", recursive=True)
_fork = message.alias("fork")
_parent = message.alias("parent")
_path = _path.union_all(
    select(_parent.c.conversation_key, _parent.c.branch, _parent.c.depth)
    .select_from(_path)
    .join(_fork, _fork.c.id == _path.c.branch)
    .join(_parent, _parent.c.id == _fork.c.parent_id)
)


def path_to(columns: Sequence[Any]) -> Select[Any]:
    """Select from the messages on the path to `:tip_id` in `:conversation_key`."""
    return (
        select(*columns)
        .select_from(_path)
        .join(
            message,
            and_(
                message.c.conversation_key == _path.c.conversation_key,
                message.c.branch == _path.c.branch,
                message.c.depth <= _path.c.top,
            ),
        )
    )


# What a message shows of the run that made it. The messages of a user name the run that answers them.
OF_RUN: Final = (
    run.c.response_time_ms,
    run.c.first_token_ms,
    run.c.finish_reason,
    run.c.error,
    # What its texts are bound to where they are sealed.
    run.c.id.label("made_by"),
    run.c.key.label("made_by_key"),
)
MADE_BY: Final = and_(run.c.id == message.c.run_id, message.c.role == literal_column("'assistant'"))
_is_on_page = and_(message.c.depth > bindparam("after"), message.c.depth <= bindparam("until"))
_PAGE = Prepared(
    path_to((*message.columns, *OF_RUN)).outerjoin(run, MADE_BY).where(_is_on_page).order_by(message.c.depth)
)
# Messages in one place of the tree have one parent, and all but one of them begin a branch: that one goes on in the
# parent's. `branch = id` is written as the index ix_message_heads has it.
_head = message.alias("head")
_parent_of = message.alias("above")
_first = message.alias("first")


def _siblings(of: Select[Any]) -> CompoundSelect[Any]:
    heads = of.join(
        _head,
        and_(
            _head.c.conversation_key == message.c.conversation_key,
            _head.c.parent_id.is_not_distinct_from(message.c.parent_id),
            _head.c.branch == _head.c.id,
        ),
    ).with_only_columns(message.c.id.label("id"), _head.c.id.label("sibling_id"), _head.c.key.label("sibling_key"))
    firsts = (
        of.join(_parent_of, _parent_of.c.id == message.c.parent_id)
        .join(
            _first,
            and_(
                _first.c.conversation_key == _parent_of.c.conversation_key,
                _first.c.branch == _parent_of.c.branch,
                _first.c.depth == message.c.depth,
            ),
        )
        .with_only_columns(message.c.id, _first.c.id, _first.c.key)
    )
    return union_all(heads, firsts)


_SIBLINGS_OF_PAGE = Prepared(_siblings(path_to((message.c.id,)).where(_is_on_page)))
_SIBLINGS = Prepared(
    _siblings(
        select(message.c.id).where(
            message.c.id == bindparam("id"), message.c.conversation_key == bindparam("conversation_key")
        )
    )
)
# Walks from a message to its parents until enough is read: nothing beyond that is touched, however long the
# conversation is.
_walk = (
    select(
        message.c.key,
        message.c.id,
        message.c.conversation_key,
        message.c.parent_id,
        message.c.role,
        message.c.parts,
        func.length(message.c.parts).label("chars"),
        literal_column("1").label("steps"),
    )
    .where(message.c.id == bindparam("tip_id"), message.c.conversation_key == bindparam("conversation_key"))
    .cte("walk", recursive=True)
)
_older = message.alias("older")
_walk = _walk.union_all(
    select(
        _older.c.key,
        _older.c.id,
        _older.c.conversation_key,
        _older.c.parent_id,
        _older.c.role,
        _older.c.parts,
        _walk.c.chars + func.length(_older.c.parts),
        _walk.c.steps + literal_column("1"),
    )
    .select_from(_walk)
    .join(_older, _older.c.id == _walk.c.parent_id)
    .where(_walk.c.chars < bindparam("most_chars"), _walk.c.steps < bindparam("most_messages"))
)
_LATEST = Prepared(
    select(_walk.c.key, _walk.c.id, _walk.c.conversation_key, _walk.c.role, _walk.c.parts, _walk.c.steps)
)
_found = (
    select(*message.columns, *OF_RUN, conversation.c.id.label("conversation_id"))
    .join(conversation, conversation.c.key == message.c.conversation_key)
    .outerjoin(run, MADE_BY)
    .where(message.c.id == bindparam("id"), message.c.owner == bindparam("owner"))
)
_FIND = Prepared(_found)
_FIND_LOCKED = Prepared(_found.with_for_update(of=message, key_share=True))
_FEEDBACK = Prepared(
    update(message)
    .where(message.c.id == bindparam("message_id"), message.c.owner == bindparam("of_owner"))
    .values(feedback=bindparam("new_feedback"))
)

SEALED_LENGTH: Final = 3
"""How much longer parts are at most where they are sealed, as the database counts them."""


def find_page(tx: Transaction, conversation_key: int, tip_id: str, after: int, limit: int) -> list[Any]:
    """Return up to `limit` messages of the path to `tip_id` whose depth is past `after`, oldest first."""
    return tx.all(_PAGE, conversation_key=conversation_key, tip_id=tip_id, after=after, until=after + limit)


def find_siblings_of_page(
    tx: Transaction, conversation_key: int, tip_id: str, after: int, limit: int
) -> dict[str, tuple[str, ...]]:
    """Return, for each message of a page, the ids of those in its place, itself included, in order of making."""
    return _by_message(
        tx.all(_SIBLINGS_OF_PAGE, conversation_key=conversation_key, tip_id=tip_id, after=after, until=after + limit)
    )


def find_siblings(tx: Transaction, conversation_key: int, message_id: str) -> dict[str, tuple[str, ...]]:
    """Return the same for one message."""
    return _by_message(tx.all(_SIBLINGS, conversation_key=conversation_key, id=message_id))


def _by_message(rows: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for row in sorted(rows, key=attrgetter("sibling_key")):
        found.setdefault(row.id, []).append(row.sibling_id)
    return {name: tuple(dict.fromkeys(ids)) for name, ids in found.items()}


def find_path(tx: Transaction, conversation_key: int, tip_id: str, most_messages: int, most_chars: int) -> list[Any]:
    """Return (role, parts) of the end of the path to `tip_id`, oldest first.

    It begins with the message with which `most_chars` of parts (JSON) or `most_messages` are reached.
    """
    rows = tx.all(
        _LATEST,
        conversation_key=conversation_key,
        tip_id=tip_id,
        most_messages=most_messages,
        most_chars=most_chars if tx.sealing is None else SEALED_LENGTH * most_chars,
    )
    rows.sort(key=attrgetter("steps"))
    if tx.sealing is not None:
        rows = _first_of(rows, most_chars)
    rows.reverse()
    return rows


def _first_of(rows: list[Any], most_chars: int) -> list[Any]:
    """Return the rows up to the one with which their parts have come to `most_chars`."""
    chars = 0
    for count, row in enumerate(rows, 1):
        chars += len(row.parts)
        if chars >= most_chars:
            return rows[:count]
    return rows


def find_message(tx: Transaction, owner: str, message_id: str) -> Any | None:
    """Return a message with its conversation's id, or None."""
    return tx.one(_FIND, id=message_id, owner=owner)


def hold_message(tx: Transaction, owner: str, message_id: str) -> Any | None:
    """Return the same, and let nobody else change the message until the end of the transaction."""
    return tx.one(_FIND_LOCKED, id=message_id, owner=owner)


def set_feedback(tx: Transaction, owner: str, message_id: str, feedback: str | None, *, conversation_key: int) -> bool:
    """Store a message's feedback (JSON text); return whether the message exists."""
    values = {"message_id": message_id, "conversation_key": conversation_key}
    return tx.run(_FEEDBACK, of_owner=owner, new_feedback=feedback, **values) == 1

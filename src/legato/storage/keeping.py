"""How long the conversations of a principal are kept, where it is otherwise than the server's settings say, and holds.

What applies stands in each conversation's row (`own_idle_h`, `held_at_ms`, `owner_held`), so that whoever deletes by
time passes over it by the index. New conversations read it of `keeping` when they are made; those that are there
already are marked in pages after it has changed. What is held is asked for again by whoever deletes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)

# Of the two spellings this one compiles for SQLite too.
from sqlalchemy.dialects.postgresql import insert

from legato.core.errors import LegalHold, NotFound
from legato.storage.audit_tables import keeping
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation

MARK_ROWS: Final = 200
"""Conversations that are marked in one transaction."""
FOR_EVER_H: Final = 10_000_000
"""In place of a number of hours: `keep`."""

_FIND = Prepared(select(*keeping.columns).where(keeping.c.owner == bindparam("owner")))
_new = insert(keeping).values({column.name: bindparam(column.name) for column in keeping.columns})
_PUT = Prepared(
    _new.on_conflict_do_update(
        index_elements=[keeping.c.owner],
        set_={name: _new.excluded[name] for name in ("idle_h", "held_at_ms", "changed_at_ms")},
    )
)
_FIND_LOCKED = Prepared(select(*keeping.columns).where(keeping.c.owner == bindparam("owner")).with_for_update())
_FORGET = Prepared(delete(keeping).where(keeping.c.owner == bindparam("owner"), keeping.c.held_at_ms.is_(None)))
_CHANGED = Prepared(
    select(*keeping.columns)
    .where(keeping.c.owner > bindparam("after"))
    .order_by(keeping.c.owner)
    .limit(bindparam("most"))
)
_PAGE = Prepared(
    select(conversation.c.key, conversation.c.id)
    .where(conversation.c.owner == bindparam("owner"), conversation.c.id > bindparam("after"))
    .order_by(conversation.c.id)
    .limit(bindparam("most"))
)
_idle_h = bindparam("new_idle_h", type_=Integer)
_held = bindparam("new_held", type_=Boolean)
_MARK = Prepared(
    update(conversation)
    .where(
        and_(
            conversation.c.key == bindparam("of_key"),
            conversation.c.owner == bindparam("of_owner"),
            or_(
                conversation.c.owner_held.is_distinct_from(_held),
                and_(
                    conversation.c.retention.in_([literal_column("'default'"), literal_column("'keep'")]),
                    conversation.c.own_idle_h.is_distinct_from(_idle_h),
                ),
            ),
        )
    )
    .values(
        owner_held=_held,
        own_idle_h=case(
            (
                conversation.c.retention.in_([literal_column("'default'"), literal_column("'keep'")]),
                _idle_h,
            ),
            else_=conversation.c.own_idle_h,
        ),
    )
)
_HOLD = Prepared(
    update(conversation)
    .where(conversation.c.owner == bindparam("of_owner"), conversation.c.id == bindparam("of_id"))
    .values(held_at_ms=bindparam("at_ms"))
)
_FIND_CONVERSATION = Prepared(
    select(conversation.c.key, conversation.c.held_at_ms)
    .where(conversation.c.owner == bindparam("owner"), conversation.c.id == bindparam("id"))
    .with_for_update(key_share=True)
)
_ALL_HELD = Prepared(
    select(conversation.c.owner, conversation.c.key, conversation.c.id, conversation.c.held_at_ms)
    .where(
        # As the index has it.
        text("held_at_ms IS NOT NULL"),
        tuple_(conversation.c.owner, conversation.c.key) > tuple_(bindparam("after"), bindparam("after_key")),
    )
    .order_by(conversation.c.owner, conversation.c.key)
    .limit(bindparam("most"))
)
_HELD = Prepared(
    select(conversation.c.id)
    .where(conversation.c.owner == bindparam("owner"), conversation.c.held_at_ms.is_not(None))
    .order_by(conversation.c.key)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How a principal's conversations are kept.

    Attributes:
        idle_h: Hours without a message after which one goes; None: as the server's settings say.
        held_at_ms: Since when nothing of this principal may be deleted; None: it may.
    """

    idle_h: int | None = None
    held_at_ms: int | None = None


def find_kept(tx: Transaction, owner: str) -> Kept:
    """Return how a principal's conversations are kept."""
    row = tx.one(_FIND, owner=owner)
    return Kept() if row is None else Kept(idle_h=row.idle_h, held_at_ms=row.held_at_ms)


def put_idle(tx: Transaction, owner: str, idle_h: int | None, now_ms: int) -> Kept:
    """Set how long a principal's conversations are kept; return what applies now."""
    return _put(tx, owner, Kept(idle_h=idle_h, held_at_ms=_locked(tx, owner).held_at_ms), now_ms)


def put_hold(tx: Transaction, owner: str, held: bool, now_ms: int) -> tuple[Kept, bool]:
    """Hold all that a principal has, or let it go; return what applies now, and whether that is new."""
    found = _locked(tx, owner)
    if (found.held_at_ms is not None) == held:
        return found, False
    return _put(tx, owner, Kept(idle_h=found.idle_h, held_at_ms=now_ms if held else None), now_ms), True


def _locked(tx: Transaction, owner: str) -> Kept:
    row = tx.one(_FIND_LOCKED, owner=owner)
    return Kept() if row is None else Kept(idle_h=row.idle_h, held_at_ms=row.held_at_ms)


def _put(tx: Transaction, owner: str, kept: Kept, now_ms: int) -> Kept:
    # It stays where nothing is set any more: what was marked is marked anew by it, should the server die now.
    tx.run(_PUT, owner=owner, idle_h=kept.idle_h, held_at_ms=kept.held_at_ms, changed_at_ms=now_ms)
    return kept


def mark_page(tx: Transaction, owner: str, after: str) -> str | None:
    """Mark the next of a principal's conversations as they are kept now; return the place behind, None at the end."""
    kept = find_kept(tx, owner)
    rows = tx.all(_PAGE, owner=owner, after=after, most=MARK_ROWS)
    marks = {"of_owner": owner, "new_idle_h": kept.idle_h, "new_held": kept.held_at_ms is not None}
    tx.many(_MARK, [marks | {"of_key": row.key} for row in rows])
    return rows[-1].id if len(rows) == MARK_ROWS else None


def list_kept(tx: Transaction, after: str, limit: int) -> list[Any]:
    """Return the rows of principals with settings of their own, in the order of their ids."""
    return tx.all(_CHANGED, after=after, most=limit)


def hold_conversation(tx: Transaction, owner: str, conversation_id: str, held: bool, now_ms: int) -> bool:
    """Hold a conversation, or let it go; return whether that is new.

    Raises:
        NotFound: There is none.
    """
    row = tx.one(_FIND_CONVERSATION, owner=owner, id=conversation_id)
    if row is None:
        raise NotFound("there is no conversation with this id")
    if (row.held_at_ms is not None) == held:
        return False
    tx.run(_HOLD, of_owner=owner, of_id=conversation_id, at_ms=now_ms if held else None)
    return True


def held_conversations(tx: Transaction, owner: str, limit: int) -> list[str]:
    """Return ids of conversations of a principal that are held by themselves."""
    return [row.id for row in tx.all(_HELD, owner=owner, most=limit)]


def list_held(tx: Transaction, after: tuple[str, int], limit: int) -> list[Any]:
    """Return the rows of conversations that are held by themselves, behind an owner and a key, in that order."""
    return tx.all(_ALL_HELD, after=after[0], after_key=after[1], most=limit)


def check_owner_not_held(tx: Transaction, owner: str) -> None:
    """Refuse to delete what belongs to a principal who is held.

    Raises:
        LegalHold: So it is.
    """
    if find_kept(tx, owner).held_at_ms is not None:
        raise LegalHold("what this principal has is held: nobody may delete it until an administrator lets it go")


def forget_kept(tx: Transaction, owner: str) -> int:
    """Delete a principal's settings, but for a hold; return how many rows there were."""
    return tx.run(_FORGET, owner=owner)

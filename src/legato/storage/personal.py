"""What a principal has beside conversations, for the archive that is given out: pages, each one range of an index."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import and_, bindparam, or_, select

from legato.storage.audit_tables import audit_entry
from legato.storage.charge_tables import charge
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import api_key, reply_count, state

_STATE = Prepared(
    select(*state.columns)
    .where(
        state.c.owner == bindparam("owner"),
        state.c.group >= bindparam("from_group"),
        or_(
            state.c.group > bindparam("from_group"),
            and_(state.c.group == bindparam("from_group"), state.c.key > bindparam("after_key")),
        ),
    )
    .order_by(state.c.group, state.c.key)
    .limit(bindparam("most"))
)
_KEYS = Prepared(
    select(api_key.c.id, api_key.c.role, api_key.c.name, api_key.c.created_at_ms, api_key.c.revoked_at_ms).where(
        api_key.c.owner == bindparam("owner")
    )
)
_REPLIES: Final = (
    "run_id",
    "session_id",
    "model",
    "outcome",
    "input_tokens",
    "output_tokens",
    "estimated",
    "cost_nusd",
    "response_time_ms",
    "first_token_ms",
    "at_ms",
    "thumb",
    "thumb_at_ms",
)
_COUNTS = Prepared(
    select(*(reply_count.c[name] for name in _REPLIES))
    .where(
        reply_count.c.owner == bindparam("owner"),
        reply_count.c.at_ms >= bindparam("from_ms"),
        or_(
            reply_count.c.at_ms > bindparam("from_ms"),
            reply_count.c.run_id > bindparam("after_id"),
        ),
    )
    .order_by(reply_count.c.at_ms, reply_count.c.run_id)
    .limit(bindparam("most"))
)
_CHARGES = Prepared(
    select(*charge.columns)
    .where(
        charge.c.owner == bindparam("owner"),
        charge.c.at_ms >= bindparam("from_ms"),
        or_(charge.c.at_ms > bindparam("from_ms"), charge.c.key > bindparam("after_key")),
    )
    .order_by(charge.c.at_ms, charge.c.key)
    .limit(bindparam("most"))
)
_AUDITED = Prepared(
    select(*audit_entry.columns)
    .where(audit_entry.c.owner == bindparam("owner"), audit_entry.c.seq > bindparam("after"))
    .order_by(audit_entry.c.seq)
    .limit(bindparam("most"))
)
SORTED: Final = ("_COUNTS", "_CHARGES")
"""Of one moment: a page's few rows of the same millisecond are sorted."""


def state_page(tx: Transaction, owner: str, behind: tuple[str, str], limit: int) -> list[Any]:
    """Return what steps keep for a principal, in the order of group and key, from behind a place on."""
    return tx.all(_STATE, owner=owner, from_group=behind[0], after_key=behind[1], most=limit)


def keys_of(tx: Transaction, owner: str) -> list[Any]:
    """Return a principal's keys, without what they are made of."""
    return tx.all(_KEYS, owner=owner)


def counts_page(tx: Transaction, owner: str, behind: tuple[int, str], limit: int) -> list[Any]:
    """Return what was counted of a principal's replies, by time, from behind a place on."""
    return tx.all(_COUNTS, owner=owner, from_ms=behind[0], after_id=behind[1], most=limit)


def charges_page(tx: Transaction, owner: str, behind: tuple[int, int], limit: int) -> list[Any]:
    """Return what a principal's calls of models cost, by time, from behind a place on."""
    return tx.all(_CHARGES, owner=owner, from_ms=behind[0], after_key=behind[1], most=limit)


def audited_page(tx: Transaction, owner: str, after: int, limit: int) -> list[Any]:
    """Return entries of the audit log about a principal's data, the oldest first."""
    return tx.all(_AUDITED, owner=owner, after=after, most=limit)

"""What calls of models were charged: written once, by the transaction that ends what they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, delete, literal_column, null, select, update

from legato.storage.charge_tables import charge
from legato.storage.statement import Prepared, Transaction, insert_into

_INSERT = insert_into(charge, without="key")
# Its owner may be erased by now.
_IS_THIS = and_(charge.c.key == bindparam("of_key"), charge.c.owner.in_((bindparam("of_owner"), literal_column("''"))))
_DROP = Prepared(delete(charge).where(_IS_THIS))
_SETTLE = Prepared(
    update(charge)
    .where(_IS_THIS)
    .values(
        input_tokens=bindparam("inputs"),
        cache_read_tokens=bindparam("cached"),
        output_tokens=bindparam("outputs"),
        reasoning_tokens=bindparam("reasoned"),
        counted=bindparam("is_counted"),
        cost_nusd=bindparam("cost"),
    )
)
_IS_NAMED = charge.c.conversation_id != literal_column("''")
_FORGET_CONVERSATION = Prepared(
    update(charge)
    .where(charge.c.owner == bindparam("of_owner"), charge.c.conversation_id == bindparam("of_conversation"), _IS_NAMED)
    .values(conversation_id="", run_id="")
)
_some = select(charge.c.key).where(charge.c.owner == bindparam("of_owner")).limit(bindparam("most"))
_FORGET_OWNER = Prepared(
    update(charge)
    .where(charge.c.key.in_(_some))
    .values(owner="", key_id=null(), session_id="", conversation_id="", run_id="")
)
_NAMES = tuple(column.name for column in charge.columns if column.name != "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one call of a model used and cost.

    Attributes:
        at_ms: When its run ended, or it did.
        conversation_id, run_id: Empty where the conversation is deleted.
        key_id: Of the key by which the message was posted.
        purpose: `reply`, `title` or `judge`.
        reason: Why it was made (core.event.CallReason).
        cost_nusd: Billionths of a US dollar; None where the price is not known.
    """

    at_ms: int
    owner: str
    key_id: str | None
    session_id: str
    conversation_id: str
    run_id: str
    purpose: str
    model: str
    provider: str
    reason: str
    input_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    counted: bool
    cost_nusd: int | None


def insert_charge(tx: Transaction, one: Charge) -> int:
    """Write a charge and return its key."""
    return tx.insert(_INSERT, **_values(one))


def insert_charges(tx: Transaction, charges: Sequence[Charge]) -> None:
    """Write charges; most replies have one."""
    if len(charges) == 1:
        insert_charge(tx, charges[0])
    elif charges:
        tx.many(_INSERT, [_values(each) for each in charges])


def settle_charge(tx: Transaction, key: int, used: Charge) -> None:
    """Put what was really used in the place of what was charged in advance."""
    tx.run(
        _SETTLE,
        of_key=key,
        of_owner=used.owner,
        inputs=used.input_tokens,
        cached=used.cache_read_tokens,
        outputs=used.output_tokens,
        reasoned=used.reasoning_tokens,
        is_counted=used.counted,
        cost=used.cost_nusd,
    )


def drop_charge(tx: Transaction, key: int, owner: str) -> None:
    """Take back what was charged in advance for a call that used nothing."""
    tx.run(_DROP, of_key=key, of_owner=owner)


def forget_conversation(tx: Transaction, owner: str, conversation_id: str) -> int:
    """Take the names of a conversation and its runs off their charges; return how many there were."""
    return tx.run(_FORGET_CONVERSATION, of_owner=owner, of_conversation=conversation_id)


def forget_owner(tx: Transaction, owner: str, limit: int) -> int:
    """Take off up to `limit` charges of an owner all that names anybody; return how many there were."""
    return tx.run(_FORGET_OWNER, of_owner=owner, most=limit)


def _values(each: Charge) -> dict[str, Any]:
    return {name: getattr(each, name) for name in _NAMES}

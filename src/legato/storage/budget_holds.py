"""Reserving what a call of a model may cost, and settling it by what it cost; in whatever transaction needs it.

One conditional statement takes an amount from all budgets that a call touches, or from none. What is spent and reserved
of a budget is never above its limit, but for a call that cost more than the most that it could have.

Counters are locked in the order of their ids, all in that one statement, behind the conversation of whoever holds one;
whoever has locked them waits for no other row. So nobody waits in a circle. They are made before, in a transaction of
their own (`make_uses`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from sqlalchemy import bindparam, delete, select, text, update

from legato.core.budget import Use
from legato.core.errors import Refused
from legato.core.money import from_nusd, usd_text
from legato.storage.budget_tables import budget_hold, budget_use
from legato.storage.outbox import OutboxEvent, put_event
from legato.storage.statement import Kind, Prepared, Transaction, insert_into

Purpose = Literal["reply", "title", "judge"]
WARNED: Final = 1
SPENT: Final = 2

_MAKE = Prepared(
    text(
        """
        INSERT INTO budget_use (id, owner, per, subject, period, since_ms, until_ms, limit_nusd, warn_nusd)
        VALUES (:id, :owner, :per, :subject, :period, :since_ms, :until_ms, :limit_nusd, :warn_nusd)
        ON CONFLICT (id) DO NOTHING
        """
    )
)
_INSERT_HOLD = insert_into(budget_hold)
_DELETE_HOLD = Prepared(
    delete(budget_hold)
    .where(budget_hold.c.id == bindparam("hold_id"))
    .returning(budget_hold.c.use_id, budget_hold.c.amount_nusd)
)
_TELL = Prepared(
    update(budget_use)
    .where(budget_use.c.id == bindparam("use_id"), budget_use.c.told < bindparam("level"))
    .values(told=bindparam("level"))
    .returning(*budget_use.columns)
)
_SELECT_HOLD = Prepared(
    select(budget_hold.c.use_id, budget_hold.c.amount_nusd, budget_hold.c.calls_before).where(
        budget_hold.c.id == bindparam("hold_id")
    )
)
_HAND_OVER = Prepared(
    update(budget_hold).where(budget_hold.c.id == bindparam("hold_id")).values(node_key=bindparam("me"))
)
# Of titles and judges, and of replies that ended without it.
_NO_REPLY = """
    SELECT DISTINCT h.id, h.run_id FROM budget_hold AS h
    WHERE (h.purpose <> 'reply' OR NOT EXISTS (SELECT 1 FROM run WHERE run.id = h.run_id AND run.state = 'running'))
"""
_LOST = Prepared(
    text(f"{_NO_REPLY} AND NOT EXISTS (SELECT 1 FROM node WHERE node.key = h.node_key AND node.fenced_at IS NULL)")
)
_OWN = Prepared(text(f"{_NO_REPLY} AND (CAST(:me AS bigint) IS NULL OR h.node_key = CAST(:me AS bigint))"))


class UsesMissing(Refused):
    """A counter is not there yet: it is to be made, and the same tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a budget has left for one more call.

    Attributes:
        spent_nusd, reserved_nusd: Of the limit.
    """

    use: Use
    spent_nusd: int
    reserved_nusd: int

    @property
    def left_nusd(self) -> int:
        return self.use.budget.limit_nusd - self.spent_nusd - self.reserved_nusd


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What was reserved; or, where not even the least was left, what each budget has.

    Attributes:
        amount_nusd: None where nothing was reserved.
    """

    amount_nusd: int | None
    rooms: tuple[Room, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHold:
    """Something to be reserved.

    Attributes:
        id: The run's; of a title or a judge, one of its own.
        calls_before: Of the run's calls, those that are settled already.
        at_once_nusd: Of the amount, what is spent at once, whatever becomes of the call; the rest is held.
    """

    id: str
    run_id: str
    purpose: Purpose
    calls_before: int
    at_ms: int
    at_once_nusd: int = 0


def make_uses(tx: Transaction, uses: Sequence[Use]) -> None:
    """Make the counters that are not there yet; nothing else is done in this transaction."""
    tx.many(
        _MAKE,
        [
            {
                "id": use.id,
                "owner": use.owner,
                "per": use.budget.per,
                "subject": use.subject,
                "period": use.budget.period,
                "since_ms": use.since_ms,
                "until_ms": use.until_ms,
                "limit_nusd": use.budget.limit_nusd,
                "warn_nusd": use.warn_nusd,
            }
            for use in uses
        ],
    )


def reserve(tx: Transaction, new: NewHold, uses: Sequence[Use], *, most: int, least: int) -> Reserved:
    """Take the most that calls may cost from all budgets; as much as is left where that is at least `least`.

    Nothing is written where less is left, and no counter is wanted then that is not there yet.

    Args:
        uses: As core.budget.uses_of, at least one.
        most, least: Billionths of a US dollar, 0 <= least <= most.

    Raises:
        UsesMissing: Enough is left, but `make_uses` was not called for one. Nothing was written.
    """
    amount = most
    if not _take(tx, uses, amount):
        # From here on the counters are this transaction's own, where there are several writers.
        rooms, are_all = _rooms(tx, uses)
        amount = min(most, *(room.left_nusd for room in rooms))
        if amount < least:
            return Reserved(amount_nusd=None, rooms=rooms)
        if not are_all:
            raise UsesMissing("a counter of a budget is not there yet")
        if not _take(tx, uses, amount):
            return Reserved(amount_nusd=None, rooms=rooms)
    at_once = min(new.at_once_nusd, amount)
    if new.at_once_nusd:
        spend(tx, dict.fromkeys((use.id for use in uses), at_once), new.at_once_nusd, new.at_ms)
    tx.many(
        _INSERT_HOLD,
        [
            {
                "id": new.id,
                "use_id": use.id,
                "amount_nusd": amount - at_once,
                "run_id": new.run_id,
                "purpose": new.purpose,
                "calls_before": new.calls_before,
                "node_key": tx.node_key,
                "at_ms": new.at_ms,
            }
            for use in uses
        ],
    )
    return Reserved(amount_nusd=amount)


def settle(tx: Transaction, hold_id: str, cost_nusd: int, now_ms: int) -> bool:
    """Give a reservation back, and have its budgets spend what the calls cost; return whether there was one.

    Whoever is to hear that much of a budget is spent is told by the transaction's outbox, once a period.
    """
    held = {row.use_id: row.amount_nusd for row in tx.all(_DELETE_HOLD, hold_id=hold_id)}
    if held:
        spend(tx, held, cost_nusd, now_ms)
    return bool(held)


def spend(tx: Transaction, released: dict[str, int], cost_nusd: int, now_ms: int) -> None:
    """Have budgets spend an amount.

    Args:
        released: By the counters' ids, what of each is not reserved any more.
        cost_nusd: Below 0 where less was used than had been spent at once.
    """
    values: dict[str, Any] = {"cost": cost_nusd}
    for place, (use_id, amount) in enumerate(sorted(released.items())):
        values |= {f"id{place}": use_id, f"amount{place}": amount}
    for use_id, spent, limit, warn, told in tx.tuples(_spend(len(released), tx.database), **values):
        level = SPENT if spent >= limit else WARNED if spent >= warn else 0
        if level > told:
            tell(tx, use_id, level, now_ms)


def tell(tx: Transaction, use_id: str, level: int, now_ms: int) -> bool:
    """Record for the steps how much of a budget is spent; once a period for each level. Return whether it is new."""
    row = tx.one(_TELL, use_id=use_id, level=level)
    if row is None:
        return False
    put_event(tx, _event(row, level, now_ms))
    return True


def hand_over(tx: Transaction, hold_ids: Sequence[str]) -> None:
    """Make the reservations of replies that were adopted this node's."""
    tx.many(_HAND_OVER, [{"hold_id": hold_id, "me": tx.node_key} for hold_id in hold_ids])


def find_lost(tx: Transaction) -> list[str]:
    """Return the ids of reservations that nobody will settle: their process has ended, and their reply is not made.

    Where one process has the database to itself this is true at its start alone.
    """
    return [hold_id for hold_id, _ in tx.tuples(_LOST)]


def find_own(tx: Transaction, node_key: int | None) -> list[tuple[str, str]]:
    """Return the reservations of this node that are not of a reply that is being made: their ids and their runs'.

    Args:
        node_key: None where one process has the database to itself.
    """
    return [(hold_id, run_id) for hold_id, run_id in tx.tuples(_OWN, me=node_key)]


def find_hold(tx: Transaction, hold_id: str) -> list[Any]:
    """Return the rows of a reservation: `use_id`, `amount_nusd` and `calls_before`; none where there is none."""
    return tx.all(_SELECT_HOLD, hold_id=hold_id)


def _take(tx: Transaction, uses: Sequence[Use], amount: int) -> bool:
    """Take an amount from all of them, or from none."""
    values: dict[str, Any] = {"amount": amount, "count": len(uses)}
    for place, use in enumerate(uses):
        values |= {f"id{place}": use.id, f"cap{place}": use.budget.limit_nusd, f"warn{place}": use.warn_nusd}
    return len(tx.tuples(_reserve(len(uses), tx.database), **values)) == len(uses)


def _rooms(tx: Transaction, uses: Sequence[Use]) -> tuple[tuple[Room, ...], bool]:
    """Return what each budget has, and whether all counters are there: of one that is not, nothing is spent."""
    ids = {f"id{place}": use.id for place, use in enumerate(uses)}
    found = {use_id: sums for use_id, *sums in tx.tuples(_look(len(uses), tx.database), **ids)}
    sums = [found.get(use.id, (0, 0)) for use in uses]
    rooms = tuple(
        Room(use=use, spent_nusd=spent, reserved_nusd=reserved)
        for use, (spent, reserved) in zip(uses, sums, strict=True)
    )
    return rooms, len(found) == len(uses)


def _event(row: Any, level: int, now_ms: int) -> OutboxEvent:
    topic = "budget.spent" if level == SPENT else "budget.warning"
    event_id = f"{row.id}.{topic.rpartition('.')[2]}"
    return OutboxEvent(
        id=event_id,
        owner=row.owner,
        topic=topic,
        payload={
            "id": event_id,
            "per": row.per,
            "subject": row.subject or None,
            "period": row.period,
            "since": row.since_ms,
            "until": row.until_ms,
            "limitUsd": usd_text(from_nusd(row.limit_nusd)),
            "spentUsd": usd_text(from_nusd(row.spent_nusd)),
            "timestamp": now_ms,
        },
        trace_id=None,
        at_ms=now_ms,
    )


# The statements for so many counters. Those of PostgreSQL lock them first: what is compared is what is committed by
# then, and stays so until the end of the transaction.


def _mine(count: int, kind: Kind) -> str:
    ids = ", ".join(f"CAST(:id{place} AS varchar)" for place in range(count))
    lock = " FOR NO KEY UPDATE" if kind == "postgresql" else ""
    return f"SELECT id, spent_nusd, reserved_nusd FROM budget_use WHERE id IN ({ids}) ORDER BY id{lock}"


def _rows(count: int, *columns: str) -> str:
    def row(place: int) -> str:
        return ", ".join([f"CAST(:id{place} AS varchar)", *(f"CAST(:{each}{place} AS bigint)" for each in columns)])

    rows = ", ".join(f"({row(place)})" for place in range(count))
    return f"item (id, {', '.join(columns)}) AS (VALUES {rows})"


@cache
def _look(count: int, kind: Kind) -> Prepared:
    return Prepared(text(_mine(count, kind)))


@cache
def _reserve(count: int, kind: Kind) -> Prepared:
    return Prepared(
        text(
            f"""
            WITH {_rows(count, "cap", "warn")}, mine AS MATERIALIZED ({_mine(count, kind)})
            UPDATE budget_use SET reserved_nusd = reserved_nusd + CAST(:amount AS bigint),
                limit_nusd = item.cap, warn_nusd = item.warn
            FROM item WHERE budget_use.id = item.id
            AND (SELECT count(*) FROM mine JOIN item AS of_mine ON of_mine.id = mine.id
                 WHERE mine.spent_nusd + mine.reserved_nusd + CAST(:amount AS bigint) <= of_mine.cap)
                = CAST(:count AS bigint)
            RETURNING budget_use.id
            """
        )
    )


@cache
def _spend(count: int, kind: Kind) -> Prepared:
    return Prepared(
        text(
            f"""
            WITH {_rows(count, "amount")}, mine AS MATERIALIZED ({_mine(count, kind)})
            UPDATE budget_use SET spent_nusd = spent_nusd + CAST(:cost AS bigint),
                reserved_nusd = reserved_nusd - item.amount
            FROM item WHERE budget_use.id = item.id AND (SELECT count(*) FROM mine) > 0
            RETURNING budget_use.id, budget_use.spent_nusd, budget_use.limit_nusd, budget_use.warn_nusd, budget_use.told
            """
        )
    )

"""Budgets as they are set, and what is spent of them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, delete, select, text, update

from legato.core.budget import EACH, Budget
from legato.storage.budget_tables import budget, budget_use
from legato.storage.statement import Prepared, Transaction

_LIST = Prepared(select(budget).order_by(budget.c.per, budget.c.name, budget.c.period))
_SET = Prepared(
    text(
        """
        INSERT INTO budget (per, name, period, limit_nusd, warn_percent, set_by, set_at_ms)
        VALUES (:per, :name, :period, :limit_nusd, :warn_percent, :set_by, :set_at_ms)
        ON CONFLICT (per, name, period) DO UPDATE SET limit_nusd = excluded.limit_nusd,
            warn_percent = excluded.warn_percent, set_by = excluded.set_by, set_at_ms = excluded.set_at_ms
        """
    )
)
_REMOVE = Prepared(
    delete(budget).where(
        budget.c.per == bindparam("of_per"),
        budget.c.name == bindparam("of_name"),
        budget.c.period == bindparam("of_period"),
    )
)
_in_period = (
    budget_use.c.per == bindparam("per"),
    budget_use.c.period == bindparam("period"),
    budget_use.c.since_ms == bindparam("since_ms"),
)
_OF_SUBJECT = Prepared(select(budget_use).where(*_in_period, budget_use.c.subject == bindparam("subject")))
_MOST_SPENT = Prepared(
    select(budget_use)
    .where(*_in_period)
    .order_by(budget_use.c.spent_nusd.desc(), budget_use.c.id)
    .limit(bindparam("most"))
)
_OVER = Prepared(
    select(budget_use.c.id)
    .where(budget_use.c.until_ms < bindparam("before_ms"), budget_use.c.reserved_nusd == 0)
    .limit(bindparam("most"))
)
_FORGET = Prepared(delete(budget_use).where(budget_use.c.id == bindparam("use_id"), budget_use.c.reserved_nusd == 0))
_FORGET_OWNER = Prepared(
    update(budget_use).where(budget_use.c.owner == bindparam("of_owner")).values(owner="", subject="")
)
KEPT_MS: Final = 400 * 24 * 3600 * 1000
"""For how long the sums of a period that is over are kept."""


def find_budgets(tx: Transaction) -> list[Budget]:
    """Return the budgets that were set while the server ran; those of legato.toml are not among them."""
    return [
        Budget(per=row.per, name=row.name, period=row.period, limit_nusd=row.limit_nusd, warn_percent=row.warn_percent)
        for row in tx.all(_LIST)
    ]


def set_budget(tx: Transaction, new: Budget, *, set_by: str, now_ms: int) -> None:
    """Set a budget, or set it anew; what was spent of it stays spent."""
    tx.run(
        _SET,
        per=new.per,
        name=new.name,
        period=new.period,
        limit_nusd=new.limit_nusd,
        warn_percent=new.warn_percent,
        set_by=set_by,
        set_at_ms=now_ms,
    )


def remove_budget(tx: Transaction, per: str, name: str, period: str) -> bool:
    """Remove a budget; return whether there was one. Its sums stay: they count if it is set again."""
    return tx.run(_REMOVE, of_per=per, of_name=name, of_period=period) == 1


def find_uses(tx: Transaction, of: Budget, since_ms: int, most: int) -> list[Any]:
    """Return what is spent of a budget in the period that began then: of each subject's, those that spent the most."""
    if of.per == "server" or of.name != EACH:
        subject = "" if of.per == "server" else of.name
        return tx.all(_OF_SUBJECT, per=of.per, period=of.period, since_ms=since_ms, subject=subject)
    return tx.all(_MOST_SPENT, per=of.per, period=of.period, since_ms=since_ms, most=most)


def forget_uses(tx: Transaction, now_ms: int, most: int) -> int:
    """Delete up to `most` sums of periods that are long over; return how many."""
    found = tx.tuples(_OVER, before_ms=now_ms - KEPT_MS, most=most)
    tx.many(_FORGET, [{"use_id": use_id} for (use_id,) in found])
    return len(found)


def forget_owner(tx: Transaction, owner: str) -> int:
    """Have no sum name a principal any more; the sums stay, and go on if it comes back. Return how many there were."""
    return tx.run(_FORGET_OWNER, of_owner=owner)

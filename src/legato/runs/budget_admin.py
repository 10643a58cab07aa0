"""What an administrator sees of budgets, and sets: the same for the admin's routes and for `legato budgets`.

The budgets of legato.toml are fixed. One of the same name that was set before it stood there is kept, and does not
hold as long as it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from legato.core.budget import EACH, Budget, Per, Period, span_of
from legato.core.errors import Conflict, InvalidRequest, NotFound
from legato.core.ids import id_fault
from legato.runs.audit import Actor, audit
from legato.storage.budgets import find_budgets, find_uses, remove_budget, set_budget
from legato.storage.statement import Transaction

MOST_SHOWN = 50
"""Subjects of a budget of each: those that have spent the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectUse:
    """What one subject has spent in the present period.

    Attributes:
        subject: None for the server, and for one that was erased.
        owner: Whose it is; None where it is nobody's.
        reserved_nusd: What calls that are being made may still cost.
    """

    subject: str | None
    owner: str | None
    spent_nusd: int
    reserved_nusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A budget, and what is spent of it.

    Attributes:
        overridden: legato.toml has one of the same name, which holds instead.
        uses: Those that have spent the most first.
    """

    budget: Budget
    overridden: bool
    since_ms: int
    until_ms: int | None
    uses: tuple[SubjectUse, ...]


def list_budgets(tx: Transaction, fixed: Sequence[Budget], now_ms: int, most: int = MOST_SHOWN) -> list[BudgetState]:
    """Return all budgets, those of legato.toml first."""
    keys = {budget.key for budget in fixed}
    added = [(budget, budget.key in keys) for budget in find_budgets(tx)]
    return [
        _state(tx, budget, overridden, now_ms, most)
        for budget, overridden in [*((budget, False) for budget in fixed), *added]
    ]


def put_budget(tx: Transaction, fixed: Sequence[Budget], new: Budget, actor: Actor, now_ms: int) -> None:
    """Set a budget, or set it anew.

    Raises:
        Conflict: It stands in legato.toml.
        InvalidRequest: There can be none of this name.
    """
    check_key(fixed, *new.key)
    set_budget(tx, new, set_by=actor.id, now_ms=now_ms)
    detail = {"limitUsd": new.limit, "warnPercent": new.warn_percent}
    audit(tx, actor=actor, action="budget.change", subject=subject_of(new), at_ms=now_ms, detail=detail)


def delete_budget(
    tx: Transaction, fixed: Sequence[Budget], per: Per, name: str, period: Period, actor: Actor, now_ms: int
) -> None:
    """Remove a budget; what was spent of it counts if it is set again.

    Raises:
        Conflict: It stands in legato.toml.
        NotFound: There is none.
    """
    check_key(fixed, per, name, period)
    if not remove_budget(tx, per, name, period):
        raise NotFound("there is no such budget: `legato budgets list` shows all")
    gone = Budget(per=per, name=name, period=period, limit_nusd=0)
    audit(tx, actor=actor, action="budget.delete", subject=subject_of(gone), at_ms=now_ms)


def check_key(fixed: Sequence[Budget], per: Per, name: str, period: Period) -> None:
    """Refuse to change a budget that is fixed, or that there cannot be.

    Raises:
        Conflict, InvalidRequest: As put_budget.
    """
    if per == "server" and name != EACH:
        raise InvalidRequest.of("name", "is given, and the server is one: leave it out")
    if fault := id_fault(name):
        raise InvalidRequest.of("name", fault)
    if any(budget.key == (per, name, period) for budget in fixed):
        raise Conflict("this budget stands in legato.toml: change it there, and start the server anew")


def subject_of(budget: Budget) -> str:
    """Return what a budget is called in the audit log."""
    return f"{budget.per}/{budget.name}/{budget.period}"


def _state(tx: Transaction, budget: Budget, overridden: bool, now_ms: int, most: int) -> BudgetState:
    since_ms, until_ms = span_of(budget.period, now_ms)
    rows = find_uses(tx, budget, since_ms, most)
    return BudgetState(
        budget=budget,
        overridden=overridden,
        since_ms=since_ms,
        until_ms=until_ms,
        uses=tuple(
            SubjectUse(
                subject=row.subject or None,
                owner=row.owner if budget.per in ("principal", "session") and row.owner else None,
                spent_nusd=row.spent_nusd,
                reserved_nusd=row.reserved_nusd,
            )
            for row in rows
        ),
    )

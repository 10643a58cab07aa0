"""Two nodes take from the same budgets at once: never more than there is, each sum exact, and nobody waits in a circle.

Each pair meets at every statement of either: one is halted there until the other is done, or waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from legato.core.budget import Budget, Payer, Per, Use, uses_of
from legato.core.errors import BudgetExceeded
from legato.storage.budget_holds import NewHold, make_uses, reserve, settle
from legato.storage.statement import Transaction
from legato.storage.turns import KnownTurn, StartedTurn
from tests.contract.rival_works import NOW_MS, end, start
from tests.contract.rivals import Rivals, Work, refusals

SHARED: tuple[Per, ...] = ("principal", "session")


def of(trial_id: str, model: str, *limits: int) -> tuple[Use, ...]:
    """Return the counters of a trial: one of the model alone, and others of both rivals."""
    budgets = (
        Budget(per="model", period="all", limit_nusd=1000),
        *(Budget(per=per, period="all", limit_nusd=limit) for per, limit in zip(SHARED, limits, strict=False)),
    )
    return uses_of(budgets, Payer(owner=trial_id, key_id=None, session_id="s", model=f"{model}-{trial_id}"), NOW_MS)


def taking(rivals: Rivals, hold_id: str, uses: Sequence[Use], amount: int, least: int | None = None) -> Any:
    """Return what takes an amount, or refuses; all counters are there."""
    rivals.do(lambda tx: make_uses(tx, uses))

    def take(tx: Transaction) -> int:
        new = NewHold(id=hold_id, run_id=hold_id, purpose="reply", calls_before=0, at_ms=NOW_MS)
        found = reserve(tx, new, uses, most=amount, least=amount if least is None else least)
        if found.amount_nusd is None:
            raise BudgetExceeded("spent")
        return found.amount_nusd

    return take


def settling(hold_id: str, cost: int) -> Work:
    return lambda tx: settle(tx, hold_id, cost, NOW_MS)


def sums(rivals: Rivals, trial_id: str) -> list[tuple[int, int]]:
    """Return what is spent and reserved of the counters that both rivals touch."""
    sql = "SELECT spent_nusd, reserved_nusd FROM budget_use WHERE owner = ? ORDER BY per"
    return [(spent, reserved) for spent, reserved in rivals.rows(sql, trial_id)]


def test_two_that_want_the_last_amount(rivals: Rivals) -> None:
    """One has it, the other is refused and has taken nothing of any budget."""
    for trial in rivals.trials():
        works = [taking(rivals, f"{trial.id}-{name}", of(trial.id, name, 10, 100), 7) for name in ("a", "b")]
        found = trial.meet(*works)
        assert refusals(found) == [BudgetExceeded]
        assert sums(rivals, trial.id) == [(0, 7), (0, 7)]
        assert len(rivals.rows("SELECT id FROM budget_hold WHERE id LIKE ?", f"{trial.id}-%")) == 3


def test_the_second_of_two_has_what_the_first_leaves(rivals: Rivals) -> None:
    """To the last billionth."""
    for trial in rivals.trials():
        works = [taking(rivals, f"{trial.id}-{name}", of(trial.id, name, 10, 100), 7, 1) for name in ("a", "b")]
        assert sorted(trial.meet(*works)) == [3, 7]
        assert sums(rivals, trial.id) == [(0, 10), (0, 10)]


def test_one_settles_while_another_takes(rivals: Rivals) -> None:
    """What comes back is there for the other, or was not yet; each sum is exact."""
    for trial in rivals.trials():
        rivals.do(taking(rivals, f"{trial.id}-a", of(trial.id, "a", 10, 100), 7))
        take = taking(rivals, f"{trial.id}-b", of(trial.id, "b", 10, 100), 7)
        found = trial.meet(settling(f"{trial.id}-a", 2), take)
        assert refusals(found) in ([], [BudgetExceeded])
        assert sums(rivals, trial.id) == [(2, 0 if refusals(found) else 7)] * 2


def test_one_reservation_is_settled_once(rivals: Rivals) -> None:
    """By whoever comes first."""
    for trial in rivals.trials():
        rivals.do(taking(rivals, f"{trial.id}-a", of(trial.id, "a", 10, 100), 7))
        assert sorted(trial.meet(settling(f"{trial.id}-a", 5), settling(f"{trial.id}-a", 5))) == [False, True]
        assert sums(rivals, trial.id) == [(5, 0), (5, 0)]


def test_two_settlements_tell_once(rivals: Rivals) -> None:
    """Whichever brings a budget to its mark."""
    for trial in rivals.trials():
        for name in ("a", "b"):
            rivals.do(taking(rivals, f"{trial.id}-{name}", of(trial.id, name, 20), 9))
        trial.meet(settling(f"{trial.id}-a", 8), settling(f"{trial.id}-b", 8))
        found = rivals.rows("SELECT topic FROM outbox WHERE owner = ?", trial.id)
        assert found == [("budget.warning",)]


def test_two_turns_with_one_key_are_reserved_once(rivals: Rivals) -> None:
    """The post that is a repeat takes nothing."""
    for trial in rivals.trials():
        works = [
            start(
                f"{trial.id}-{name}",
                name,
                key=trial.id,
                reserve=taking(rivals, f"{trial.id}-{name}", of(trial.id, "m", 100, 100), 7),
            )
            for name in ("a", "b")
        ]
        found = trial.meet(*works)
        assert {type(each) for each in found} == {StartedTurn, KnownTurn}
        assert sums(rivals, trial.id) == [(0, 7), (0, 7)]


def test_two_turns_of_a_conversation_reserve_for_the_one_that_runs(rivals: Rivals) -> None:
    """The other waits, and is reserved when its time comes."""
    for trial in rivals.trials():
        works = [
            start(trial.id, name, reserve=taking(rivals, f"{trial.id}-{name}", of(trial.id, "m", 100, 100), 7))
            for name in ("a", "b")
        ]
        one, two = trial.meet(*works)
        assert sorted((one.ahead, two.ahead)) == [0, 1]
        assert sums(rivals, trial.id) == [(0, 7), (0, 7)]


def test_an_end_and_a_start_that_share_budgets(rivals: Rivals) -> None:
    """An end holds its conversation and then counters, a start too: of one conversation, and of two."""
    for same in (True, False):
        for trial in rivals.trials():
            reserved = taking(rivals, f"{trial.id}-a", of(trial.id, "m", 100, 100), 7)
            running: StartedTurn = rivals.do(start(trial.id, "a", reserve=reserved))
            ending = end(running)

            def settled(tx: Transaction, ending: Work = ending, hold_id: str = f"{trial.id}-a") -> Any:
                following = ending(tx)
                settle(tx, hold_id, 4, NOW_MS)
                return following

            beside = trial.id if same else f"{trial.id}-b"
            new = start(beside, "b", reserve=taking(rivals, f"{trial.id}-b", of(trial.id, "m", 100, 100), 7))
            _, started = trial.meet(settled, new)
            assert sums(rivals, trial.id) == [(4, 0 if started.ahead else 7)] * 2

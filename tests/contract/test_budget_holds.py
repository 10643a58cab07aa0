"""Reserving and settling: no budget ever holds more than its limit, whoever asks, and every sum is exact."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import pytest

from legato.core.budget import Budget, Payer, Period, Use, span_of, uses_of
from legato.storage.budget_holds import (
    NewHold,
    Reserved,
    UsesMissing,
    find_hold,
    find_lost,
    make_uses,
    reserve,
    settle,
)
from legato.storage.budgets import KEPT_MS, find_uses, forget_owner, forget_uses
from legato.storage.database import Database
from legato.storage.outbox import first_events
from legato.storage.statement import Transaction
from legato.storage.writer import Lane, Unit, Writer
from tests.contract.storage_backends import PostgresStorage, Storage
from tests.statements import query

T = TypeVar("T")
DAY_MS = 24 * 3600 * 1000
NOON_MS = 1_790_424_000_000
PERIODS: tuple[Period, ...] = ("day", "month", "all")
BUDGETS = (
    Budget(per="server", period="month", limit_nusd=900),
    Budget(per="principal", period="day", limit_nusd=300),
    Budget(per="principal", name="ann", period="day", limit_nusd=500, warn_percent=50),
    Budget(per="key", period="all", limit_nusd=2000),
    Budget(per="model", name="large", period="day", limit_nusd=250),
)


def payer(owner: str = "ann", key_id: str | None = "k-1", model: str = "small") -> Payer:
    return Payer(owner=owner, key_id=key_id, session_id="s-1", model=model)


class Desk:
    """One connection that writes, each work in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.writer: Writer = database.writer(Lane.COMMAND)
        if database.kind == "postgresql":
            self.writer.settle()  # type: ignore[attr-defined]
        self.made: set[str] = set()

    def do(self, work: Callable[[Transaction], T]) -> T:
        unit = Unit(apply=work)
        self.writer.command(unit)
        if unit.error is not None:
            raise unit.error
        value: T = unit.value
        return value

    def reserve(self, hold_id: str, uses: Sequence[Use], *, most: int, least: int | None = None) -> Reserved:
        if new := [use for use in uses if use.id not in self.made]:
            self.do(lambda tx: make_uses(tx, new))
            self.made |= {use.id for use in new}
        hold = NewHold(id=hold_id, run_id=hold_id, purpose="reply", calls_before=0, at_ms=NOON_MS)
        return self.do(lambda tx: reserve(tx, hold, uses, most=most, least=most if least is None else least))

    def settle(self, hold_id: str, cost: int) -> bool:
        return self.do(lambda tx: settle(tx, hold_id, cost, NOON_MS))

    def sums(self) -> dict[str, tuple[int, int]]:
        rows = self.do(lambda tx: query(tx, "SELECT id, spent_nusd, reserved_nusd FROM budget_use"))
        return {use_id: (spent, reserved) for use_id, spent, reserved in rows}


@pytest.fixture
def open_desk(storage: Storage) -> Iterator[Callable[[], Desk]]:
    database = storage.database()
    database.open()
    desks: list[Desk] = []

    def opened() -> Desk:
        desks.append(Desk(database))
        return desks[-1]

    yield opened
    for desk in desks:
        close = getattr(desk.writer, "_connection", None) or getattr(desk.writer, "_session", None)
        if close is not None:
            close.close()
    database.close()


@pytest.fixture
def desk(open_desk: Callable[[], Desk]) -> Desk:
    return open_desk()


@dataclass(slots=True)
class Model:
    """The same in plain Python."""

    spent: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    holds: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)

    def reserve(self, hold_id: str, uses: Sequence[Use], most: int, least: int) -> int | None:
        for use in uses:
            self.spent.setdefault(use.id, 0)
            self.reserved.setdefault(use.id, 0)
        left = min(use.budget.limit_nusd - self.spent[use.id] - self.reserved[use.id] for use in uses)
        amount = min(most, left)
        if amount < least:
            return None
        for use in uses:
            self.reserved[use.id] += amount
        self.holds[hold_id] = tuple(use.id for use in uses), amount
        return amount

    def settle(self, hold_id: str, cost: int, uses: dict[str, Use]) -> None:
        ids, amount = self.holds.pop(hold_id)
        for use_id in ids:
            self.reserved[use_id] -= amount
            self.spent[use_id] += cost
            limit, warn = uses[use_id].budget.limit_nusd, uses[use_id].warn_nusd
            level = 2 if self.spent[use_id] >= limit else 1 if self.spent[use_id] >= warn else 0
            if level > self.told.get(use_id, 0):
                self.told[use_id] = level
                self.events.add(f"{use_id}.{'spent' if level == 2 else 'warning'}")


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_reserving_and_settling_is_exact(desk: Desk, seed: int) -> None:
    """Random calls of random payers over weeks: the table is what plain Python says, and no sum is above its limit."""
    draw, model, now_ms, uses_by_id = random.Random(seed), Model(), NOON_MS, dict[str, Use]()
    for number in range(150):
        match draw.choices(("reserve", "settle", "release", "expire", "roll"), (50, 30, 10, 2, 8))[0]:
            case "reserve":
                who = payer(
                    draw.choice(("ann", "ben")), draw.choice((None, "k-1", "k-2")), draw.choice(("small", "large"))
                )
                uses = uses_of(BUDGETS, who, now_ms)
                uses_by_id |= {use.id: use for use in uses}
                most = draw.randrange(120)
                least = draw.randint(0, most)
                expected = model.reserve(f"h-{number}", uses, most, least)
                assert desk.reserve(f"h-{number}", uses, most=most, least=least).amount_nusd == expected
            case "settle" if model.holds:
                hold_id = draw.choice(list(model.holds))
                cost = draw.randint(0, model.holds[hold_id][1])
                assert desk.settle(hold_id, cost)
                model.settle(hold_id, cost, uses_by_id)
            case "release" if model.holds:
                hold_id = draw.choice(list(model.holds))
                assert desk.settle(hold_id, 0)
                model.settle(hold_id, 0, uses_by_id)
                assert not desk.settle(hold_id, 5)
            case "expire":
                # No run of these is being made, and no node lives.
                assert set(desk.do(find_lost)) == set(model.holds)
                for hold_id in list(model.holds):
                    desk.settle(hold_id, 0)
                    model.settle(hold_id, 0, uses_by_id)
            case "roll":
                now_ms += draw.randrange(2 * DAY_MS)
    found = desk.sums()
    assert found == {use_id: (model.spent[use_id], model.reserved[use_id]) for use_id in model.spent}
    assert all(sum(found[use_id]) <= use.budget.limit_nusd for use_id, use in uses_by_id.items())
    assert sum(spent for spent, _ in found.values()) > 1000
    events = [event.id for _, event in desk.do(lambda tx: first_events(tx, 1000))]
    assert sorted(events) == sorted(model.events)


def test_what_does_not_fit_all_budgets_is_taken_from_none(desk: Desk) -> None:
    """And it is told what each has left."""
    wide = uses_of(BUDGETS, payer("ben"), NOON_MS)
    narrow = uses_of(BUDGETS, payer("ben", model="large"), NOON_MS)
    assert desk.reserve("h-1", wide, most=100).amount_nusd == 100
    before = desk.sums()
    refused = desk.reserve("h-2", narrow, most=251)
    assert refused.amount_nusd is None
    assert {room.use.budget.per: room.left_nusd for room in refused.rooms} == {
        "server": 800,
        "principal": 200,
        "key": 1900,
        "model": 250,
    }
    assert desk.sums() == before | {use.id: (0, 0) for use in narrow if use.budget.per == "model"}
    assert desk.do(lambda tx: find_hold(tx, "h-2")) == []


def test_as_much_as_is_left_is_taken_where_that_is_enough(desk: Desk) -> None:
    """The limit is reached exactly, and then nothing more fits."""
    uses = uses_of(BUDGETS, payer("ben", None), NOON_MS)
    assert desk.reserve("h-1", uses, most=250, least=10).amount_nusd == 250
    assert desk.reserve("h-2", uses, most=250, least=10).amount_nusd == 50
    assert desk.reserve("h-3", uses, most=250, least=0).amount_nusd == 0
    assert desk.reserve("h-4", uses, most=250, least=1).amount_nusd is None


def test_a_counter_that_is_not_there_is_asked_for(desk: Desk) -> None:
    """It is made in a transaction of its own: nobody who holds other counters waits for its maker."""
    uses = uses_of(BUDGETS, payer(), NOON_MS)
    desk.made = {use.id for use in uses}
    with pytest.raises(UsesMissing):
        desk.reserve("h-1", uses, most=1)
    assert desk.sums() == {}


def test_a_settlement_takes_place_once(desk: Desk) -> None:
    """A second one finds nothing, and neither spends nor gives back."""
    uses = uses_of(BUDGETS, payer(), NOON_MS)
    desk.reserve("h-1", uses, most=100)
    assert [desk.settle("h-1", 40), desk.settle("h-1", 40)] == [True, False]
    assert set(desk.sums().values()) == {(40, 0)}


def test_each_level_is_told_once_a_budget_and_period(desk: Desk) -> None:
    """At the percentage that was set, and when it is spent; and again in the next period."""
    budgets = (Budget(per="principal", period="day", limit_nusd=100),)

    def spend(number: int, cost: int, now_ms: int = NOON_MS) -> None:
        assert desk.reserve(f"h-{number}", uses_of(budgets, payer(), now_ms), most=cost).amount_nusd == cost
        desk.settle(f"h-{number}", cost)

    spend(1, 79)
    assert desk.do(lambda tx: first_events(tx, 10)) == []
    spend(2, 1)
    spend(3, 5)
    spend(4, 15)
    spend(5, 0)
    spend(6, 90, NOON_MS + DAY_MS)
    told = [event for _, event in desk.do(lambda tx: first_events(tx, 10))]
    assert [event.topic for event in told] == ["budget.warning", "budget.spent", "budget.warning"]
    assert told[0].owner == "ann"
    since_ms, until_ms = span_of("day", NOON_MS)
    assert told[0].payload == {
        "id": told[0].id,
        "per": "principal",
        "subject": "ann",
        "period": "day",
        "since": since_ms,
        "until": until_ms,
        "limitUsd": "0.0000001",
        "spentUsd": "0.00000008",
        "timestamp": NOON_MS,
    }


def test_a_limit_that_was_lowered_holds_at_once(desk: Desk) -> None:
    """What is spent stays spent; nothing fits before the limit is above it again."""
    high, low = (Budget(per="server", period="all", limit_nusd=limit) for limit in (1000, 100))
    desk.reserve("h-1", uses_of((high,), payer(), NOON_MS), most=500)
    refused = desk.reserve("h-2", uses_of((low,), payer(), NOON_MS), most=1)
    assert refused.amount_nusd is None
    assert refused.rooms[0].left_nusd == -400
    desk.settle("h-1", 99)
    assert desk.reserve("h-3", uses_of((low,), payer(), NOON_MS), most=1).amount_nusd == 1


def test_the_sums_that_are_shown_are_those_of_the_period(desk: Desk) -> None:
    """Of a budget of each, those that spent the most first; of a named one, its own."""
    each = Budget(per="principal", period="day", limit_nusd=300)
    for number, (who, cost) in enumerate((("ann", 10), ("ben", 30), ("cat", 20))):
        desk.reserve(f"h-{number}", uses_of((each,), payer(who), NOON_MS), most=50)
        desk.settle(f"h-{number}", cost)
    since_ms, _ = span_of("day", NOON_MS)
    found = desk.do(lambda tx: find_uses(tx, each, since_ms, 2))
    assert [(row.subject, row.spent_nusd) for row in found] == [("ben", 30), ("cat", 20)]
    named = Budget(per="principal", name="ann", period="day", limit_nusd=1)
    assert [row.spent_nusd for row in desk.do(lambda tx: find_uses(tx, named, since_ms, 2))] == [10]
    assert desk.do(lambda tx: find_uses(tx, each, since_ms + DAY_MS, 2)) == []


def test_a_principal_that_was_forgotten_is_named_nowhere_and_has_spent_what_it_has(desk: Desk) -> None:
    """Nobody gets a new budget by having oneself erased."""
    uses = uses_of((Budget(per="principal", period="day", limit_nusd=100),), payer("zoe"), NOON_MS)
    desk.reserve("h-1", uses, most=90)
    desk.settle("h-1", 90)
    assert desk.do(lambda tx: forget_owner(tx, "zoe")) == 1
    assert desk.do(lambda tx: query(tx, "SELECT owner, subject FROM budget_use")) == [("", "")]
    assert desk.reserve("h-2", uses, most=20).amount_nusd is None


def test_sums_that_are_long_over_are_deleted(desk: Desk) -> None:
    """Not those of periods that are kept, nor those that never end, nor one that is still reserved from."""
    budgets = tuple(Budget(per="server", period=period, limit_nusd=100) for period in PERIODS)
    desk.reserve("h-1", uses_of(budgets, payer(), NOON_MS), most=10)
    desk.reserve("h-2", uses_of(budgets, payer(), NOON_MS - 60 * DAY_MS), most=10)
    desk.settle("h-2", 10)
    later_ms = NOON_MS + KEPT_MS + 60 * DAY_MS
    assert desk.do(lambda tx: forget_uses(tx, later_ms, 10)) == 2
    desk.settle("h-1", 10)
    assert desk.do(lambda tx: forget_uses(tx, later_ms, 10)) == 2
    assert [*desk.sums().values()] == [(20, 0)]


def at_once(
    storage: Storage, open_desk: Callable[[], Desk], count: int, budget: Budget, take: Callable[..., Any]
) -> list[Any]:
    """Have so many threads, each with a connection of its own, take from one budget again and again."""
    desks, found, start = [open_desk() for _ in range(count)], list[Any](), threading.Barrier(count)
    uses = uses_of((budget,), payer(), NOON_MS)
    desks[0].do(lambda tx: make_uses(tx, uses))
    for each in desks:
        each.made = {use.id for use in uses}

    def work(number: int) -> None:
        start.wait()
        for turn in range(40):
            found.append(take(desks[number], f"h-{number}-{turn}", uses))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_rivals_reserve_exactly_what_there_is(storage: Storage, open_desk: Callable[[], Desk]) -> None:
    """Six connections at once, 240 calls for 7 of 500: 71 have all, one has the rest, and the sum is the limit."""
    if not isinstance(storage, PostgresStorage):
        pytest.skip("SQLite has one writer")
    budget = Budget(per="server", period="all", limit_nusd=500)
    found = at_once(
        storage,
        open_desk,
        6,
        budget,
        lambda desk, hold_id, uses: desk.reserve(hold_id, uses, most=7, least=1).amount_nusd,
    )
    assert sorted(amount for amount in found if amount) == [3, *[7] * 71]
    assert found.count(None) == 240 - 72


def test_a_look_before_the_update_would_be_too_much(storage: Storage, open_desk: Callable[[], Desk]) -> None:
    """What one statement rules out: two nodes that look first, and take then, take the last twice."""
    if not isinstance(storage, PostgresStorage):
        pytest.skip("SQLite has one writer")
    budget, looked = Budget(per="server", period="all", limit_nusd=10), threading.Barrier(2, timeout=20)

    def take(desk: Desk, hold_id: str, uses: Sequence[Use]) -> None:
        def work(tx: Transaction) -> None:
            ((used,),) = query(tx, "SELECT spent_nusd + reserved_nusd FROM budget_use")
            if hold_id.endswith("-0"):
                looked.wait()
            if used + 7 <= 10:
                query(tx, "UPDATE budget_use SET reserved_nusd = reserved_nusd + 7 RETURNING 1")

        desk.do(work)

    at_once(storage, open_desk, 2, budget, take)
    assert [*open_desk().sums().values()] == [(0, 14)]


def test_rivals_with_budgets_in_any_order_wait_in_no_circle(storage: Storage, open_desk: Callable[[], Desk]) -> None:
    """Calls that touch several budgets are reserved and settled at once by six connections: none ends by a deadlock."""
    if not isinstance(storage, PostgresStorage):
        pytest.skip("SQLite has one writer")
    budgets = (
        *(Budget(per="principal", period=period, limit_nusd=10**9) for period in PERIODS),
        Budget(per="model", period="day", limit_nusd=10**9),
        Budget(per="server", period="all", limit_nusd=10**9),
    )
    everybody = [payer(owner, None, model) for owner in ("ann", "ben") for model in ("small", "large")]
    with storage.connect() as connection:
        connection.execute("SELECT pg_stat_reset()")
    at_once(storage, open_desk, 6, budgets[-1], lambda desk, hold_id, _: _use(desk, hold_id, budgets, everybody))
    with storage.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert _deadlocks(connection) == 0
    spent = set(open_desk().sums().values())
    assert all(reserved == 0 for _, reserved in spent)
    assert max(spent) == (240 * 3, 0)


def _use(desk: Desk, hold_id: str, budgets: Sequence[Budget], everybody: Sequence[Payer]) -> None:
    who = everybody[sum(hold_id.encode()) % len(everybody)]
    assert desk.reserve(hold_id, uses_of(budgets, who, NOON_MS), most=5).amount_nusd == 5
    assert desk.settle(hold_id, 3)


def _deadlocks(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])

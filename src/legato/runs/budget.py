"""Holds what calls of models may cost in their budgets, and settles it by what they cost.

A reply's first call is reserved by the transaction that starts the turn, so that a budget that is spent is told before
a stream opens; what follows (retries, another model, the next round of tools) before each call, by a transaction of its
own. What calls of a reply have cost is read from its log: those that were closed behind the place at which the
reservation was made. So whoever takes a run over settles what the process before it had reserved.

Where no budget is set nothing here costs more than a look at a tuple.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from legato.core.budget import Payer, Per, Period, Use, span_of
from legato.core.errors import BudgetExceeded, StorageUnavailable
from legato.core.event import UsageReported
from legato.core.log import RunLog
from legato.core.run_errors import BudgetSpent
from legato.policies.budget import Spending, Wanted, exceeded, spent_rooms
from legato.providers.base import Provider
from legato.runs.context import most_input
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.budget_holds import (
    SPENT,
    NewHold,
    Reserved,
    UsesMissing,
    find_hold,
    find_lost,
    find_own,
    make_uses,
    reserve,
    settle,
    tell,
)
from legato.storage.budgets import find_budgets, find_uses, forget_uses
from legato.storage.committer import Command
from legato.storage.statement import Transaction

if TYPE_CHECKING:
    from legato.runs.charges import OpenCall

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
"""Between two looks for budgets that another node, or the command line, has set."""
MOST_TOLD: Final = 10_000
"""Counters of which is remembered that somebody was told that they are spent."""
FORGET_ROWS: Final = 500


T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Hold:
    """What is reserved for the calls of a reply.

    Attributes:
        uses: Ids of the counters.
        calls_before: Calls of the log that were over when it was reserved; None where a process before this one may
            have reserved something: then that is looked up when it is settled.
        is_short: The present call may have fewer tokens than it was to have.
    """

    id: str
    uses: tuple[str, ...] = ()
    amount_nusd: int = 0
    calls_before: int | None = None
    is_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be written when calls of a reply are over.

    Attributes:
        costs: Of all calls of the log that are over, in their order, in billionths of a US dollar.
    """

    hold_id: str
    calls_before: int | None
    costs: tuple[int, ...]
    now_ms: int

    def write(self, tx: Transaction) -> None:
        """Give back what was reserved, and spend what they cost; once, however often it is called."""
        before = self.calls_before
        if before is None:
            rows = find_hold(tx, self.hold_id)
            if not rows:
                return
            before = rows[0].calls_before
        settle(tx, self.hold_id, sum(self.costs[before:]), self.now_ms)


class Budgets:
    """The budgets of one node. Made on its event loop, once its prices are known.

    Attributes:
        asides: Ids of what is reserved, or about to be, for calls of this node that are in no log (runs.aside).

    Raises:
        ConfigurationError: Those of legato.toml contradict each other.
    """

    def __init__(self, node: Node) -> None:
        self.spending = Spending(node.settings, node.prices)
        self.asides: set[str] = set()
        self._node = node
        self._told: set[str] = set()
        self._unowned: set[str] = set()
        self._making: dict[tuple[str, ...], asyncio.Task[None]] = {}

    @property
    def are_set(self) -> bool:
        """Whether there is any."""
        return bool(self.spending.budgets)

    async def look(self) -> None:
        """Have those hold that are set by now, at this node or another."""
        self.spending.take(await self._node.database.read(find_budgets))

    async def keep(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except StorageUnavailable:
                # Those that were read last go on to hold.
                pass
            except Exception:
                # The boundary of a job that nobody waits for: the next look may succeed.
                log.exception("the budgets could not be read")

    async def shares(self) -> dict[tuple[Per, Period], float]:
        """Return how much of the budgets is spent in the present period, of whoever has spent the most of it."""
        budgets, now_ms = self.spending.budgets, self._node.clock.now_ms()
        if not budgets:
            return {}

        def query(tx: Transaction) -> dict[tuple[Per, Period], float]:
            found: dict[tuple[Per, Period], float] = {}
            for budget in budgets:
                rows = find_uses(tx, budget, span_of(budget.period, now_ms)[0], 1)
                share = rows[0].spent_nusd / max(1, budget.limit_nusd) if rows else 0.0
                place = budget.per, budget.period
                found[place] = max(found.get(place, 0.0), share)
            return found

        return await self._node.database.read(query)

    async def release_lost(self) -> int:
        """Give back what processes that have ended had reserved for what nobody goes on with; return how many."""
        node = self._node
        lost = await node.database.read(find_lost)
        for hold_id in lost:
            # One a transaction: nobody holds counters while waiting for another reservation.
            await node.committer.write(partial(settle, hold_id=hold_id, cost_nusd=0, now_ms=node.clock.now_ms()))
        if lost:
            log.info("gave back what had been reserved by processes that are gone", reservations=len(lost))
        return len(lost)

    async def sweep(self) -> None:
        """Give back what was lost, and delete the sums of periods that are long over."""
        node = self._node
        await self.release_lost()
        while await node.committer.write(lambda tx: forget_uses(tx, node.clock.now_ms(), FORGET_ROWS)) == FORGET_ROWS:
            pass

    async def release_unowned(self) -> None:
        """Give back what this node has reserved for no call of its own; what it finds for the second time in a row.

        At the first sight a reply may be about to be charged, or a call about to be settled.
        """
        node = self._node
        if not (self.are_set or self._unowned):
            return
        found = await node.database.read(lambda tx: find_own(tx, node.key))
        unowned = {hold_id for hold_id, run_id in found if hold_id not in self.asides and run_id not in node.live}
        left, self._unowned = unowned & self._unowned, unowned
        for hold_id in left:
            await node.committer.write(partial(settle, hold_id=hold_id, cost_nusd=0, now_ms=node.clock.now_ms()))
        if left:
            log.warning("gave back what was reserved for calls that nobody makes", reservations=len(left))

    async def make(self, uses: Sequence[Use]) -> None:
        """See to it that the counters are there; whoever asks for the same meanwhile waits for the same."""
        ids = tuple(use.id for use in uses)
        making = self._making.get(ids)
        if making is None:
            write = self._node.committer.write(lambda tx: make_uses(tx, uses))
            making = self._making[ids] = asyncio.get_running_loop().create_task(write)
            self._node.keep(making)
            making.add_done_callback(lambda _: self._making.pop(ids))
        await asyncio.shield(making)

    async def reserved(self, wanted: Wanted, take: Callable[[], Command[T]]) -> T:
        """Carry out a command that reserves what is wanted; its counters are made where they are not there yet.

        Args:
            take: Makes the command, each time that it is tried.
        """
        while True:
            try:
                return await self._node.committer.execute(take())
            except UsesMissing:
                await self.make(wanted.uses)

    def refused(self, reserved: Reserved, wanted: Wanted) -> None:
        """Note that a call was refused; whoever is to know that a budget is spent is told, once a period."""
        node = self._node
        for room in reserved.rooms:
            if room.left_nusd < wanted.least_nusd:
                node.metrics.budget_refused(room.use.budget.per)
        spent = [room.use.id for room in spent_rooms(reserved, wanted) if room.use.id not in self._told]
        if spent:
            if len(self._told) >= MOST_TOLD:
                # The database knows it too: it is told once all the same.
                self._told.clear()
            self._told.update(spent)
            node.keep(asyncio.get_running_loop().create_task(self._tell(spent)))

    async def _tell(self, uses: Sequence[str]) -> None:
        now_ms = self._node.clock.now_ms()
        try:
            for use_id in uses:
                await self._node.committer.write(partial(tell, use_id=use_id, level=SPENT, now_ms=now_ms))
        except Exception:
            # The boundary of a job that nobody waits for: the next refusal says it.
            self._told.difference_update(uses)
            log.exception("could not tell that a budget is spent")

    def want(self, run: LiveRun, call: OpenCall) -> Wanted | None:
        """Return what a call needs; None where no budget is touched.

        Raises:
            BudgetSpent: The model's price is not known.
        """
        if not self.are_set:
            return None
        request, provider = call.request, call.provider
        payer = Payer(owner=run.tail.owner, key_id=run.key_id, session_id=run.started.session_id, model=provider.name)
        try:
            return self.spending.want(
                payer,
                input_tokens=bounded(provider, most_input(provider, request.messages, request.tools)),
                max_tokens=request.max_tokens,
                now_ms=self._node.clock.now_ms(),
            )
        except BudgetExceeded as error:
            raise BudgetSpent(error.message) from None


def bounded(provider: Provider, input_tokens: int) -> int:
    """Return how many tokens of input there can be: no more than the model's window holds, where that is known."""
    return input_tokens if provider.context_window is None else min(input_tokens, provider.context_window)


class Reserve(Command[Reserved]):
    """Reserves what a call of a reply may cost."""

    def __init__(self, run: LiveRun, new: NewHold, wanted: Wanted) -> None:
        self._run = run
        self._new = new
        self._wanted = wanted

    def apply(self, tx: Transaction) -> Reserved:
        wanted = self._wanted
        check_own(self._run)
        return reserve(tx, self._new, wanted.uses, most=wanted.most_nusd, least=wanted.least_nusd)

    def committed(self, value: Reserved) -> None:
        # Whoever waits for it may be stopped by now: the run's end settles what is noted here.
        if value.amount_nusd is not None:
            self._run.held = Hold(
                id=self._new.id,
                uses=tuple(use.id for use in self._wanted.uses),
                amount_nusd=value.amount_nusd,
                calls_before=self._new.calls_before,
            )


def check_own(run: LiveRun) -> None:
    """Refuse to touch what is reserved for a reply that another node makes by now; this one was fenced meanwhile.

    Raises:
        StorageUnavailable: It is not this node's.
    """
    if run.is_let_go:
        raise StorageUnavailable("another server makes this reply by now")


async def hold(node: Node, run: LiveRun, call: OpenCall) -> None:
    """Reserve what a call of a reply may cost, where a budget holds; its tokens may become fewer.

    Raises:
        BudgetSpent: There is too little left.
    """
    budgets = node.budgets
    if budgets is None or not budgets.are_set:
        return
    wanted = budgets.want(run, call)
    if _is_held(budgets, run, call, wanted):
        return
    await settle_calls(node, run)
    if wanted is None:
        return
    now_ms = node.clock.now_ms()
    new = NewHold(id=run.id, run_id=run.id, purpose="reply", calls_before=closed_calls(run.tail.log), at_ms=now_ms)
    reserved = await budgets.reserved(wanted, lambda: Reserve(run, new, wanted))
    if reserved.amount_nusd is None:
        budgets.refused(reserved, wanted)
        raise BudgetSpent(exceeded(reserved, wanted, now_ms).message)
    assert run.held is not None
    _shorten(budgets, call, run.held, wanted)


def _is_held(budgets: Budgets, run: LiveRun, call: OpenCall, wanted: Wanted | None) -> bool:
    """Whether what is reserved for a reply was for the very call that is about to be made."""
    held = run.held
    if held is None:
        return wanted is None
    if wanted is None or held.calls_before != closed_calls(run.tail.log):
        return False
    if held.uses != tuple(use.id for use in wanted.uses):
        return False
    if held.amount_nusd < wanted.most_nusd and not held.is_short:
        # More is to be given to the model than was foreseen.
        return False
    return _shorten(budgets, call, held, wanted)


def _shorten(budgets: Budgets, call: OpenCall, held: Hold, wanted: Wanted) -> bool:
    """Let a call have as many tokens as are paid for; return whether it is worth to be made."""
    held.is_short = shorten(budgets, call, held.amount_nusd, wanted)
    return held.amount_nusd >= wanted.least_nusd


def shorten(budgets: Budgets, call: OpenCall, amount_nusd: int, wanted: Wanted) -> bool:
    """Let a call have as many tokens as an amount pays for; return whether they are fewer than it was to have."""
    tokens = budgets.spending.tokens_for(wanted, amount_nusd)
    is_short = tokens < wanted.max_tokens
    if is_short:
        call.request = replace(call.request, max_tokens=max(1, tokens))
    return is_short


def closed_calls(run_log: RunLog) -> int:
    """Return how many calls of a log are over."""
    return sum(isinstance(event, UsageReported) for event in run_log.events)


def settlement_of(node: Node, run: LiveRun, run_log: RunLog) -> Settlement | None:
    """Return what is to be written of a run whose calls are over; None where nothing is reserved for it."""
    held, budgets = run.held, node.budgets
    if held is None or budgets is None:
        return None
    cost = budgets.spending.cost_nusd
    return Settlement(
        hold_id=held.id,
        calls_before=held.calls_before,
        costs=tuple(cost(event) for event in run_log.events if isinstance(event, UsageReported)),
        now_ms=node.clock.now_ms(),
    )


async def settle_calls(node: Node, run: LiveRun) -> None:
    """Settle what is reserved for a reply whose calls so far are over, before it goes on."""
    if run.held is None:
        return
    # What they cost is in the log first: whoever takes the run over reads it there.
    await node.committer.flush()
    settlement = settlement_of(node, run, run.tail.log)
    if settlement is not None:
        own = settlement

        def write(tx: Transaction) -> None:
            check_own(run)
            own.write(tx)

        await node.committer.write(write)
    run.held = None


def short_of_budget(run: LiveRun) -> bool:
    """Whether the last call had fewer tokens than it was to have, because a budget had no more."""
    return run.held is not None and run.held.is_short

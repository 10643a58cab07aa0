"""Calls of models that stand in no run's log: a title, a verdict.

The law: what such a call costs is in the ledger and in its budgets by one and the same transaction, whenever one looks.
What the model is given is charged before the call is made, in the transaction that reserves the most that it can cost;
the rest in the one that settles it when it is over. So where a process dies in between, what is certain was charged,
and giving back what it had reserved is all that is left to be done.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from legato.core.ids import new_id
from legato.core.run_errors import BudgetSpent
from legato.core.usage import Spent, Usage
from legato.policies.budget import Wanted, exceeded
from legato.providers.base import CallEnd, CallRequest, Provider
from legato.runs.budget import Budgets, shorten
from legato.runs.charges import OpenCall, Purpose, close_call, reported
from legato.runs.collected import Collected
from legato.runs.context import estimate_tokens
from legato.runs.ledger import charge_of, nameless
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.budget_holds import NewHold, Reserved, reserve, settle, spend
from legato.storage.charges import Charge, drop_charge, insert_charge, settle_charge
from legato.storage.committer import Command
from legato.storage.runs import find_run
from legato.storage.statement import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What was written before a call is made.

    Attributes:
        key: Of its charge; 0 where too little is left for it: then nothing was written.
        reserved: What became of its budgets; None where it touches none.
    """

    key: int
    reserved: Reserved | None


async def ask_aside(node: Node, run: LiveRun, provider: Provider, request: CallRequest, *, purpose: Purpose) -> str:
    """Have a model answer, and charge the call, whatever comes of it.

    Args:
        run: For what it is asked.

    Raises:
        RunError: As Provider.call.
        BudgetSpent: There is not enough left for it.
    """
    sink, call = Collected(), OpenCall(provider, request)
    aside = _Aside(node, run, call, purpose)
    await aside.begin()
    outcome: CallEnd | BaseException
    try:
        outcome = await provider.call(call.request, sink)
    except BaseException as error:
        await aside.end(error, sink)
        raise
    await aside.end(outcome, sink)
    return "".join(sink.words)


class _Aside:
    """One call, and what of it is written."""

    def __init__(self, node: Node, run: LiveRun, call: OpenCall, purpose: Purpose) -> None:
        self._node = node
        self._run = run
        self._call = call
        self._purpose = purpose
        self._hold_id = new_id("h", node.clock.now_ms())
        self._begun: Begun | None = None
        self._wanted: Wanted | None = None
        self._at_once_nusd = 0
        self._is_left = False

    async def begin(self) -> None:
        """Charge what the model is given, and reserve the most that the call can cost; both or nothing.

        Raises:
            BudgetSpent: There is not enough left.
        """
        node, call, budgets = self._node, self._call, self._node.budgets
        self._wanted = wanted = None if budgets is None else budgets.want(self._run, call)
        given = sum(estimate_tokens(message.content) for message in call.request.messages)
        usage = Usage(input_tokens=given, output_tokens=0, counted=True)
        spent = Spent(usage=usage, cost=node.prices.cost(call.provider.name, usage))
        charge = charge_of(node, self._run, call.provider, spent, self._purpose)
        try:
            if budgets is None or wanted is None:
                begun = await node.committer.execute(_Begin(self, charge))
            else:
                self._at_once_nusd = budgets.spending.cost_nusd(reported(spent))
                budgets.asides.add(self._hold_id)
                begun = await budgets.reserved(wanted, lambda: _Begin(self, charge))
                self._take(budgets, wanted, begun)
        except BaseException:
            self._leave()
            raise

    def reserve(self, tx: Transaction, at_ms: int) -> Reserved | None:
        """Reserve in the transaction that charges the call in advance; None where there is nothing to reserve."""
        wanted = self._wanted
        if wanted is None:
            return None
        new = NewHold(
            id=self._hold_id,
            run_id=self._run.id,
            purpose=self._purpose,
            calls_before=0,
            at_ms=at_ms,
            at_once_nusd=self._at_once_nusd,
        )
        return reserve(tx, new, wanted.uses, most=wanted.most_nusd, least=wanted.least_nusd)

    def is_gone(self, tx: Transaction) -> bool:
        """Whether the conversation is deleted; a post is judged before there is a run."""
        return self._run.conversation_key != 0 and find_run(tx, self._run.tail.owner, self._run.id) is None

    def begun(self, begun: Begun) -> None:
        """Learn what was written; where nobody waits for it any more it is taken back."""
        self._begun = begun
        if self._is_left and begun.key:
            self._undo()

    async def end(self, outcome: CallEnd | BaseException, sink: Collected) -> None:
        """Charge what it has used in the place of what was charged before, and give the rest back."""
        # A task of its own: whoever asked may be stopped, or run out of time, meanwhile.
        task = asyncio.get_running_loop().create_task(self._end(outcome, sink))
        self._node.keep(task)
        await asyncio.shield(task)

    def _take(self, budgets: Budgets, wanted: Wanted, begun: Begun) -> None:
        """Have the call as long as it is paid for.

        Raises:
            BudgetSpent: It is not.
        """
        reserved = begun.reserved
        assert reserved is not None
        if reserved.amount_nusd is None:
            budgets.refused(reserved, wanted)
            raise BudgetSpent(exceeded(reserved, wanted, self._node.clock.now_ms()).message)
        shorten(budgets, self._call, reserved.amount_nusd, wanted)

    def _leave(self) -> None:
        """Learn that the call is not made."""
        self._is_left = True
        if self._begun is not None and self._begun.key:
            self._undo()
        elif self._node.budgets is not None:
            self._node.budgets.asides.discard(self._hold_id)

    def _undo(self) -> None:
        self._node.keep(asyncio.get_running_loop().create_task(self._write(None)))

    async def _end(self, outcome: CallEnd | BaseException, sink: Collected) -> None:
        node, call = self._node, self._call
        spent = await close_call(node, call, outcome, reached=sink.reached, received=sink.received)
        await self._write(spent)

    async def _write(self, spent: Spent | None) -> None:
        """Write what the call has used; None: it was not made."""
        node, begun, budgets = self._node, self._begun, self._node.budgets
        assert begun is not None
        charge = None if spent is None else charge_of(node, self._run, self._call.provider, spent, self._purpose)
        is_charged = charge is not None and (charge.input_tokens != 0 or charge.output_tokens != 0)
        held = None if begun.reserved is None else self._wanted
        cost_nusd = 0 if spent is None or budgets is None else budgets.spending.cost_nusd(reported(spent))
        more_nusd, now_ms = cost_nusd - self._at_once_nusd, node.clock.now_ms()

        def write(tx: Transaction) -> None:
            if charge is not None and is_charged:
                settle_charge(tx, begun.key, charge)
            else:
                drop_charge(tx, begun.key, self._run.tail.owner)
            # Counters last: whoever has locked them waits for no other row.
            if held is not None and not settle(tx, self._hold_id, more_nusd, now_ms) and more_nusd:
                # It was given back while this node was taken for dead: the money is spent all the same.
                spend(tx, {use.id: 0 for use in held.uses}, more_nusd, now_ms)

        await node.committer.write(write)
        if budgets is not None:
            budgets.asides.discard(self._hold_id)


class _Begin(Command[Begun]):
    """Charges a call in advance and reserves what it may cost; writes neither where too little is left."""

    def __init__(self, aside: _Aside, charge: Charge) -> None:
        self._aside = aside
        self._charge = charge

    def apply(self, tx: Transaction) -> Begun:
        charge = nameless(self._charge) if self._aside.is_gone(tx) else self._charge
        reserved = self._aside.reserve(tx, charge.at_ms)
        if reserved is not None and reserved.amount_nusd is None:
            return Begun(key=0, reserved=reserved)
        return Begun(key=insert_charge(tx, charge), reserved=reserved)

    def committed(self, value: Begun) -> None:
        self._aside.begun(value)

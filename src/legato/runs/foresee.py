"""What the first call of a turn will need of the budgets, told before the turn is there.

So the transaction that starts the turn can reserve it, or refuse the post. What is told is the most that it can be, by
what is stored at that moment; before the call is made it is looked at again (runs.budget.hold).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from legato.core.budget import Payer
from legato.core.errors import InvalidRequest
from legato.core.principal import Principal
from legato.policies.budget import Wanted, exceeded
from legato.providers.base import Provider
from legato.runs.budget import Budgets, Hold, bounded
from legato.runs.context import CHARS_PER_TOKEN, DEFAULT_MAX_TOKENS, HISTORY_MESSAGES, MESSAGE_TOKENS, UNKNOWN_WINDOW
from legato.runs.node import Node
from legato.runs.tool_round import definitions_of, tools_of
from legato.storage.budget_holds import NewHold, Reserved, reserve
from legato.storage.conversations import find_conversation
from legato.storage.messages import find_path
from legato.storage.statement import Transaction
from legato.storage.turns import LEAF

if TYPE_CHECKING:
    from legato.runs.start import NewMessage


class Foreseen:
    """The needs of one turn.

    Attributes:
        reserved: What became of them; None as long as nothing was asked for.
    """

    def __init__(self, budgets: Budgets, wanted: Wanted, *, run_id: str, now_ms: int) -> None:
        self.wanted = wanted
        self.reserved: Reserved | None = None
        self._budgets = budgets
        self._run_id = run_id
        self._now_ms = now_ms

    async def make(self) -> None:
        """See to it that all counters are there: where nothing but they kept the turn from being begun."""
        await self._budgets.make(self.wanted.uses)

    def reserve(self, tx: Transaction) -> None:
        """Reserve in the transaction that starts the turn, before anything is written there.

        Raises:
            BudgetExceeded: There is too little left.
            UsesMissing: As storage.budget_holds.reserve.
        """
        wanted = self.wanted
        new = NewHold(id=self._run_id, run_id=self._run_id, purpose="reply", calls_before=0, at_ms=self._now_ms)
        self.reserved = reserve(tx, new, wanted.uses, most=wanted.most_nusd, least=wanted.least_nusd)
        if self.reserved.amount_nusd is None:
            raise exceeded(self.reserved, wanted, self._now_ms)

    def refused(self) -> None:
        """Note that the post was refused for it."""
        if self.reserved is not None:
            self._budgets.refused(self.reserved, self.wanted)

    def held(self) -> Hold | None:
        """Return what is reserved; None for a turn that waits."""
        if self.reserved is None or self.reserved.amount_nusd is None:
            return None
        amount, wanted = self.reserved.amount_nusd, self.wanted
        return Hold(
            id=self._run_id,
            uses=tuple(use.id for use in wanted.uses),
            amount_nusd=amount,
            calls_before=0,
            is_short=amount < wanted.most_nusd,
        )


async def foresee(
    node: Node,
    principal: Principal,
    message: NewMessage,
    *,
    conversation_id: str,
    session_id: str,
    run_id: str,
    now_ms: int,
) -> Foreseen | None:
    """Return what the first call of a turn will need; None where no budget is touched.

    Raises:
        BudgetExceeded: The model's price is not known.
        StorageUnavailable: The conversation could not be read.
    """
    budgets = node.budgets
    if budgets is None or not budgets.are_set:
        return None
    request, found = message.request, None
    given: Sequence[str] = ()
    if message.conversation_id is not None or message.regenerate is not None:
        found, given = await _read(node, principal, message, conversation_id)
    try:
        provider = node.models.chain(request.model or (found.model if found else None))[0]
    except InvalidRequest:
        # The run will say so.
        return None
    system = request.system_prompt or (found.system_prompt if found else None) or node.settings.system_prompt
    payer = Payer(owner=principal.id, key_id=message.key_id, session_id=session_id, model=provider.name)
    wanted = budgets.spending.want(
        payer,
        input_tokens=bounded(provider, _most([system or "", message.text, *given]) + await _of_tools(node, provider)),
        max_tokens=request.max_tokens or (found.max_tokens if found else None) or DEFAULT_MAX_TOKENS,
        now_ms=now_ms,
    )
    return None if wanted is None else Foreseen(budgets, wanted, run_id=run_id, now_ms=now_ms)


async def _read(
    node: Node, principal: Principal, message: NewMessage, conversation_id: str
) -> tuple[Any | None, Sequence[str]]:
    """Return a conversation, and the parts (JSON) of what was said before the message."""

    def query(tx: Transaction) -> tuple[Any | None, Sequence[str]]:
        found = find_conversation(tx, principal.id, conversation_id)
        if found is None:
            return None, ()
        tip = message.regenerate or (found.leaf_id if message.parent is LEAF else message.parent)
        if not isinstance(tip, str):
            return found, ()
        rows = find_path(tx, found.key, tip, HISTORY_MESSAGES, UNKNOWN_WINDOW * CHARS_PER_TOKEN)
        return found, [row.parts for row in rows]

    return await node.database.read(query)


def _most(texts: Sequence[str]) -> int:
    # No tokenizer makes more tokens than bytes; JSON has no fewer than the text in it.
    return sum(len(text.encode()) + MESSAGE_TOKENS for text in texts)


async def _of_tools(node: Node, provider: Provider) -> int:
    tools = definitions_of(await tools_of(node))
    return len(msgspec.json.encode(tools)) if tools and provider.takes_tools else 0

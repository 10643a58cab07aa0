"""Budgets in tests: prices that make a token a round sum, posts at once, and what the tables say afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from legato.core.clock import SystemClock
from legato.core.errors import LegatoError
from legato.core.event import TERMINAL, Event
from legato.core.principal import Principal
from legato.core.reply import fold_reply
from legato.runs.follow import find_tail
from legato.runs.live import RunRequest
from legato.runs.node import Node
from legato.runs.start import NewMessage, Started, start
from legato.storage.statement import Prepared
from legato.storage.turns import LEAF
from tests.feed_world import until

TOKEN_NUSD = 1_000_000
"""What a token of output costs: a thousandth of a dollar. Input costs nothing, so that sums are round."""
PRICES: dict[str, Any] = {name: {"input": "0", "output": "1000"} for name in ("scripted", "other", "tiny")}
ANN = Principal(id="ann", role="member")
_SUMS = Prepared(text("SELECT per, subject, since_ms, spent_nusd, reserved_nusd, limit_nusd FROM budget_use"))
_HOLDS = Prepared(text("SELECT count(*) FROM budget_hold"))
_CHARGED = Prepared(text("SELECT coalesce(sum(cost_nusd), 0) FROM charge"))


class Calendar(SystemClock):
    """The machine's clock, whose date is set by hand."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@dataclass(frozen=True, slots=True)
class Sum:
    """What a counter says, in tokens' prices."""

    per: str
    subject: str
    since_ms: int
    spent: float
    reserved: float
    limit: float


def usd(tokens: float) -> str:
    """Return the price of so many tokens of output."""
    return f"{tokens / 1000:.6f}"


def message(
    words: str = "script: tokens=10",
    *,
    max_tokens: int | None = 10,
    conversation_id: str | None = None,
    session_id: str | None = None,
    model: str | None = None,
    key_id: str | None = None,
) -> NewMessage:
    return NewMessage(
        text=words,
        session_id=session_id,
        conversation_id=conversation_id,
        request=RunRequest(max_tokens=max_tokens, model=model),
        parent=LEAF,
        key_id=key_id,
    )


async def post_at_once(
    nodes: Sequence[Node], count: int, words: str = "script: tokens=10", who: Principal = ANN, **more: Any
) -> tuple[list[tuple[Node, Started]], list[LegatoError]]:
    """Post so many messages at once, at the nodes in turn; return what began, and what was refused."""
    at = [nodes[place % len(nodes)] for place in range(count)]
    found = await asyncio.gather(*(start(node, who, message(words, **more)) for node in at), return_exceptions=True)
    refused = [each for each in found if isinstance(each, LegatoError)]
    begun = [(node, each) for node, each in zip(at, found, strict=True) if isinstance(each, Started)]
    assert len(begun) + len(refused) == count, found
    return begun, refused


async def quiet(*nodes: Node) -> None:
    """Wait until nothing is being made, titles neither."""
    await until(lambda: not any(node.live or node.tasks for node in nodes))


async def said_something(started: Started) -> None:
    """Wait until a reply has some words."""
    tail = started.tail
    assert tail is not None
    await until(lambda: len(tail.log.text_bytes) > 20)


async def ended(node: Node, started: Started, who: Principal = ANN) -> tuple[str, str | None, list[Event]]:
    """Wait for the end of a run; return its text, its finish reason and all its events."""
    tail = started.tail or await find_tail(node, who, started.run_id)
    await until(lambda: tail.closed)
    assert sum(isinstance(event, TERMINAL) for event in tail.log.events) == 1
    reply = fold_reply(tail.log)
    return reply.text, reply.finish_reason, list(tail.log.events)


async def say(
    node: Node, words: str = "script: tokens=10", who: Principal = ANN, **more: Any
) -> tuple[str, str | None]:
    """Post a message, wait for the end of the reply, and return its text and its finish reason."""
    text_of, reason, _ = await ended(node, await start(node, who, message(words, **more)), who)
    await until(lambda: not node.live)
    return text_of, reason


async def sums(node: Node) -> list[Sum]:
    """Return all counters, by what they are of."""
    rows = await node.database.read(lambda tx: tx.tuples(_SUMS))
    found = [Sum(per, subject, since, *(each / TOKEN_NUSD for each in money)) for per, subject, since, *money in rows]
    return sorted(found, key=lambda each: (each.per, each.subject, each.since_ms))


async def spent(node: Node) -> tuple[float, float]:
    """Return what is spent and reserved of the only counter that there is."""
    (found,) = await sums(node)
    return found.spent, found.reserved


async def holds(node: Node) -> int:
    """Return how many rows of reservations there are."""
    found: int = (await node.database.read(lambda tx: tx.tuples(_HOLDS)))[0][0]
    return found


async def charged(node: Node) -> float:
    """Return what all calls were charged, in tokens' prices."""
    found = (await node.database.read(lambda tx: tx.tuples(_CHARGED)))[0][0]
    return float(found) / TOKEN_NUSD

"""Every call of a model is charged, once, by what was received: whatever became of it, on each database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pytest
from sqlalchemy import select

from legato.core.event import CallStarted, UsageReported
from legato.core.money import usd_text
from legato.core.principal import LOCAL
from legato.core.reply import fold_reply
from legato.http.api import create_api
from legato.providers.scripted import ScriptedProvider, reply, token
from legato.runs.conversations import Conversations
from legato.runs.follow import find_tail
from legato.runs.node import Node
from legato.runs.recover import leave
from legato.runs.replies import Runs
from legato.storage.charge_tables import charge
from legato.storage.outbox import first_events
from legato.storage.statement import Prepared
from tests.asgi import call
from tests.client import Event, parse_event
from tests.conftest import OpenNode
from tests.tool_world import Bench

PRICES: Final[dict[str, dict[str, str]]] = {
    "scripted": {"input": "3", "output": "10"},
    "other": {"input": "0.5", "output": "2"},
    "tiny": {"input": "1", "output": "1"},
}
_ALL = Prepared(select(charge).order_by(charge.c.key))


class Charged(NamedTuple):
    """What is looked at of a row."""

    model: str
    reason: str
    purpose: str
    input_tokens: int
    output_tokens: int
    counted: bool


async def rows(node: Node) -> list[Any]:
    await node.committer.flush()
    return await node.database.read(lambda tx: tx.all(_ALL))


async def charged(node: Node) -> list[Charged]:
    """What was charged, in the order of calls; the cost of each row is that of its tokens."""
    found = []
    for row in await rows(node):
        rates = PRICES[row.model]
        usd = row.input_tokens * Decimal(rates["input"]) + row.output_tokens * Decimal(rates["output"])
        assert row.cost_nusd == usd * 1000
        told = [getattr(row, name) for name in Charged._fields]
        found.append(Charged._make([*told[:-1], bool(told[-1])]))
    return found


async def say(node: Node, message: str, **fields: Any) -> Event:
    """Post a message, and return the last event of the reply."""
    answer = await call(create_api(node), "POST", "/chat/stream", {"message": message, "conversationId": "c"} | fields)
    blocks = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    return [parse_event(block) for block in blocks if not block.startswith(b":")][-1]


def counted(text: str) -> int:
    """What the scripted model counts of a text."""
    return len(text) // 4 + 1


def given(*texts: str) -> int:
    """What is counted of a context."""
    return sum(counted(text) + 8 for text in texts)


async def check(node: Node, run_id: str, last: Event | None = None) -> None:
    """The log has one report for each call, and everything that tells of the reply tells the same."""
    tail = await find_tail(node, LOCAL, run_id)
    kinds = [type(event) for event in tail.log.events if isinstance(event, CallStarted | UsageReported)]
    assert kinds == [CallStarted, UsageReported] * (len(kinds) // 2)
    told = fold_reply(tail.log)
    of_run = [row for row in await rows(node) if row.run_id == run_id and row.purpose == "reply"]
    assert told.cost is not None
    assert sum(row.cost_nusd for row in of_run) == told.cost * 10**9
    assert told.usage is not None
    assert sum(row.output_tokens for row in of_run) == told.usage.output_tokens
    assert told.usage.counted == any(row.counted for row in of_run)
    run = await Runs(node, LOCAL).get(run_id)
    assert run.cost is not None
    usd = usd_text(told.cost)
    assert run.cost.usd == usd
    events = await node.database.read(lambda tx: first_events(tx, 100))
    payload = next(event.payload for _, event in events if event.payload["runId"] == run_id)
    assert payload["cost"] == usd
    assert payload["usage"]["outputTokens"] == told.usage.output_tokens
    if last is not None:
        assert last.data["cost"] == {"usd": usd}
        assert last.data["usage"] == payload["usage"]


@pytest.fixture
def open_priced(open_test_node: OpenNode) -> Callable[..., Any]:
    def opened(**settings: Any) -> Any:
        return open_test_node(**({"prices": PRICES, "retry_base_s": 0.001} | settings))

    return opened


async def test_a_reply_is_charged_by_what_its_server_told(open_priced: Callable[..., Any]) -> None:
    """Tokens, cost, whose it is: one row, without any text."""
    async with open_priced() as node:
        last = await say(node, "script: seed=1 tokens=5", sessionId="s")
        asked = counted("script: seed=1 tokens=5")
        assert await charged(node) == [Charged("scripted", "first", "reply", asked, 5, False)]
        row = (await rows(node))[0]
        assert (row.owner, row.session_id, row.conversation_id, row.run_id) == ("local", "s", "c", last.data["runId"])
        assert row.provider == "scripted"
        await check(node, last.data["runId"], last)


async def test_what_was_refused_costs_nothing_and_what_was_retried_is_charged(open_priced: Callable[..., Any]) -> None:
    """A call that was answered with 429 has used no token, which is known."""
    async with open_priced() as node:
        message = "script: seed=1 tokens=5 fail=429@1"
        last = await say(node, message)
        assert await charged(node) == [Charged("scripted", "retry", "reply", counted(message), 5, False)]
        tail = await find_tail(node, LOCAL, last.data["runId"])
        first = next(event for event in tail.log.events if isinstance(event, UsageReported))
        assert (first.input_tokens, first.output_tokens, first.cost, first.counted) == (0, 0, "0", False)
        await check(node, last.data["runId"], last)


async def test_a_call_that_was_cut_is_charged_by_what_came(open_priced: Callable[..., Any]) -> None:
    """What it was given and what it said are counted, and marked so; then the one that went on, as it was told."""
    async with open_priced() as node:
        message = "script: seed=1 tokens=8 cut=3@1"
        last = await say(node, message)
        came = "".join(token(1, index) for index in range(3))
        asked = (len(message) + len(came.rstrip())) // 4 + 1
        assert await charged(node) == [
            Charged("scripted", "first", "reply", given(message), counted(came), True),
            Charged("scripted", "retry", "reply", asked, 5, False),
        ]
        assert last.data["usage"]["counted"] is True
        await check(node, last.data["runId"], last)


async def test_both_models_of_a_failover_are_charged(open_priced: Callable[..., Any]) -> None:
    """Each at its own price."""
    broken = {"provider": "scripted", "script": {"faults": {"cut": (2, 1)}}}
    models = {"scripted": broken, "other": {"provider": "scripted"}}
    async with open_priced(models=models, model=["scripted", "other"], call_attempts=1) as node:
        message = "script: seed=1 tokens=6"
        last = await say(node, message)
        assert [(each.model, each.reason, each.counted) for each in await charged(node)] == [
            ("scripted", "first", True),
            ("other", "failover", False),
        ]
        await check(node, last.data["runId"], last)


async def test_a_server_that_tells_no_usage_is_counted(open_priced: Callable[..., Any]) -> None:
    """By the tokens of what was asked and said."""
    async with open_priced() as node:
        message = "script: seed=1 tokens=5 usage=0"
        last = await say(node, message)
        assert await charged(node) == [
            Charged("scripted", "first", "reply", given(message), counted(reply(1, 5)), True)
        ]
        await check(node, last.data["runId"], last)
        await say(node, "script: seed=1 tokens=5")
        messages = (await call(create_api(node), "GET", "/conversations/c/messages")).json["messages"]
        # `counted` stands where it is so, and nowhere else, as in the event.
        assert [each["usage"].get("counted") for each in messages if each["role"] == "assistant"] == [True, None]
        assert messages[1]["usage"] == last.data["usage"]


async def test_a_reply_that_fails_is_charged(open_priced: Callable[..., Any]) -> None:
    """For what came before; its `error` says what it cost."""
    async with open_priced() as node:
        message = "script: seed=1 tokens=5 cut=2@1 fail=400@2"
        last = await say(node, message)
        assert last.name == "error"
        assert [(each.reason, each.counted) for each in await charged(node)] == [("first", True)]
        await check(node, last.data["runId"], last)


async def test_each_round_of_tools_is_charged(open_priced: Callable[..., Any]) -> None:
    """The call that asked for a tool, and the one that was told its result."""
    async with open_priced() as node:
        from legato.tools.box import ToolBox

        node.tools = ToolBox(Bench().tools(), [])
        node.tools.start()
        message = 'script: seed=1 tokens=4 tool=search:{"query":"x"}@1'
        last = await say(node, message)
        assert [(each.reason, each.output_tokens, each.counted) for each in await charged(node)] == [
            ("first", 0, False),
            ("tools", 4, False),
        ]
        await check(node, last.data["runId"], last)
        await node.tools.close()


async def until(met: Callable[[], Any]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def shown(node: Node, run_id: str, deltas: int) -> None:
    """Wait until a reply has so many deltas."""
    tail = await find_tail(node, LOCAL, run_id)
    await until(lambda: tail.log.texts_before(len(tail.log)) >= deltas)


async def test_a_reply_that_is_stopped_is_charged_by_what_came(open_priced: Callable[..., Any]) -> None:
    """The text that was shown, no more, and what the model was given."""
    async with open_priced() as node:
        message = "script: seed=1 tokens=500 delay_ms=10"
        started = await Runs(node, LOCAL).start(message, conversation_id="c")
        await shown(node, started.run_id, 3)
        await Runs(node, LOCAL).stop(started.run_id)
        async with asyncio.timeout(10):
            async for _ in Runs(node, LOCAL).follow(started.run_id):
                pass
        said = (await find_tail(node, LOCAL, started.run_id)).log.text
        assert await charged(node) == [
            Charged("scripted", "first", "reply", given(message), counted(said), True),
        ]
        await check(node, started.run_id)


async def test_a_reply_that_stops_before_its_model_was_asked_costs_nothing(open_priced: Callable[..., Any]) -> None:
    """A turn that waited has called nobody."""
    async with open_priced() as node:
        runs = Runs(node, LOCAL)
        first = await runs.start("script: seed=1 tokens=500 delay_ms=10", conversation_id="c")
        waiting = await runs.start("script: seed=2 tokens=5", conversation_id="c")
        await runs.stop(waiting.run_id)
        await runs.stop(first.run_id)
        async with asyncio.timeout(10):
            async for _ in runs.follow(first.run_id):
                pass
        assert {row.run_id for row in await rows(node)} == {first.run_id}


async def test_a_title_is_charged(open_priced: Callable[..., Any]) -> None:
    """By what its server told, at the model's price; no part of the reply's cost."""
    async with open_priced(titles="model") as node:
        provider = node.models.find("scripted")
        assert isinstance(provider, ScriptedProvider)
        provider.names_things = True
        last = await say(node, "script: seed=1 tokens=5")
        await until(lambda: not node.tasks)
        found = await charged(node)
        assert [(each.purpose, each.output_tokens, each.counted) for each in found] == [
            ("reply", 5, False),
            ("title", 5, False),
        ]
        assert {row.run_id for row in await rows(node)} == {last.data["runId"]}
        await check(node, last.data["runId"], last)


async def test_a_title_that_fails_or_whose_server_dies_is_charged(open_priced: Callable[..., Any]) -> None:
    """Refused it used nothing, and has no row; while it is made it is charged already by what it was given."""
    async with open_priced(titles="model") as node:
        provider = node.models.find("scripted")
        assert isinstance(provider, ScriptedProvider)
        provider.names_things = True
        await say(node, "script: seed=1 tokens=5 stall=2@2", conversationId="stalls")
        await say(node, "script: seed=1 tokens=5 fail=400@2", conversationId="fails")
        await until(lambda: len(node.tasks) == 1)
        titles = {row.conversation_id: row for row in await rows(node) if row.purpose == "title"}
        assert list(titles) == ["stalls"]
        assert titles["stalls"].input_tokens > 0
        assert titles["stalls"].counted


async def test_a_reply_of_a_deleted_conversation_is_charged(open_priced: Callable[..., Any]) -> None:
    """What was received by then is spent, once, whether or not anything is left of the reply."""
    async with open_priced() as node:
        message = "script: seed=1 tokens=500 delay_ms=10"
        started = await Runs(node, LOCAL).start(message, conversation_id="c")
        await shown(node, started.run_id, 3)
        await Conversations(node, LOCAL).delete("c")
        await until(lambda: not node.tasks)
        (row,) = await rows(node)
        assert (row.conversation_id, row.run_id) == ("", "")
        assert (row.input_tokens, bool(row.counted)) == (given(message), True)
        assert row.output_tokens >= counted("".join(token(1, index) for index in range(3)))


async def test_the_call_of_a_process_that_ended_is_charged_by_the_next_one(open_priced: Callable[..., Any]) -> None:
    """What it was given and what came of it are counted; then the call that went on, as it was told."""
    message = "script: seed=1 tokens=30 delay_ms=10"
    async with open_priced() as node:
        started = await Runs(node, LOCAL).start(message, conversation_id="c")
        await shown(node, started.run_id, 3)
        await leave(node)
        assert await rows(node) == []
    async with open_priced() as node:
        async with asyncio.timeout(20):
            async for _ in Runs(node, LOCAL).follow(started.run_id):
                pass
        tail = await find_tail(node, LOCAL, started.run_id)
        index = next(at for at, event in enumerate(tail.log.events) if isinstance(event, UsageReported))
        came = tail.log.text_bytes[: tail.log.ends[tail.log.event_seqs[index]]].decode()
        assert tail.log.text == reply(1, 30)
        first, second = await charged(node)
        assert first == Charged("scripted", "first", "reply", given(message), counted(came), True)
        assert (second.reason, second.counted) == ("takeover", False)
        await check(node, started.run_id)

"""Spending limits, from a post to its end: what is let in, what is refused, and that every sum is exact."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docs.from_code.topics import TOPICS
from legato.app import open_node
from legato.core.errors import BudgetExceeded
from legato.core.principal import Principal
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from legato.runs.start import start
from legato.runs.stop import stop
from legato.storage.outbox import first_events
from tests.asgi import call
from tests.budget_world import (
    ANN,
    PRICES,
    Calendar,
    charged,
    ended,
    holds,
    message,
    post_at_once,
    quiet,
    said_something,
    say,
    spent,
    sums,
    usd,
)
from tests.conftest import node_settings
from tests.feed_world import until
from tests.integration.held_models import HeldModels
from tests.tool_world import Bench

BEN = Principal(id="ben", role="member")
DAY_MS = 24 * 3600 * 1000
TO_NOON_MS = DAY_MS // 2 - Calendar().now_ms() % DAY_MS  # So that no midnight comes but by a test's doing.


def server(tokens: float, **more: Any) -> dict[str, Any]:
    """A budget of the whole server that never begins anew."""
    return {"per": "server", "period": "all", "limit_usd": usd(tokens)} | more


@asynccontextmanager
async def opened(folder: Path, *budgets: Any, clock: Any = None, tools: Any = (), **more: Any) -> AsyncIterator[Node]:
    clock = clock or Calendar()
    clock.ahead_ms += TO_NOON_MS
    values = {"prices": PRICES, "budgets": list(budgets), "retry_base_s": 0.01} | more
    async with open_node(node_settings(folder, **values), clock=clock, tools=tools) as node:
        yield node


async def test_many_posts_at_once_spend_exactly_the_limit(tmp_path: Path) -> None:
    """30 replies fit; the others are refused with 402, not a token more is spent, and not one less is let in.

    A thousand at once: test_budgets_on_servers (over sockets), test_nodes_budgets (over three nodes of PostgreSQL).
    """
    async with opened(tmp_path, server(300)) as node:
        begun, refused = await post_at_once([node], 150)
        assert len(begun) == 30
        assert {type(each) for each in refused} == {BudgetExceeded}
        await quiet(node)
        assert await spent(node) == (300, 0)
        assert await charged(node) == 300
        assert await holds(node) == 0


async def test_what_a_reply_does_not_use_is_there_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most is reserved, what it cost is spent."""
    models = HeldModels(monkeypatch)
    async with opened(tmp_path, server(25)) as node:
        first = await start(node, ANN, message("script: tokens=3 delay_ms=30", max_tokens=20))
        assert await spent(node) == (0, 20)
        with pytest.raises(BudgetExceeded):
            await start(node, ANN, message(max_tokens=10))
        models.let_go()
        await ended(node, first)
        await until(lambda: not node.live)
        assert await spent(node) == (3, 0)
        assert await say(node, max_tokens=10) == (reply(0, 10), "stop")
        assert await spent(node) == (13, 0)


async def test_the_answer_says_which_budget_and_when_it_begins_anew(tmp_path: Path, monkeypatch: Any) -> None:
    """402 before a stream opens, as an event or as a problem; nothing is saved."""
    now_ms = Calendar().now_ms()
    monkeypatch.setattr(Calendar, "now_ms", lambda clock: now_ms)
    async with opened(tmp_path, {"per": "principal", "period": "day", "limit_usd": usd(5)}) as node:
        api = create_api(node)
        body = {"message": "script: tokens=10", "maxTokens": 10, "conversationId": "c-1"}
        told = await call(api, "POST", "/chat/stream", body, {"Accept": "application/json"})
        assert (told.status, told.json["code"], told.json["retryable"]) == (402, "budget_exceeded", False)
        little = "the daily budget of this principal has too little left for this: it begins anew at 20"
        assert told.json["detail"].startswith(little)
        assert 0 <= int(told.headers["retry-after"]) - (DAY_MS - now_ms % DAY_MS) / 1000 <= 2
        event = await call(api, "POST", "/chat/stream", body)
        assert event.status == 402
        assert event.body.startswith(b"event: error\ndata: {")
        assert (await call(api, "GET", "/conversations/c-1")).status == 404
        # Not even a counter: whoever posts under ever new names leaves nothing behind.
        assert await sums(node) == []


async def test_a_post_that_would_fit_if_replies_ended_is_told_to_come_again(tmp_path: Path) -> None:
    """What is only reserved may come back: the time to wait is short."""
    async with opened(tmp_path, server(10)) as node:
        first = await start(node, ANN, message("script: tokens=2 stall=1"))
        with pytest.raises(BudgetExceeded, match="used up by the replies that are being made") as caught:
            await start(node, ANN, message())
        assert caught.value.retry_after_s == 5.0
        await stop(node, ANN, first.run_id)
        await ended(node, first)


async def test_a_day_begins_without_anybody_s_doing(tmp_path: Path) -> None:
    """At midnight of UTC there is a new counter; the old one stays as it was."""
    clock = Calendar()
    async with opened(tmp_path, {"per": "server", "period": "day", "limit_usd": usd(10)}, clock=clock) as node:
        assert await say(node) == (reply(0, 10), "stop")
        with pytest.raises(BudgetExceeded):
            await start(node, ANN, message())
        clock.ahead_ms += DAY_MS
        assert await say(node) == (reply(0, 10), "stop")
        assert [(each.spent, each.reserved) for each in await sums(node)] == [(10, 0), (10, 0)]


async def test_a_reply_over_midnight_is_of_the_day_on_which_it_was_reserved(tmp_path: Path) -> None:
    """What is given back goes where it came from."""
    clock = Calendar()
    async with opened(tmp_path, {"per": "server", "period": "day", "limit_usd": usd(10)}, clock=clock) as node:
        first = await start(node, ANN, message("script: tokens=4 delay_ms=30"))
        clock.ahead_ms += DAY_MS
        await ended(node, first)
        await say(node)
        assert [(each.spent, each.reserved) for each in await sums(node)] == [(4, 0), (10, 0)]


async def test_each_principal_key_session_and_model_has_its_own(tmp_path: Path) -> None:
    """All that a call touches are reserved, and one that is named goes before that of each."""
    budgets = [
        {"per": "principal", "period": "month", "limit_usd": usd(20)},
        {"per": "principal", "name": "ben", "period": "month", "limit_usd": usd(0)},
        {"per": "key", "period": "all", "limit_usd": usd(10)},
        {"per": "session", "period": "day", "limit_usd": usd(10)},
        {"per": "model", "name": "other", "period": "day", "limit_usd": usd(10)},
    ]
    async with opened(tmp_path, *budgets) as node:
        with pytest.raises(BudgetExceeded, match="the monthly budget of this principal is spent"):
            await start(node, BEN, message())
        await say(node, session_id="s-1", key_id="k-1", model="other")
        with pytest.raises(BudgetExceeded, match="the whole budget of this key is spent, and does not begin anew"):
            await start(node, ANN, message(session_id="s-2", key_id="k-1"))
        with pytest.raises(BudgetExceeded, match="the daily budget of this session"):
            await start(node, ANN, message(session_id="s-1"))
        with pytest.raises(BudgetExceeded, match="the daily budget of this model"):
            await start(node, ANN, message(session_id="s-2", model="other"))
        await say(node, session_id="s-2")
        with pytest.raises(BudgetExceeded, match="of this principal"):
            await start(node, ANN, message(session_id="s-3"))
        found = {(each.per, each.subject): each.spent for each in await sums(node)}
        assert found[("principal", "ann")] == 20
        assert ("principal", "ben") not in found
        assert found[("key", "k-1")] == found[("session", "s-1")] == found[("model", "other")] == 10


async def test_a_reply_has_as_many_tokens_as_the_budget_still_pays_for(tmp_path: Path) -> None:
    """It ends as `budget` where they run out, and keeps its text; where less than the least is left there is none."""
    async with opened(tmp_path, server(100), spending={"least_tokens": 20}) as node:
        assert await say(node, "script: tokens=70", max_tokens=90) == (reply(0, 70), "stop")
        assert await say(node, "script: tokens=60", max_tokens=60) == (reply(0, 30), "budget")
        assert await spent(node) == (100, 0)
        with pytest.raises(BudgetExceeded):
            await start(node, ANN, message(max_tokens=60))


async def test_a_reply_that_is_cut_short_by_its_own_limit_ends_as_before(tmp_path: Path) -> None:
    """`length` is what was asked for, `budget` what was not."""
    async with opened(tmp_path, server(1000)) as node:
        assert await say(node, "script: tokens=60", max_tokens=30) == (reply(0, 30), "length")


async def test_a_stopped_reply_costs_what_was_received(tmp_path: Path) -> None:
    """And what it had reserved beyond is given back."""
    async with opened(tmp_path, server(1000)) as node:
        first = await start(node, ANN, message("script: tokens=900 delay_ms=10 usage=0", max_tokens=900))
        await said_something(first)
        await stop(node, ANN, first.run_id)
        text, reason, _ = await ended(node, first)
        await until(lambda: not node.live)
        assert reason == "stopped"
        counted, reserved = await spent(node)
        assert (counted, reserved) == (len(text) // 4 + 1, 0)
        assert await charged(node) == counted


async def test_a_turn_that_waited_is_reserved_when_it_runs(tmp_path: Path) -> None:
    """And ends as `budget`, with no word said, where nothing is left by then."""
    bench = Bench()
    async with opened(tmp_path, server(25), tools=bench.tools()) as node:
        words = 'script: tokens=10 tool=wait:{"query":"x"}@1'
        first = await start(node, ANN, message(words, conversation_id="c-1"))
        queued = [await start(node, ANN, message(conversation_id="c-1")) for _ in range(2)]
        await until(lambda: bool(bench.ran))
        # While a tool runs nothing is reserved for its own reply either.
        assert await spent(node) == (0, 0)
        bench.gate.set()
        assert (await ended(node, first))[1] == "stop"
        assert (await ended(node, queued[0]))[:2] == (reply(0, 10), "stop")
        assert (await ended(node, queued[1]))[:2] == ("", "budget")
        await quiet(node)
        assert await spent(node) == (20, 0)
        assert await holds(node) == 0


@pytest.mark.parametrize(
    ("words", "limit", "text", "reason", "cost"),
    [
        ("script: tokens=10 cut=4@1", 100, reply(0, 10), "stop", 10),
        ("script: tokens=10 fail=503@1", 10, reply(0, 10), "stop", 10),
        ("script: tokens=10 cut=4@1 usage=0", 11, reply(0, 4), "budget", None),
    ],
    ids=["continued", "refused", "spent"],
)
async def test_a_call_that_is_made_again_is_reserved_again(
    tmp_path: Path, words: str, limit: float, text: str, reason: str, cost: float | None
) -> None:
    """What the call before it cost is spent first; where too little is left the reply ends with what it has said."""
    async with opened(tmp_path, server(limit)) as node:
        assert await say(node, words) == (text, reason)
        found = await spent(node)
        assert found == (await charged(node), 0)
        assert cost is None or found[0] >= cost


async def test_another_model_takes_from_its_own_budget(tmp_path: Path) -> None:
    """A failover is a call of that model."""
    budget = {"per": "model", "name": "other", "period": "all", "limit_usd": usd(10)}
    broken = {"provider": "scripted", "script": {"faults": {"fail": (503, 1)}}}
    models = {"scripted": broken, "other": {"provider": "scripted"}}
    settings = {"models": models, "model": ["scripted", "other"], "call_attempts": 1}
    async with opened(tmp_path, budget, **settings) as node:
        assert await say(node) == (reply(0, 10), "stop")
        assert await spent(node) == (10, 0)
        assert await say(node) == ("", "budget")
        assert await spent(node) == (10, 0)


async def test_rounds_of_tools_are_settled_before_the_tools_run(tmp_path: Path) -> None:
    """While a person is asked, or a tool takes its time, only what was spent is gone."""
    bench = Bench()
    words = 'script: tokens=8 upto=3@1 tool=wait:{"query":"x"}@1'
    async with opened(tmp_path, server(100), tools=bench.tools()) as node:
        first = await start(node, ANN, message(words, max_tokens=20))
        await until(lambda: bool(bench.ran))
        assert await spent(node) == (3, 0)
        bench.gate.set()
        text, reason, _ = await ended(node, first)
        await quiet(node)
        assert (text, reason) == (reply(0, 8), "stop")
        assert await spent(node) == (8, 0)
        assert await charged(node) == 8


async def test_the_round_after_the_last_money_is_not_made(tmp_path: Path) -> None:
    """The reply ends as `budget` behind its tools, and keeps what it has said."""
    bench = Bench()
    bench.gate.set()
    words = 'script: tokens=30 upto=15@1 tool=search:{"query":"x"}@1'
    async with opened(tmp_path, server(30), tools=bench.tools(), spending={"least_tokens": 16}) as node:
        text, reason = await say(node, words, max_tokens=40)
        assert (text, reason) == (reply(0, 15), "budget")
        assert bench.ran == [("search", "x")]
        assert await spent(node) == (15, 0)


async def test_a_longer_context_is_reserved_before_it_is_sent(tmp_path: Path) -> None:
    """Input costs too: what was said before counts with every turn."""
    prices = {"scripted": {"input": "1000", "output": "0"}}
    async with opened(tmp_path, server(400), prices=prices) as node:
        assert (await say(node, "script: tokens=10", conversation_id="c-1"))[1] == "stop"
        before = await spent(node)
        assert 0 < before[0] < 60
        said = 1
        while said < 20:
            try:
                await say(node, "script: tokens=10", conversation_id="c-1")
            except BudgetExceeded:
                break
            said += 1
        assert 2 <= said < 10
        after = await spent(node)
        assert before[0] < after[0] <= 400
        assert after == (await charged(node), 0)


@pytest.mark.parametrize(
    ("spending", "cost"),
    [({"unknown_call_usd": usd(10)}, 10), ({"unknown_million_usd": "1000"}, 20), ({}, None)],
    ids=["call", "tokens", "none"],
)
async def test_a_model_without_a_price_takes_the_ceiling_or_is_not_called(
    tmp_path: Path, spending: dict[str, str], cost: float | None
) -> None:
    """What is not known is never taken for nothing."""
    async with opened(tmp_path, server(200), prices={}, spending=spending) as node:
        if cost is None:
            with pytest.raises(BudgetExceeded, match="the price of scripted is not known, and a budget holds here"):
                await start(node, ANN, message())
            return
        assert (await say(node))[1] == "stop"
        found = await spent(node)
        assert found[1] == 0
        assert found[0] == cost or (spending.get("unknown_million_usd") and 10 < found[0] < 30)
        assert await charged(node) == 0


async def test_titles_are_paid_for_too(tmp_path: Path) -> None:
    """A title is a call: reserved, settled, and left out where too little is left."""
    async with opened(tmp_path, server(230), titles="model") as node:
        for provider in node.models.providers:
            provider.names_things = True
        assert (await say(node, "script: tokens=10"))[1] == "stop"
        await quiet(node)
        found = await spent(node)
        assert found == (await charged(node), 0)
        assert found[0] > 10
        await say(node, "script: tokens=10", max_tokens=200 - int(found[0]) + 20)
        await quiet(node)
        assert await spent(node) == (await charged(node), 0)
        assert await holds(node) == 0


async def test_a_conversation_that_is_deleted_in_mid_reply_is_paid_for(tmp_path: Path) -> None:
    """What was received was spent."""
    async with opened(tmp_path, server(1000)) as node:
        first = await start(node, ANN, message("script: tokens=900 delay_ms=10", max_tokens=900, conversation_id="c-1"))
        await said_something(first)
        await Conversations(node, ANN).delete("c-1")
        await quiet(node)
        found = await spent(node)
        assert found == (await charged(node), 0)
        assert 0 < found[0] < 900
        assert await holds(node) == 0


async def test_somebody_is_told_when_much_is_spent_and_when_all_is(tmp_path: Path) -> None:
    """Once each, whoever is refused how often."""
    async with opened(tmp_path, server(100, warn_percent=50)) as node:
        for _ in range(4):
            await say(node, max_tokens=12)
        assert [event.topic for _, event in await _events(node)] == []
        for _ in range(5):
            await say(node, max_tokens=12 if (await spent(node))[0] < 85 else 10)
        await post_at_once([node], 50, max_tokens=30)
        await quiet(node)
        told = [event for _, event in await _events(node)]
        assert [event.topic for event in told] == ["budget.warning", "budget.spent"]
        assert told[0].owner == "app"
        for event in told:
            assert set(event.payload) == {field.alias for field in TOPICS[event.topic].model_fields.values()}
            TOPICS[event.topic].model_validate(event.payload)
        assert told[0].payload["spentUsd"] == "0.05"


async def _events(node: Node) -> list[Any]:
    found = await node.database.read(lambda tx: first_events(tx, 1000))
    return [each for each in found if each[1].topic.startswith("budget.")]


async def test_without_a_budget_nothing_is_counted(tmp_path: Path) -> None:
    """No row, and no statement more."""
    async with opened(tmp_path) as node:
        await say(node)
        assert await sums(node) == []
        assert await holds(node) == 0


async def test_what_a_process_before_had_reserved_comes_back_at_the_start(tmp_path: Path) -> None:
    """A reply goes on with what is reserved for it; anything else is nobody's."""
    async with opened(tmp_path, server(1000)) as node:
        first = await start(node, ANN, message("script: tokens=40 delay_ms=20", max_tokens=500))
        await said_something(first)
    async with opened(tmp_path, server(1000)) as node:
        text, reason, _ = await ended(node, replace(first, tail=None))
        assert (text, reason) == (reply(0, 40), "stop")
        await quiet(node)
        assert await spent(node) == (await charged(node), 0)
        assert await holds(node) == 0

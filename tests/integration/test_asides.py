"""Calls of models that stand in no log: in the ledger and in the budgets at once, whatever becomes of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from legato.core.budget import Payer
from legato.core.errors import BudgetExceeded, InvalidRequest
from legato.core.event import RunFailed
from legato.providers.base import CallRequest, ChatMessage
from legato.runs import budget
from legato.runs.aside import ask_aside
from legato.runs.budget import bounded
from legato.runs.judge import stand_in
from legato.runs.moderate import Posting
from legato.runs.node import Node
from legato.runs.start import start
from legato.storage.budget_holds import NewHold, reserve
from legato.storage.charge_tables import charge
from legato.storage.statement import Prepared, Transaction
from legato.tools.schema import tool_from
from tests.asgi import call
from tests.budget_world import ANN, TOKEN_NUSD, charged, ended, holds, message, quiet, spent, sums, usd
from tests.contract.upstream_server import Do, UpstreamServer
from tests.integration.held_models import HeldLimits
from tests.integration.test_budgets import opened, server
from tests.moderation_world import HEAD, answers, calls_tool, ends, frame, open_world, says, until

JUDGE: dict[str, Any] = {"type": "judge", "rule": "Weapons.", "model": "judge"}
A_TOKEN = {"input": "1000", "output": "1000"}
DEAR: dict[str, Any] = {"prices": {"model": A_TOKEN, "judge": A_TOKEN}}
OF_NOBODY: dict[str, Any] = {"owner": "ann", "key_id": None, "session_id": "s", "run_id": "r-1"}
_CHARGES = Prepared(select(charge).order_by(charge.c.key))


def judged_by(judge: UpstreamServer) -> Callable[[str], dict[str, Any]]:
    model = {"judge": {"provider": "openai", "base_url": judge.base_url, "api_key": "sk-j"}}
    return lambda _: model


def verdict() -> list[Any]:
    return [HEAD, frame(content=json.dumps({"violates": False, "reason": ""})), *ends()]


async def charges(node: Node, purpose: str) -> list[Any]:
    return [row for row in await node.database.read(lambda tx: tx.all(_CHARGES)) if row.purpose == purpose]


async def is_even(node: Node) -> tuple[float, float]:
    """Check that what was charged is what is spent; return that, and what is reserved."""
    found = await spent(node)
    assert found[0] == pytest.approx(await charged(node))
    return found


async def test_ledger_and_budget_agree_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a judge is asked, after what it had reserved was given back by another process, and when it is over."""
    limits = HeldLimits(monkeypatch)
    async with UpstreamServer() as judge:
        judge.scripts.append([HEAD, Do.HOLD])
        policy = JUDGE | {"on": ["request"], "timeout_s": 0.3}
        async with open_world(tmp_path, policy, models=judged_by(judge), budgets=[server(10_000)], **DEAR) as world:
            post = asyncio.create_task(world.post("hello"))
            await until(lambda: bool(judge.requests))
            begun, reserved = await is_even(world.node)
            assert begun > 0
            assert reserved > 0
            assert world.node.budgets is not None
            assert await world.node.budgets.release_lost() == 1
            assert await is_even(world.node) == (begun, 0)
            # It takes too long.
            limits.end()
            await post
            assert limits.asked_s == {0.3}
            await quiet(world.node)
            over, reserved = await is_even(world.node)
            assert over > begun
            assert reserved == 0
            assert await holds(world.node) == 0


async def test_a_call_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    """What was charged in advance is taken back."""
    async with UpstreamServer() as judge:
        judge.scripts += [answers({"error": {"message": "no"}}, status=401)] * 2
        policy = JUDGE | {"on": ["request"]}
        async with open_world(tmp_path, policy, models=judged_by(judge), budgets=[server(10_000)], **DEAR) as world:
            await world.post("hello")
            assert await is_even(world.node) == (0, 0)
            assert await charges(world.node, "judge") == []
            assert await holds(world.node) == 0


async def test_a_call_that_is_given_up_while_it_is_reserved_is_taken_back(tmp_path: Path) -> None:
    """Whoever asked is cancelled when the reservation is on its way to the disk already."""
    async with opened(tmp_path, server(10_000)) as node:
        run = stand_in(node, Posting(**OF_NOBODY, conversation_id="c"))
        provider = node.models.find("scripted")
        asked = [ChatMessage(role="user", content="script: tokens=3")]
        request = CallRequest(run_id="r-1", messages=asked, temperature=None, max_tokens=9)
        await ask_aside(node, run, provider, request, purpose="judge")
        assert await is_even(node) == (3, 0)
        first, second = Hold(node), Hold(node)
        await first.begun()
        asking = asyncio.create_task(ask_aside(node, run, provider, request, purpose="judge"))
        await asyncio.sleep(0)
        writing = asyncio.create_task(second.begun())
        await asyncio.sleep(0)
        await first.end()
        await writing
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await second.end()
        await quiet(node)
        assert await is_even(node) == (3, 0)
        assert await holds(node) == 0


class Hold:
    """A transaction that lasts until it is ended: what is queued with it is on its way to the disk for as long."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._begun = threading.Event()
        self._ended = threading.Event()

    async def begun(self) -> None:
        self._writing = asyncio.ensure_future(self._node.committer.write(self._wait))
        await asyncio.to_thread(self._begun.wait, 10)

    async def end(self) -> None:
        self._ended.set()
        await self._writing

    def _wait(self, tx: Transaction) -> None:
        self._begun.set()
        assert self._ended.wait(10)


async def test_what_is_reserved_for_no_call_of_this_node_comes_back(tmp_path: Path) -> None:
    """At the second sight; what is reserved for a reply that is being made, or for a call, stays."""
    async with opened(tmp_path, server(100)) as node:
        budgets = node.budgets
        assert budgets is not None
        first = await start(node, ANN, message("script: tokens=10 stall=5"))
        wanted = budgets.spending.want(
            Payer(owner="ann", key_id=None, session_id="s", model="scripted"),
            input_tokens=0,
            max_tokens=7,
            now_ms=node.clock.now_ms(),
        )
        assert wanted is not None
        for hold_id in ("h-owned", "h-lost"):
            new = NewHold(id=hold_id, run_id="r-1", purpose="judge", calls_before=0, at_ms=1)
            await node.committer.write(
                lambda tx, new=new: reserve(tx, new, wanted.uses, most=7 * TOKEN_NUSD, least=0)  # type: ignore[misc]
            )
        budgets.asides.add("h-owned")
        await budgets.release_unowned()
        assert await spent(node) == (0, 24)
        await budgets.release_unowned()
        assert await spent(node) == (0, 17)
        budgets.asides.clear()
        node.live[first.run_id].stop("user")
        await ended(node, first)


async def test_a_judge_s_spent_budget_in_mid_reply_ends_it_and_charges_its_call(tmp_path: Path) -> None:
    """The reply ends as `budget` with what was judged; its own call is paid for by what was received."""
    budgets = [
        {"per": "model", "name": "judge", "period": "all", "limit_usd": "0"},
        {"per": "model", "name": "model", "period": "all", "limit_usd": usd(10_000)},
    ]
    async with UpstreamServer() as judge:
        policy = JUDGE | {"on": ["reply"]}
        async with open_world(tmp_path, policy, models=judged_by(judge), budgets=budgets, **DEAR) as world:
            world.upstream.scripts.append(says(["One sentence. ", "Another one. "], then=[Do.HOLD]))
            said, end = await world.ask("hello")
            assert (said, end["finishReason"]) == ("", "budget")
            await quiet(world.node)
            (row,) = await charges(world.node, "reply")
            assert row.output_tokens > 0
            assert end["usage"]["outputTokens"] == row.output_tokens
            assert [(each.subject, each.reserved) for each in await sums(world.node)] == [("model", 0)]
            assert await is_even(world.node) == (row.cost_nusd / TOKEN_NUSD, 0)


@pytest.mark.parametrize(("stage", "reason"), [("request", "stop"), ("reply", "budget")])
async def test_a_judge_s_spent_budget_over_tools_is_no_failure(tmp_path: Path, stage: str, reason: str) -> None:
    """A result that nobody could judge is left out, and the tool's call ended; arguments are not carried out."""
    ran: list[str] = []

    async def note(text: str) -> str:
        """Note."""
        ran.append(text)
        return "a secret"

    # The first question of the judge is paid for, the second is not.
    least = 300
    budgets = [{"per": "model", "name": "judge", "period": "all", "limit_usd": usd(least + 5)}]
    prices = {"model": {"input": "0", "output": "0"}, "judge": {"input": "0", "output": "1000"}}
    async with UpstreamServer() as judge:
        judge.scripts += [verdict()]
        own: dict[str, Any] = {"budgets": budgets, "prices": prices, "spending": {"least_tokens": least}}
        policy = JUDGE | {"on": [stage]}
        async with open_world(tmp_path, policy, models=judged_by(judge), tools=[tool_from(note)], **own) as world:
            head, *more = calls_tool("note", {"text": "a"})
            world.upstream.scripts += [[head, frame(content="Well. "), *more], says(["Done."])]
            said, end = await world.ask("hello")
            assert end["finishReason"] == reason
            if stage == "request":
                assert (said, ran) == ("Well. Done.", ["a"])
                assert "[removed: budget]" in world.told
                assert "a secret" not in world.told
            else:
                assert (said, ran) == ("Well. ", [])


async def test_a_judge_s_charge_names_no_deleted_conversation(tmp_path: Path) -> None:
    """Neither where it was asked before, nor where it is asked after."""
    async with UpstreamServer() as judge:
        judge.scripts.append([HEAD, Do.HOLD])
        async with open_world(tmp_path, JUDGE | {"on": ["reply"]}, models=judged_by(judge), **DEAR) as world:
            world.upstream.scripts.append(says(["One. ", "Two. "], then=[Do.HOLD]))
            post = asyncio.create_task(world.post("hello", conversationId="c-secret"))
            await until(lambda: bool(judge.requests))
            assert (await call(world.api, "DELETE", "/conversations/c-secret")).status == 204
            await asyncio.gather(post, return_exceptions=True)
            await quiet(world.node)
            for purpose in ("judge", "reply"):
                (row,) = await charges(world.node, purpose)
                assert (row.conversation_id, row.run_id) == ("", "")
            judge.scripts.append(verdict())
            run = stand_in(world.node, Posting(**OF_NOBODY, conversation_id="c-secret"))
            run.conversation_key = 1
            provider = world.node.models.find("judge")
            asked = [ChatMessage(role="user", content="hello")]
            request = CallRequest(run_id="r-1", messages=asked, temperature=None, max_tokens=9)
            await ask_aside(world.node, run, provider, request, purpose="title")
            (row,) = await charges(world.node, "title")
            assert (row.conversation_id, row.run_id) == ("", "")


async def test_an_end_that_is_refused_keeps_what_its_last_call_used(tmp_path: Path) -> None:
    """The reply ends as failed, and is paid for."""
    refuse = "CREATE TRIGGER no BEFORE UPDATE ON run WHEN NEW.state = 'finished' BEGIN SELECT RAISE(ABORT, 'no'); END"
    async with opened(tmp_path, server(100)) as node:
        await node.committer.write(lambda tx: tx.run(Prepared(text(refuse))))
        _, _, events = await ended(node, await start(node, ANN, message("script: tokens=7")))
        await quiet(node)
        assert isinstance(events[-1], RunFailed)
        assert await is_even(node) == (7, 0)
        assert await holds(node) == 0


async def test_input_is_bounded_only_by_a_window_that_is_known(tmp_path: Path) -> None:
    """A model of which nobody knows how much it takes may take all that it is given."""
    async with opened(tmp_path) as node:
        provider = node.models.find("scripted")
        provider.context_window = 100
        assert [bounded(provider, 99), bounded(provider, 10**6)] == [99, 100]
        provider.context_window = None
        assert bounded(provider, 10**6) == 10**6


async def test_what_is_remembered_of_refusals_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions have spent what they may."""
    monkeypatch.setattr(budget, "MOST_TOLD", 3)
    async with opened(tmp_path, {"per": "session", "period": "day", "limit_usd": "0"}) as node:
        assert node.budgets is not None
        for number in range(5):
            with pytest.raises(BudgetExceeded):
                await start(node, ANN, message(session_id=f"s-{number}"))
            assert len(node.budgets._told) <= 3
        await quiet(node)


async def test_a_post_that_is_refused_for_anything_leaves_no_counter(tmp_path: Path) -> None:
    """Neither for want of money nor because it names what is not there."""
    each = {"per": "session", "period": "day", "limit_usd": usd(100)}
    async with opened(tmp_path, each, {"per": "model", "period": "day", "limit_usd": usd(5)}) as node:
        with pytest.raises(BudgetExceeded):
            await start(node, ANN, message(session_id="s-1"))
        with pytest.raises(InvalidRequest, match="names no message"):
            await start(node, ANN, replace(message(session_id="s-2", max_tokens=1), parent="m-none"))
        assert await sums(node) == []

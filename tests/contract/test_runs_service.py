"""The service of runs: beginning, waiting, following and stopping, as steps do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from legato.core.errors import CursorDiverged, Draining, InvalidRequest, KeyReused, LegatoError, NotFound
from legato.core.event import LogItem, RunFinished, RunStarted, RunStopped
from legato.core.run import RunState
from legato.core.run_errors import UpstreamRefused
from legato.providers.base import CallEnd
from legato.providers.scripted import reply, token
from legato.runs.node import Node
from legato.runs.recover import leave
from legato.runs.replies import Runs
from tests.service_world import ANN, BEN, LateClock, World


@pytest.fixture
async def world(node: Node) -> AsyncIterator[World]:
    yield World(node, LateClock())
    assert len(node.readers) == 0, "whoever follows a run lets go of it"


async def followed(runs: Runs, run_id: str, after: int = -1) -> list[tuple[int, LogItem]]:
    async with asyncio.timeout(10):
        return [each async for each in runs.follow(run_id, after=after)]


async def test_a_reply_is_waited_for(world: World) -> None:
    """Its whole text, how it ended and what it used; conversation and session are those that were named."""
    answer = await world.runs().reply("script: seed=3 tokens=5", conversation_id="c", session_id="s")
    assert (answer.text, answer.finish_reason, answer.model) == (reply(3, 5), "stop", "scripted")
    assert answer.usage is not None
    assert answer.usage.output_tokens == 5
    assert answer.started is not None
    assert (answer.started.conversation_id, answer.started.session_id) == ("c", "s")
    page = await world.conversations().messages("c")
    assert [each.text for each in page.messages] == ["script: seed=3 tokens=5", reply(3, 5)]


async def test_a_reply_that_fails_raises_the_runs_error(world: World) -> None:
    """Of the class that its code names; what was said is kept."""
    with pytest.raises(UpstreamRefused) as failed:
        await world.runs().reply("script: seed=3 tokens=5 cut=2@1 fail=400@2", conversation_id="c")
    assert (failed.value.code, failed.value.retryable) == ("upstream_refused", False)
    message = (await world.conversations().messages("c")).messages[1]
    assert (message.status, message.text) == ("failed", reply(3, 2))
    assert message.run_id is not None
    run = await world.runs().get(message.run_id)
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert (run.error.code, run.error.message) == (failed.value.code, failed.value.message)


async def test_a_run_tells_where_it_stands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, state, times and usage, as plain values."""
    provider, looked = world.node.models.find("scripted"), asyncio.Event()
    call = provider.call

    async def held(*given: Any) -> CallEnd:
        await looked.wait()
        return await call(*given)

    monkeypatch.setattr(provider, "call", held)
    started = await world.runs().start("script: tokens=3 delay_ms=5")
    first = await world.runs().get(started.run_id)
    assert (first.state, first.ended_at_ms, first.usage) == ("running", None, None)
    looked.set()
    await followed(world.runs(), started.run_id)
    run = await world.runs().get(started.run_id)
    assert (run.id, run.conversation_id, run.session_id, run.user_message_id, run.message_id) == (
        started.run_id,
        started.conversation_id,
        started.session_id,
        started.user_message_id,
        started.message_id,
    )
    assert (run.state, run.finish_reason, run.turn, run.calls) == (RunState.FINISHED, "stop", 1, 1)
    assert run.started_at_ms is not None
    assert run.ended_at_ms is not None
    assert run.created_at_ms <= run.started_at_ms <= run.ended_at_ms


async def test_a_repeat_is_the_same_run(world: World) -> None:
    """With the same `request_id`, while it is made and afterwards, whichever way; another text is refused."""
    runs = world.runs()
    options: Any = {"request_id": "e-1", "session_id": "s"}
    first = await runs.start("script: seed=5 tokens=4 delay_ms=5", **options)
    assert await runs.start("script: seed=5 tokens=4 delay_ms=5", **options) == first
    answer = await runs.reply("script: seed=5 tokens=4 delay_ms=5", **options)
    assert answer.text == reply(5, 4)
    assert await runs.start("script: seed=5 tokens=4 delay_ms=5", **options) == first
    assert (await runs.reply("script: seed=5 tokens=4 delay_ms=5", **options)).text == reply(5, 4)
    with pytest.raises(KeyReused):
        await runs.start("script: seed=6 tokens=4", **options)
    assert len(await world.names()) == 1
    assert (await world.conversations().get(first.conversation_id)).message_count == 2


async def test_a_run_carries_its_trace(world: World) -> None:
    """Of what began it."""
    started = await Runs(world.node, ANN, trace_id="t-1").start("script: tokens=1")
    (_, first), *_ = await followed(world.runs(), started.run_id)
    assert isinstance(first, RunStarted)
    assert first.trace_id == "t-1"


@pytest.mark.parametrize("pace", ["", "delay_ms=3"])
async def test_a_run_is_followed_to_its_end(world: World, pace: str) -> None:
    """Every event once, in order, from seq 0 to the last; later the same again, and from any place on."""
    started = await world.runs().start(f"script: seed=4 tokens=20 {pace}")
    found = await followed(world.runs(), started.run_id)
    assert [seq for seq, _ in found] == list(range(len(found)))
    assert isinstance(found[0][1], RunStarted)
    assert isinstance(found[-1][1], RunFinished)
    assert [event for _, event in found if isinstance(event, str)] == [token(4, index) for index in range(20)]
    assert await followed(world.runs(), started.run_id) == found
    for after in (0, 7, len(found) - 1):
        assert await followed(world.runs(), started.run_id, after) == found[after + 1 :]


async def test_many_follow_one_run(world: World) -> None:
    """From different places, and each at its own pace."""
    started = await world.runs().start("script: seed=4 tokens=30 delay_ms=2")
    slow: list[LogItem] = []

    async def dawdle() -> None:
        async for _, event in world.runs().follow(started.run_id):
            slow.append(event)
            await asyncio.sleep(0.004)

    quick, again, _ = await asyncio.gather(
        followed(world.runs(), started.run_id), followed(world.runs(), started.run_id, 0), dawdle()
    )
    assert quick[1:] == again
    assert [event for _, event in quick] == slow


async def test_a_follower_that_leaves_early_lets_go(world: World) -> None:
    """The run goes on without it."""
    started = await world.runs().start("script: seed=4 tokens=10 delay_ms=3")
    async with aclosing(world.runs().follow(started.run_id)) as events:  # type: ignore[type-var]
        async for seq, _ in events:
            if seq == 3:
                break
    assert len(world.node.readers) == 0
    await world.until_live(0)
    assert (await world.runs().get(started.run_id)).state == "finished"


@pytest.mark.parametrize(("after", "error"), [(10_000, CursorDiverged), (-2, InvalidRequest)])
async def test_a_place_that_is_none_is_refused(world: World, after: int, error: type[LegatoError]) -> None:
    """Past the head of the log, or before its beginning."""
    run_id = await world.say("c")
    with pytest.raises(error):
        await followed(world.runs(), run_id, after)


async def test_anothers_run_is_not_followed(world: World) -> None:
    """Neither while it is made nor later."""
    started = await world.runs().start("script: tokens=3 stall=1")
    with pytest.raises(NotFound):
        await followed(world.runs(BEN), started.run_id)
    await world.runs().stop(started.run_id)
    await world.until_live(0)
    with pytest.raises(NotFound):
        await followed(world.runs(BEN), started.run_id)


async def test_a_run_is_stopped(world: World) -> None:
    """It ends with what it said; whoever waits for the reply is told so by its finish reason."""
    runs = world.runs()
    started = await runs.start("script: seed=4 tokens=9 stall=2", request_id="k")
    waiting = asyncio.create_task(runs.reply("script: seed=4 tokens=9 stall=2", request_id="k"))
    async for _, event in runs.follow(started.run_id):
        if event == token(4, 1):
            break
    assert (await runs.stop(started.run_id)).state == "running"
    answer = await waiting
    assert (answer.finish_reason, answer.text) == ("stopped", reply(4, 2))
    assert isinstance((await followed(runs, started.run_id))[-1][1], RunStopped)
    assert (await runs.stop(started.run_id)).state == "stopped"


async def test_a_stop_of_a_waiting_turn_is_done_though_nobody_waits_for_it(world: World) -> None:
    """The turn is ended, and the one behind it runs once the first is done."""
    runs = world.runs()
    first, second, third = [
        await runs.start(f"script: tokens={tokens} stall=1", conversation_id="c") for tokens in (9, 2, 1)
    ]
    stopping = asyncio.create_task(runs.stop(second.run_id))
    async with asyncio.timeout(10):
        while not await _is_asked_to_stop(world, second.run_id):  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0)
        stopping.cancel()
        await runs.stop(first.run_id)
        assert isinstance((await followed(runs, third.run_id))[-1][1], RunFinished)
        assert isinstance((await followed(runs, second.run_id))[-1][1], RunStopped)


async def _is_asked_to_stop(world: World, run_id: str) -> bool:
    """Whether whoever holds the turn knows; where nobody holds what waits, whether its row says so."""
    if run := world.node.live.get(run_id):
        return run.stop_cause is not None
    return await world.rows("SELECT stop_by FROM run WHERE id = ?", run_id) == [("user",)]


async def test_whoever_waits_learns_of_a_delete(world: World) -> None:
    """Of the running reply and of one that waits behind it: there is no such run any more."""
    runs = world.runs()
    waiting = [asyncio.create_task(runs.reply("script: tokens=9 stall=2", conversation_id="c")) for _ in range(2)]
    await world.until_begun(2)
    await asyncio.sleep(0.05)
    await world.conversations().delete("c")
    async with asyncio.timeout(10):
        for each in waiting:
            with pytest.raises(NotFound):
                await each


async def test_whoever_waits_learns_of_a_shutdown(world: World) -> None:
    """The reply is left to the next start, and nobody waits for it here."""
    runs = world.runs()
    started = await runs.start("script: tokens=9 stall=2")
    waiting = asyncio.create_task(followed(runs, started.run_id))
    await asyncio.sleep(0.05)
    await leave(world.node)
    world.node.readers.cut_all()
    async with asyncio.timeout(10):
        with pytest.raises(Draining):
            await waiting
        with pytest.raises(Draining):
            await followed(runs, started.run_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conversation_id", ""),
        ("session_id", "x" * 201),
        ("temperature", 3),
        ("max_tokens", "7"),
        ("system_prompt", "\x00"),
        ("model", "none-such"),
        ("parent_id", 7),
        ("metadata", {"a": {1, 2}.__iter__()}),
        ("request_id", "\n"),
        ("conversationId", "c"),
    ],
)
async def test_a_wrong_option_is_named(world: World, field: str, value: object) -> None:
    """By its name in Python, and nothing is begun."""
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(InvalidRequest) as refused:
        await world.runs().start("script: tokens=1", **wrong)
    assert [each.field for each in refused.value.fields] == [field]
    assert await world.names() == set()


@pytest.mark.parametrize("text", ["", " \n", "\x00", "\ud800", 7])
async def test_a_message_says_something(world: World, text: Any) -> None:
    """Text that is not blank and that a database takes."""
    with pytest.raises(InvalidRequest, match="message"):
        await world.runs().start(text)


async def test_a_parent_makes_a_branch(world: World) -> None:
    """Absent: behind the active branch; None: a new first message; an id: behind that reply."""
    first = await world.runs().start("script: tokens=1", conversation_id="c")
    await followed(world.runs(), first.run_id)
    for options in ({}, {"parent_id": None}, {"parent_id": first.message_id}):
        await world.runs().reply("script: tokens=1", conversation_id="c", **options)
    parents = [each.parent_id for each in (await world.conversations().log()).messages if each.role == "user"]
    assert parents == [None, first.message_id, None, first.message_id]

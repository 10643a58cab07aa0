"""Tool calls that wait for a person: one decision each, in the log before it counts, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from legato.app import open_node
from legato.core.errors import NotFound
from legato.core.principal import Principal
from legato.http.api import create_api
from legato.providers.scripted import ScriptedProvider, reply
from legato.runs.approvals import approve
from tests.asgi import call
from tests.client import text_of
from tests.conftest import node_settings
from tests.page_world import ShiftedClock
from tests.tool_world import Bench, World, events_of, open_world, output_of, told, until

DELETE = 'tool=delete:{"path":"a.txt"}'
SEARCH = 'tool=search:{"query":"x"}'
ASKED = [("delete", "called"), ("approval", "delete", "asked")]


async def asked(world: World, words: str = "", **fields: Any) -> tuple[str, asyncio.Task[Any]]:
    """Post a message whose reply waits for a person; return the run's id and the reply to come."""
    post = world.begin(f"script: seed=3 tokens=4 {DELETE}@1 {words}", **fields)
    run_id = await world.run_id()
    data = await world.event(run_id, "approval", "asked")
    assert (data["name"], data["arguments"]) == ("delete", '{"path":"a.txt"}')
    return run_id, post


async def test_a_call_runs_once_it_is_granted(tmp_path: Path) -> None:
    """Asked, granted, run; nothing runs before, and the decision is seen by everybody who reads."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world, conversationId="c")
        assert not world.bench.ran
        part = (await world.messages("c"))[-1]["parts"][0]
        assert (part["type"], part["approval"]) == ("tool-call", "asked")
        answer = await world.approve(run_id, "call_1_1")
        assert (answer.status, answer.json) == (200, {"runId": run_id, "callId": "call_1_1", "status": "granted"})
        events = await post
        assert told(events) == [*ASKED, ("approval", "delete", "granted"), ("delete", "running"), ("delete", "done")]
        assert next(event for event in events if event.data.get("status") == "granted").data["by"] == "local"
        assert world.bench.ran == [("delete", "a.txt")]
        assert (text_of(events), output_of(events)) == (reply(3, 4), "deleted a.txt")
        assert (await world.messages("c"))[-1]["parts"][0]["approval"] == "granted"


async def test_a_refusal_is_told_to_the_model(tmp_path: Path) -> None:
    """With the person's words; the call does not run, and the reply goes on."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world)
        assert (await world.approve(run_id, "call_1_1", granted=False, reason="not that one")).status == 200
        events = await post
        assert told(events) == [*ASKED, ("approval", "delete", "denied"), ("delete", "failed")]
        assert output_of(events) == "not carried out: the user did not approve this call: not that one"
        assert world.requests[-1].messages[-1].content == output_of(events)
        assert not world.bench.ran
        assert (text_of(events), events[-1].data["finishReason"]) == (reply(3, 4), "stop")


async def test_nobodys_answer_is_a_refusal(tmp_path: Path) -> None:
    """After the time that is set; a decision that comes later is too late."""
    async with open_world(tmp_path, approval_timeout_s=0.2) as world:
        run_id, post = await asked(world, "delay_ms=100")
        await world.event(run_id, "approval", "denied")
        assert (await world.approve(run_id, "call_1_1")).status == 409
        events = await post
        assert told(events)[2:] == [("approval", "delete", "denied"), ("delete", "failed")]
        assert "nobody gave it within 0.2 s" in output_of(events)
        assert next(event for event in events if event.data.get("status") == "denied").data["by"] is None
        assert not world.bench.ran


async def test_others_do_not_wait_for_it(tmp_path: Path) -> None:
    """Calls of the same answer run meanwhile, and each waits for its own decision."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world, f'{SEARCH}@1 tool=delete:{{"path":"b.txt"}}@1')
        await world.event(run_id, "tool", "done")
        assert world.bench.ran == [("search", "x")]
        await world.approve(run_id, "call_1_3")
        await until(lambda: ("delete", "b.txt") in world.bench.ran)
        await world.approve(run_id, "call_1_1", granted=False)
        events = await post
        assert world.bench.ran == [("search", "x"), ("delete", "b.txt")]
        assert output_of(events, "call_1_3") == "deleted b.txt"


@pytest.mark.parametrize("rule", [lambda arguments: arguments["path"] == "a.txt", True])
async def test_only_what_needs_it_is_asked_about(tmp_path: Path, rule: Any) -> None:
    """A rule sees the arguments; a call that is refused anyway is nobody's business."""
    async with open_world(tmp_path, tools={"needs_approval": rule}) as world:
        events = await world.say("script: tokens=1 tool=delete:{}@1")
        assert told(events) == [("delete", "called"), ("delete", "failed")]
        if rule is not True:
            events = await world.say('script: tokens=1 tool=delete:{"path":"b.txt"}@1')
            assert told(events)[-1] == ("delete", "done")
        run_id, post = await asked(world)
        await world.approve(run_id, "call_1_1")
        await post


@pytest.mark.parametrize(
    ("run", "call_id", "status", "code"),
    [
        ("r-unknown", "call_1_1", 404, "not_found"),
        (None, "call_9_9", 404, "not_found"),
        (None, "call_1_2", 409, "conflict"),
        (None, "call_1_1", 200, None),
    ],
)
async def test_what_cannot_be_decided_is_refused(
    tmp_path: Path, run: str | None, call_id: str, status: int, code: str | None
) -> None:
    """No such run, no such call, and a call that nobody is asked about."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world, f"{SEARCH}@1")
        answer = await world.approve(run or run_id, call_id)
        assert answer.status == status
        assert code is None or answer.json["code"] == code
        if status != 200:
            await world.approve(run_id, "call_1_1")
        await post
        late = await world.approve(run_id, "call_1_1")
        assert (late.status, late.json["code"]) == (409, "conflict")


@pytest.mark.parametrize("body", [{}, {"granted": "yes"}, {"granted": True, "why": "x"}, {"granted": 1}, []])
async def test_a_decision_is_yes_or_no(tmp_path: Path, body: object) -> None:
    """Anything else is refused, and decides nothing."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world)
        answer = await call(world.api, "POST", f"/chat/stream/{run_id}/approvals/call_1_1", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request")
        assert (await world.approve(run_id, "call_1_1")).status == 200
        await post


async def test_a_call_is_decided_once(tmp_path: Path) -> None:
    """Of many who decide at the same time one does, and the others are told so."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world)
        answers = await asyncio.gather(*(world.approve(run_id, "call_1_1", granted=n % 2 == 0) for n in range(10)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 9
        events = await post
        decided = [event.data["status"] for event in events if event.name == "approval"]
        winner = next(answer for answer in answers if answer.status == 200)
        assert decided == ["asked", winner.json["status"]]
        assert len(world.bench.ran) == (decided[1] == "granted")


async def test_another_persons_call_is_not_found(tmp_path: Path) -> None:
    """Not told apart from one that is not there, live or ended."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world)
        other = Principal(id="eve", role="member")
        with pytest.raises(NotFound):
            await approve(world.node, other, run_id, "call_1_1", granted=True, reason=None)
        assert not world.bench.ran
        await world.approve(run_id, "call_1_1", granted=False)
        await post
        with pytest.raises(NotFound):
            await approve(world.node, other, run_id, "call_1_1", granted=True, reason=None)


async def test_waiting_is_nobodys_time_but_the_persons(tmp_path: Path) -> None:
    """No call of the model is open, no limit on tokens holds, and the reply's longest duration stands still."""
    async with open_world(tmp_path, token_timeout_s=0.1, first_token_timeout_s=0.1, run_timeout_s=60) as world:
        world.node.clock = clock = ShiftedClock()
        run_id, post = await asked(world)
        assert cast(ScriptedProvider, world.node.models.find("scripted")).open_calls == 0
        clock.shift_ms += 90_000
        await asyncio.sleep(0.2)
        world.node.tick()
        await world.approve(run_id, "call_1_1")
        events = await post
        assert (text_of(events), events[-1].data["finishReason"]) == (reply(3, 4), "stop")


async def test_the_longest_duration_goes_on_when_it_is_decided(tmp_path: Path) -> None:
    """Waiting gives a reply no more time than it had."""
    async with open_world(tmp_path, run_timeout_s=60) as world:
        world.node.clock = clock = ShiftedClock()
        run_id, post = await asked(world, 'tool=wait:{"query":"x"}@2')
        clock.shift_ms += 70_000
        world.node.tick()
        await world.approve(run_id, "call_1_1")
        await until(lambda: ("wait", "x") in world.bench.ran)
        clock.shift_ms += 60_000
        async with asyncio.timeout(3):
            events = await post
        assert (events[-1].data["finishReason"], events[-1].data["stoppedBy"]) == ("stopped", "time")
        assert world.bench.cancelled == ["x"]


async def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    """The call never runs, and can no longer be granted."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world)
        await call(world.api, "POST", f"/chat/stream/{run_id}/stop")
        async with asyncio.timeout(2):
            events = await post
        assert events[-1].data["finishReason"] == "stopped"
        assert (await world.approve(run_id, "call_1_1")).status == 409
        assert not world.bench.ran


@pytest.mark.parametrize("granted", [True, False])
async def test_a_restart_asks_nobody_twice(tmp_path: Path, granted: bool) -> None:
    """The next process waits for the same decision, and goes on from it; the stream is one."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world, f"{SEARCH}@1")
        await world.event(run_id, "tool", "done")
        ran = world.bench.ran
    await asyncio.gather(post, return_exceptions=True)
    async with open_world(tmp_path) as world:
        follow = asyncio.ensure_future(call(world.api, "GET", f"/chat/stream/{run_id}"))
        await until(lambda: run_id in world.node.live)
        assert (await world.approve(run_id, "call_1_1", granted=granted)).status == 200
        events = events_of(await follow)
        assert [event.data["status"] for event in events if event.name == "approval"] == [
            "asked",
            "granted" if granted else "denied",
        ]
        assert text_of(events) == reply(3, 4)
        assert ran == [("search", "x")], "what was done before is not done again"
        assert world.bench.ran == ([("delete", "a.txt")] if granted else [])
        epochs = {str(event.id).split(".")[1] for event in events}
        assert epochs == {"0", "1"}


async def test_a_restart_leaves_the_rest_of_the_time(tmp_path: Path) -> None:
    """What was waited before counts: of a minute 0.2 s are left, and nobody waits for a minute again."""
    async with open_world(tmp_path, approval_timeout_s=60) as world:
        run_id, post = await asked(world)
    await asyncio.gather(post, return_exceptions=True)
    clock = ShiftedClock()
    clock.shift_ms = 59_800
    settings = node_settings(tmp_path, approval_timeout_s=60)
    async with open_node(settings, tools=Bench().tools(), clock=clock) as node, asyncio.timeout(30):
        answer = await call(create_api(node), "GET", f"/chat/stream/{run_id}")
        assert told(events_of(answer))[-1] == ("delete", "failed")


async def test_an_id_may_be_of_any_form(tmp_path: Path) -> None:
    """Servers make them; a slash in one is no end of the path."""
    async with open_world(tmp_path) as world:
        run_id, post = await asked(world)
        assert (await world.approve(run_id, "functions.delete:0/1")).status == 404
        await world.approve(run_id, "call_1_1")
        await post

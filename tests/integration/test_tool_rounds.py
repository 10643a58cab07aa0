"""Function calling from a post to its last event: what the model is told, what a client sees, what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from legato.app import open_node
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.runs.context import NO_RESULT
from legato.runs.tool_round import AT_ONCE
from legato.tools.schema import tool_from
from tests.asgi import call
from tests.client import text_of
from tests.conftest import node_settings
from tests.page_world import ShiftedClock
from tests.tool_world import Bench, events_of, open_world, output_of, told, until

SEARCH = 'tool=search:{"query":"x"}'


async def test_a_model_calls_a_tool_and_answers_with_what_it_gave(tmp_path: Path) -> None:
    """Called, run, told to the model, shown to the client, kept with the message."""
    async with open_world(tmp_path) as world:
        events = await world.say(f"script: seed=3 tokens=4 {SEARCH}@1", conversationId="c")
        assert told(events) == [("search", "called"), ("search", "running"), ("search", "done")]
        assert [event.name for event in events] == ["tool"] * 3 + ["chunk"] * 4 + ["complete"]
        assert (text_of(events), events[-1].data["finishReason"]) == (reply(3, 4), "stop")
        assert events[0].data["arguments"] == '{"query":"x"}'
        assert output_of(events) == "found x"
        assert world.bench.ran == [("search", "x")]
        first, second = world.requests
        assert {tool["function"]["name"] for tool in first.tools} == {"search", "slow", "wait", "fail", "delete"}
        assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
        assert second.messages[1].tool_calls[0].id == second.messages[2].tool_call_id == events[0].data["callId"]
        assert second.messages[2].content == "found x"
        question, answer = await world.messages("c")
        assert question["content"].startswith("script:")
        assert answer["content"] == reply(3, 4)
        assert [part["type"] for part in answer["parts"]] == ["tool-call", "tool-result", "text"]
        assert (answer["parts"][1]["output"], answer["parts"][1]["isError"]) == ("found x", False)
        runs = await call(world.api, "GET", f"/runs/{answer['runId']}")
        assert runs.json["calls"] == 2


async def test_text_before_and_after_tools_is_one_reply(tmp_path: Path) -> None:
    """What the model said before it called stays, is no prefix of what follows, and is told to it as it was."""
    async with open_world(tmp_path) as world:
        events = await world.say(f"script: seed=5 tokens=9 {SEARCH}@1 upto=3@1 {SEARCH}@2 upto=6@2", conversationId="c")
        names = [event.name for event in events]
        assert names == [*["chunk"] * 3, *["tool"] * 3, *["chunk"] * 3, *["tool"] * 3, *["chunk"] * 3, "complete"]
        assert text_of(events) == reply(5, 9)
        assert [event.data["index"] for event in events if event.name == "chunk"] == list(range(1, 10))
        last = world.requests[-1]
        assert [message.role for message in last.messages] == ["user", "assistant", "tool", "assistant", "tool"]
        assert last.messages[1].content == reply(5, 3)
        assert not last.continues
        parts = (await world.messages("c"))[-1]["parts"]
        assert [part["type"] for part in parts] == ["text", "tool-call", "tool-result"] * 2 + ["text"]
        assert parts[0]["text"] == reply(5, 3)


async def test_calls_of_one_answer_run_in_parallel(tmp_path: Path) -> None:
    """Each result is in the log as it comes, and a call that fails takes nothing from the others; the model is told
    all of them, in the order of its calls.
    """
    words = " ".join('tool=slow:{"n":%d}@1' % n for n in range(4))  # noqa: UP031
    async with open_world(tmp_path) as world:
        events = await world.say(f'script: tokens=2 {words} {SEARCH}@1 tool=fail:{{"words":"x"}}@1')
        assert world.bench.at_once == 4
        done = [event.data["name"] for event in events if event.data.get("status") == "done"]
        assert done == ["search", *["slow"] * 4]
        assert told(events)[:6] == [("slow", "called")] * 4 + [("search", "called"), ("fail", "called")]
        contents = [message.content for message in world.requests[1].messages[2:]]
        assert contents == ["0", "1", "2", "3", "found x", "RuntimeError: x at [path]"]


async def test_calls_that_run_at_once_are_bounded(tmp_path: Path) -> None:
    """The rest of them wait; those that wait have not started."""
    words = " ".join('tool=slow:{"n":%d}@1' % n for n in range(20))  # noqa: UP031
    async with open_world(tmp_path) as world:
        events = await world.say(f"script: tokens=1 {words}")
        assert (world.bench.at_once, len(world.bench.ran)) == (AT_ONCE, 20)
        statuses = [event.data["status"] for event in events if event.name == "tool"]
        assert statuses[:20] + ["running"] * AT_ONCE == statuses[: 20 + AT_ONCE]
        assert statuses[20 + AT_ONCE] == "done"


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ('tool=search:{"query":', "invalid arguments: not JSON"),
        ("tool=search:[]", "invalid arguments: a JSON object is needed"),
        ('tool=search:{"q":1}', "query: field required"),
        ("tool=nothing:{}", "there is no tool 'nothing'; the tools are: delete, fail, search, slow, wait"),
        ('tool=fail:{"words":"secret"}', "RuntimeError: secret at [path]"),
        ('tool=fail:{"words":"on-purpose"}', "there is nothing to be found"),
        ('tool=wait:{"query":"x"}', "the tool did not answer within 0.2 s"),
    ],
)
async def test_whatever_goes_wrong_is_told_to_the_model(tmp_path: Path, word: str, words: str) -> None:
    """As an error; the reply goes on, and the user sees no stack."""
    async with open_world(tmp_path, tools={"timeout_s": 0.2}) as world:
        events = await world.say(f"script: seed=3 tokens=3 {word}@1")
        assert words in output_of(events)
        assert told(events)[-1][1] == "failed"
        assert words in world.requests[1].messages[-1].content
        assert (text_of(events), events[-1].name) == (reply(3, 3), "complete")
        assert "Traceback" not in str(events)
        ran = [name for name, _ in world.bench.ran]
        assert ran == (["fail"] if "fail" in word else ["wait"] if "wait" in word else [])
        assert (("fail", "running") in told(events)) == ("fail" in word)


async def test_arguments_that_are_no_json_are_kept_and_not_sent_back(tmp_path: Path) -> None:
    """The client sees what the model wrote."""
    async with open_world(tmp_path) as world:
        events = await world.say('script: tokens=1 tool=search:{"query":@1')
        assert events[0].data["arguments"] == '{"query":'
        assert world.requests[1].messages[1].tool_calls[0].replayed_arguments == "{}"


@pytest.mark.parametrize("most", [0, 1, 3])
async def test_rounds_have_a_cap(tmp_path: Path, most: int) -> None:
    """Then the model is asked once more, without tools, and ends with text; the end says why."""
    async with open_world(tmp_path, max_tool_rounds=most) as world:
        events = await world.say(f"script: seed=4 tokens=3 {SEARCH}@*")
        assert len(world.bench.ran) == most
        assert [bool(request.tools) for request in world.requests] == [True] * most + [False]
        assert text_of(events) == reply(4, 3)
        assert events[-1].data["finishReason"] == ("tool_limit" if most else "stop")


async def test_a_reply_without_tools_is_as_it_was(tmp_path: Path) -> None:
    """A model that calls none ends as ever, whether or not there are any."""
    async with open_world(tmp_path) as world:
        events = await world.say("script: seed=4 tokens=3")
        assert (text_of(events), events[-1].data["finishReason"]) == (reply(4, 3), "stop")
        assert len(world.requests) == 1


async def test_a_reply_that_was_cut_at_its_length_calls_nothing(tmp_path: Path) -> None:
    """The last call may be half of one."""
    async with open_world(tmp_path) as world:
        events = await world.say(f"script: tokens=9 {SEARCH}@1 upto=5@1", maxTokens=3)
        assert events[-1].data["finishReason"] == "length"
        assert not world.bench.ran
        events = await world.say(f"script: tokens=9 {SEARCH}@1 upto=5@1", maxTokens=7)
        assert [event.name for event in events].count("chunk") == 7, "the limit is the whole reply's"
        assert events[-1].data["finishReason"] == "length"
        assert len(world.bench.ran) == 1


@pytest.mark.parametrize("prefill", [True, False])
@pytest.mark.parametrize(
    "fault", ["cut=2@1", "cut=5@2", "cut=8@2", "fail=503@2", "garbage=1@2", "cut=2@1 cut=8@3", "fail=429@1 cut=6@3"]
)
async def test_breaks_around_a_round_are_continued(tmp_path: Path, prefill: bool, fault: str) -> None:
    """Before the call, behind it, in the midst of the next text: nothing is lost or repeated, no tool runs twice."""
    model = {"provider": "scripted", "script": {"prefill": prefill}}
    async with open_world(tmp_path, models={"scripted": model}, retry_base_s=0.01) as world:
        events = await world.say(f"script: seed=6 tokens=10 {SEARCH}@1 upto=5@1 {fault}")
        assert (text_of(events), events[-1].name) == (reply(6, 10), "complete")
        assert world.bench.ran == [("search", "x")]
        last = world.requests[-1]
        said = [message for message in last.messages if message.role == "assistant"]
        assert said[0].content == reply(6, 5)
        assert last.continues == (prefill and len(said) == 2)
        # Text before a round is context, and never what a continuation goes on from.
        assert not last.continues or not said[-1].tool_calls


async def test_the_next_model_goes_on_behind_a_round(tmp_path: Path) -> None:
    """A failover in the midst of a reply: the results that the first model asked for are the second's too."""
    models = {
        "scripted": {"provider": "scripted", "script": {"faults": {"fail": (503, 2)}}},
        "b": {"provider": "scripted"},
    }
    async with open_world(tmp_path, models=models, model=["scripted", "b"], call_attempts=1) as world:
        events = await world.say(f"script: seed=6 tokens=6 {SEARCH}@1 {SEARCH}@2")
        assert (text_of(events), events[-1].data["model"]) == (reply(6, 6), "b")
        assert world.bench.ran == [("search", "x")] * 2
        assert len(world.requests) == 2, "a model that failed is not gone back to within the reply"


async def test_later_turns_know_what_earlier_ones_found(tmp_path: Path) -> None:
    """Calls and results are part of the history, in order, with ids that are unlike."""
    async with open_world(tmp_path) as world:
        for _ in range(2):
            await world.say(f"script: seed=2 tokens=2 {SEARCH}@1 upto=1@1", conversationId="c")
        await world.say("script: seed=2 tokens=1", conversationId="c")
        messages = world.requests[-1].messages
        assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"] * 2 + ["user"]
        ids = [message.tool_call_id for message in messages if message.role == "tool"]
        assert ids == [call.id for message in messages for call in message.tool_calls]
        assert len(set(ids)) == 2


async def test_a_replay_is_the_same_bytes(tmp_path: Path) -> None:
    """Live, from the packed log, from any cursor, and after a restart."""
    async with open_world(tmp_path) as world:
        words = f'{SEARCH}@1 upto=2@1 tool=fail:{{"words":"x"}}@2 tool=slow:{{"n":1}}@2'
        live = await call(world.api, "POST", "/chat/stream", {"message": f"script: seed=8 tokens=6 {words}"})
        run_id = live.headers["x-run-id"]
        again = await call(world.api, "GET", f"/chat/stream/{run_id}")
        assert again.body == live.body
        events = events_of(live)
        for event in events[:-1]:
            rest = await call(world.api, "GET", f"/chat/stream/{run_id}", headers={"Last-Event-ID": str(event.id)})
            assert again.body.endswith(rest.body.removeprefix(b": ok\n\n"))
    async with open_world(tmp_path) as world:
        assert (await call(world.api, "GET", f"/chat/stream/{run_id}")).body == live.body


async def test_a_stop_cancels_a_tool(tmp_path: Path) -> None:
    """At once; the reply ends as stopped, and the next turn is told that there was no result."""
    async with open_world(tmp_path) as world:
        post = world.begin(f'script: tokens=5 tool=wait:{{"query":"x"}}@1 {SEARCH}@1 upto=2@1', conversationId="c")
        run_id = await world.run_id()
        await world.event(run_id, "tool", "done")
        stopped = await call(world.api, "POST", f"/chat/stream/{run_id}/stop")
        assert stopped.status == 202
        async with asyncio.timeout(2):
            events = await post
        assert (events[-1].name, events[-1].data["finishReason"]) == ("complete", "stopped")
        assert world.bench.cancelled == ["x"]
        assert text_of(events) == reply(0, 2)
        await world.say("script: tokens=1", conversationId="c")
        roles = [message.role for message in world.requests[-1].messages]
        assert roles == ["user", "assistant", "tool", "tool", "user"]
        assert [m.content for m in world.requests[-1].messages if m.role == "tool"] == [NO_RESULT, "found x"]


async def test_the_longest_duration_of_a_reply_bounds_its_tools(tmp_path: Path) -> None:
    """A tool that takes longer is cancelled, and the reply is stopped by time."""
    async with open_world(tmp_path, run_timeout_s=60) as world:
        world.node.clock = clock = ShiftedClock()
        post = world.begin('script: tokens=5 tool=wait:{"query":"x"}@1')
        await until(lambda: bool(world.bench.ran))
        clock.shift_ms += 60_000
        events = await post
        assert (events[-1].data["finishReason"], events[-1].data["stoppedBy"]) == ("stopped", "time")
        assert world.bench.cancelled == ["x"]


async def test_a_tool_may_take_longer_than_a_token(tmp_path: Path) -> None:
    """Limits on tokens hold for the model alone."""
    bench = Bench()
    async with open_world(tmp_path, bench, token_timeout_s=0.1, first_token_timeout_s=0.1) as world:
        post = world.begin('script: seed=1 tokens=3 tool=wait:{"query":"x"}@1')
        await until(lambda: bool(bench.ran))
        await asyncio.sleep(0.4)
        bench.gate.set()
        assert text_of(await post) == reply(1, 3)


async def test_a_tool_is_given_its_context(tmp_path: Path) -> None:
    """What the composition root makes of the run."""
    seen: list[object] = []

    async def note(ctx: object) -> str:
        """Note."""
        seen.append(ctx)
        return "noted"

    async with open_node(node_settings(tmp_path), tools=[tool_from(note)]) as node:
        node.tool_context = lambda run, call_id, name: ("context of", run.id)
        answer = await call(create_api(node), "POST", "/chat/stream", {"message": "script: tokens=1 tool=note@1"})
        assert seen == [("context of", answer.headers["x-run-id"])]


async def test_a_message_that_is_being_made_shows_its_tools(tmp_path: Path) -> None:
    """Whoever opens the conversation meanwhile sees what goes on."""
    async with open_world(tmp_path) as world:
        post = world.begin('script: tokens=3 upto=1@1 tool=wait:{"query":"x"}@1', conversationId="c")
        await world.event(await world.run_id(), "tool", "running")
        parts: list[dict[str, Any]] = (await world.messages("c"))[-1]["parts"]
        assert [part["type"] for part in parts] == ["text", "tool-call"]
        world.bench.gate.set()
        await post

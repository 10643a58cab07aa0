"""Function calling with a server that speaks OpenAI's protocol: what it is sent in each call of one reply."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from legato.app import open_node
from legato.http.api import create_api
from legato.providers.scripted import reply
from tests.client import text_of
from tests.conftest import node_settings
from tests.contract.upstream_server import LAST_CHUNK, Do, Script, UpstreamServer, answer, chunked, head
from tests.contract.upstream_shapes import DONE, END, STREAMED_CALL, TOOLS_END, delta, text
from tests.naive import NaiveClient
from tests.server import ServerProcess
from tests.tool_world import Bench, World, told

TOOL_SERVER = str(Path(__file__).parents[1] / "tool_server.py")
TIMES = {"first_token_timeout_s": 10.0, "token_timeout_s": 10.0, "retry_base_s": 0.01}


def called(call_id: str | None, name: str, arguments: str, index: int = 0) -> bytes:
    entry: dict[str, object] = {"index": index, "function": {"name": name, "arguments": arguments}}
    return delta(tool_calls=[entry | ({"id": call_id, "type": "function"} if call_id else {})])


@asynccontextmanager
async def asking(folder: Path, *scripts: Script, **settings: Any) -> AsyncIterator[tuple[World, UpstreamServer]]:
    """A node whose model is a server that answers each call with the next of `scripts`."""
    async with UpstreamServer() as server:
        server.scripts.extend(scripts)
        model = {"provider": "openai", "base_url": server.base_url, "proxy": "", "context_window": 8000}
        settings = {"models": {"m": model}, "model": ["m"]} | TIMES | settings
        bench = Bench()
        async with open_node(node_settings(folder, **settings), tools=bench.tools()) as node:
            yield World(node, bench, create_api(node)), server


def messages_in(server: UpstreamServer) -> list[list[dict[str, Any]]]:
    return [json.loads(request.body)["messages"] for request in server.requests]


async def test_a_reply_with_two_rounds(tmp_path: Path) -> None:
    """Streamed arguments, two calls at once, an id that comes again: every call has its result, under one id."""
    first = (
        text("Let me look. ")
        + called("call_0", "search", '{"que')
        + delta(tool_calls=[{"index": 0, "function": {"arguments": 'ry":"a"}'}}])
    )
    first += called("call_1", "slow", '{"n":1}', index=1)
    scripts = [(answer(first + TOOLS_END),), (answer(called("call_0", "search", '{"query":"b"}') + END),)]
    async with asking(tmp_path, *scripts, (answer(text("Found.") + END),)) as (world, server):
        events = await world.say("Hi")
        assert text_of(events) == "Let me look. Found."
        assert sorted(world.bench.ran) == [("search", "a"), ("search", "b"), ("slow", 1)]
        assert len({event.data["callId"] for event in events if event.name == "tool"}) == 3
        said = messages_in(server)[-1]
        assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
        assert said[1]["content"] == "Let me look. "
        assert [message["content"] for message in said if message["role"] == "tool"] == ["found a", "1", "found b"]
        ids = [call["id"] for message in said for call in message.get("tool_calls", ())]
        assert ids[:2] == ["call_0", "call_1"]
        assert ids == [message["tool_call_id"] for message in said if message["role"] == "tool"]
        assert len(set(ids)) == 3
        assert len(json.loads(server.requests[0].body)["tools"]) == 5


async def test_a_call_that_is_cut_is_asked_for_again(tmp_path: Path) -> None:
    """Half a tool call is nothing: the text before it stays and is gone on from, and the tool runs once."""
    cut = (head() + chunked(text("Let me look. ") + STREAMED_CALL), 0.02, Do.RESET)
    again = (answer(called("b", "search", '{"query":"x"}') + TOOLS_END),)
    broken = (head() + chunked(text("The answer is forty")), 0.02, Do.CLOSE)
    async with asking(tmp_path, cut, again, broken, (answer(text("-two.") + END),)) as (world, server):
        events = await world.say("Hi")
        assert text_of(events) == "Let me look. The answer is forty-two."
        assert told(events) == [("search", "called"), ("search", "running"), ("search", "done")]
        _, second, third, fourth = messages_in(server)
        assert [message["role"] for message in second] == ["user", "assistant", "user"]
        assert [message["role"] for message in third] == ["user", "assistant", "tool"]
        assert third[1]["content"] == "Let me look. "
        assert [message["role"] for message in fourth] == ["user", "assistant", "tool", "assistant", "user"]
        assert fourth[3]["content"] == "The answer is forty"


async def test_an_answer_that_is_cut_at_its_length_calls_nothing(tmp_path: Path) -> None:
    """Its last call may be half of what the model meant, whole as it looks."""
    cut = answer(text("Let me look.") + called("a", "search", '{"query":"x"}') + delta(finish="length") + DONE)
    async with asking(tmp_path, (cut,)) as (world, _):
        events = await world.say("Hi")
        assert (text_of(events), events[-1].data["finishReason"]) == ("Let me look.", "length")
        assert not world.bench.ran
        assert [event.name for event in events] == ["chunk", "complete"]


async def test_arguments_that_take_long_are_no_silence(tmp_path: Path) -> None:
    """A model that writes for longer than the wait for a token is not given up while it writes."""
    pieces = [*'{"query":"', *"abcdef", *'"}']
    script: list[bytes | float | Do] = [head() + chunked(called("a", "search", ""))]
    for piece in pieces:
        script += [0.1, chunked(delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]))]
    script.append(chunked(TOOLS_END) + LAST_CHUNK)
    async with asking(tmp_path, script, (answer(text("ok") + END),), token_timeout_s=1.5) as (world, server):
        assert text_of(await world.say("Hi")) == "ok"
        assert world.bench.ran == [("search", "abcdef")]
        assert len(server.requests) == 2


async def test_a_silent_call_is_given_up_all_the_same(tmp_path: Path) -> None:
    """A piece of a call, then nothing."""
    async with asking(
        tmp_path,
        (head() + chunked(called("a", "search", "")), Do.HOLD),
        (answer(text("ok") + END),),
        token_timeout_s=0.4,
    ) as (world, server):
        assert text_of(await world.say("Hi")) == "ok"
        assert len(server.requests) == 2


async def test_the_last_call_is_made_without_tools(tmp_path: Path) -> None:
    """A server that goes on calling is not asked again, whatever it says then."""
    loop = (answer(called(None, "search", '{"query":"x"}') + TOOLS_END),)
    async with asking(tmp_path, loop, loop, loop, max_tool_rounds=2) as (world, server):
        events = await world.say("Hi")
        assert (text_of(events), events[-1].data["finishReason"]) == ("", "tool_limit")
        assert ["tools" in json.loads(request.body) for request in server.requests] == [True, True, False]
        assert len(world.bench.ran) == 2


async def test_a_model_that_takes_no_tools_answers_all_the_same(tmp_path: Path) -> None:
    """Its server's refusal is learnt from, and the reply is one."""
    body = b'{"error": {"message": "model m does not support tools"}}'
    refusal = b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    async with asking(tmp_path, (refusal,), (answer(text("ok") + END),)) as (world, _):
        events = await world.say("Hi")
        assert (text_of(events), events[-1].data["finishReason"]) == ("ok", "stop")


class Watched(NaiveClient):
    """A naive client, and what it was sent."""

    body = ""

    def _read(self, text: str) -> None:
        self.body = text
        super()._read(text)


def test_a_naive_client_ignores_a_question_for_approval(tmp_path: Path) -> None:
    """It neither answers nor breaks: the call is refused when its time is over, and the reply comes to its end."""
    server = ServerProcess(tmp_path, {"approval_timeout_s": 0.3}, command=(TOOL_SERVER, "serve")).start()
    try:
        client = Watched(server.port, session="s", conversation="c")
        client.send('script: seed=3 tokens=6 tool=ask:{"key":"a"}@1')
    finally:
        server.kill()
    assert client.body.count("event: approval\n") == 2
    assert ("".join(client.chunks), client.completed, client.errors) == (reply(3, 6), 1, [])


def test_a_naive_client_sees_a_reply_with_tools_as_any_other(tmp_path: Path) -> None:
    """It ignores what it does not know: chunks, and one end."""
    server = ServerProcess(tmp_path, command=(TOOL_SERVER, "serve")).start()
    try:
        client = NaiveClient(server.port, session="s", conversation="c")
        client.send('script: seed=3 tokens=6 upto=2@1 tool=search:{"query":"data:"}@1 tool=nothing@2')
        assert ("".join(client.chunks), client.completed, client.errors) == (reply(3, 6), 1, [])
    finally:
        server.kill()

"""Tools on their way to an OpenAI-compatible server: what is sent, and what is learnt from a refusal."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from legato.core.run_errors import UpstreamRefused
from legato.providers.base import CallEnd, ChatMessage
from legato.providers.tool_deltas import ToolCall
from tests.contract.upstream_server import UpstreamServer, answer, refused
from tests.contract.upstream_shapes import HELLO, HI, STREAMED_CALL, TOOLS_END, Q
from tests.contract.upstream_world import REQUEST, STOPPED, Deltas, World, until, world

__all__ = ["world"]

TOOL = {"type": "function", "function": {"name": "search", "description": "Search.", "parameters": {"type": "object"}}}
WITH_TOOLS = replace(REQUEST, tools=[TOOL])
ROUND = [
    ChatMessage(
        role="assistant",
        content="",
        tool_calls=(
            ToolCall(id="call_a", name="search", arguments='{"q": "añ"}'),
            ToolCall(id="call_b", name="search", arguments='{"q": '),
        ),
    ),
    ChatMessage(role="tool", content="found", tool_call_id="call_a"),
    ChatMessage(role="tool", content="invalid arguments", tool_call_id="call_b"),
]


def sent(server: UpstreamServer) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.requests]


async def test_a_round_of_tools_is_sent_as_the_server_knows_it(world: World) -> None:
    """Definitions, calls with their ids, results behind them; arguments that are no JSON are sent back as none."""
    server = await world.server((answer(STREAMED_CALL + TOOLS_END),), (answer(HI),))
    provider = await world.provider(server)
    end = await provider.call(WITH_TOOLS, world.sink)
    assert end == CallEnd(reason="stop", tool_calls=(ToolCall(id="call_a", name="search", arguments=Q),))
    assert await provider.call(replace(WITH_TOOLS, messages=[*REQUEST.messages, *ROUND]), world.sink) == STOPPED
    assert tuple(world.sink.texts) == HELLO
    first, second = sent(server)
    assert first["tools"] == second["tools"] == [TOOL]
    assert second["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "search", "arguments": '{"q": "añ"}'}},
                {"id": "call_b", "type": "function", "function": {"name": "search", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "found"},
        {"role": "tool", "tool_call_id": "call_b", "content": "invalid arguments"},
    ]


async def test_without_tools_nothing_of_them_is_sent(world: World) -> None:
    """A server that has never heard of them is not told."""
    server = await world.server((answer(HI),))
    provider = await world.provider(server)
    await provider.call(REQUEST, world.sink)
    assert set(sent(server)[0]) == {"model", "messages", "stream", "stream_options", "max_tokens", "temperature"}
    assert all(set(message) == {"role", "content"} for message in sent(server)[0]["messages"])


@pytest.mark.parametrize(
    "words",
    [
        "registry.ollama.ai/library/gemma:2b does not support tools",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "No endpoints found that support tool use.",
    ],
)
async def test_a_model_that_takes_no_tools_answers_without(world: World, words: str) -> None:
    """It is learnt once, said in the log, and the reply comes."""
    refusal = refused(400, json.dumps({"error": {"message": words}}).encode())
    server = await world.server((refusal,), (answer(HI),), (answer(HI),))
    provider = await world.provider(server)
    with capture_logs() as logs:
        assert await provider.call(WITH_TOOLS, world.sink) == STOPPED
        assert await provider.call(WITH_TOOLS, world.sink) == STOPPED
    assert ["tools" in body for body in sent(server)] == [True, False, False]
    assert [entry["event"] for entry in logs] == ["the model takes no tools: it answers without them"]
    assert not provider.takes_tools


async def test_calls_under_way_learn_the_same(world: World) -> None:
    """A second call that is refused for what the first has learnt meanwhile is made again too."""
    refusal = refused(400, b'{"error": {"message": "it does not support tools"}}')
    both = asyncio.Event()
    server = await world.server((both, refusal), (both, refusal), (answer(HI),), (answer(HI),))
    provider = await world.provider(server)
    calls = asyncio.gather(*(provider.call(WITH_TOOLS, Deltas()) for _ in range(2)))
    await until(lambda: len(server.requests) == 2)
    both.set()
    assert await calls == [STOPPED, STOPPED]


async def test_another_refusal_stays_one(world: World) -> None:
    """Only a server that says so is taken for one without tools."""
    server = await world.server((refused(400, b'{"error": {"message": "invalid schema for tool search"}}'),))
    provider = await world.provider(server)
    with pytest.raises(UpstreamRefused, match="invalid schema"):
        await provider.call(WITH_TOOLS, world.sink)
    assert provider.takes_tools

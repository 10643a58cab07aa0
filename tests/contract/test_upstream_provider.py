"""The OpenAI-compatible provider against a real server: one suite over both transports.

`direct` is the own transport; `proxied` is aiohttp through a proxy that the test runs. What is sent
and when is scripted byte by byte in upstream_server.py.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from legato.core.run_errors import (
    RunError,
    UpstreamBroken,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from legato.providers.base import ChatMessage
from tests.contract.upstream_server import LAST_CHUNK, Do, Script, answer, chunked, head, refused
from tests.contract.upstream_shapes import (
    DONE,
    END,
    HELLO,
    HI,
    SHAPES,
    STOP,
    Shape,
    text,
    with_made_ids_left_out,
)
from tests.contract.upstream_world import KEY, REQUEST, STOPPED, Deltas, World, bytewise, world

__all__ = ["world"]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_every_shape_over_the_network(world: World, shape: Shape) -> None:
    """The table of shapes holds over a real connection, its body cut into HTTP chunks of 7 bytes."""
    body = [chunked(shape.body[i : i + 7]) for i in range(0, len(shape.body), 7)]
    script = (head() + b"".join(body) + LAST_CHUNK, Do.HOLD)
    if shape.error is None:
        end = await world.call(*script)
        assert (end.reason, end.usage) == (shape.reason, shape.usage)
        assert with_made_ids_left_out(end.tool_calls) == shape.calls
    else:
        with pytest.raises(RunError) as caught:
            await world.call(*script)
        assert type(caught.value) is shape.error
        assert shape.message in caught.value.message
    assert world.sink.opens == 1
    assert tuple(world.sink.texts) == shape.texts
    assert tuple(world.sink.thoughts) == shape.reasoning


async def test_an_answer_may_come_byte_by_byte(world: World) -> None:
    """Heads, chunk sizes, UTF-8 sequences and frames may be cut anywhere."""
    whole = answer(text("añ") + text("日本👩") + END)
    assert await world.call(*bytewise(whole)) == STOPPED
    assert world.sink.texts == ["añ", "日本👩"]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param((head(length=len(HI)) + HI,), id="content-length"),
        pytest.param((b"HTTP/1.1 200 OK\r\n\r\n" + HI, Do.CLOSE), id="until the end of the connection"),
        pytest.param((b"HTTP/1.0 200 OK\r\n\r\n" + HI, Do.CLOSE), id="HTTP/1.0"),
        pytest.param((b"HTTP/1.1 200 OK\r\n\r\n" + HI.removesuffix(DONE), Do.CLOSE), id="until the end, no [DONE]"),
        pytest.param((b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(HI),), id="103 first"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n" + answer(HI),), id="100 first"),
        pytest.param(
            (head(headers="X-Twice: a\r\nx-twice: b\r\nConnection: close") + chunked(HI) + LAST_CHUNK,),
            id="connection: close",
        ),
        pytest.param(
            (head(headers="content-type: application/json") + chunked(HI) + LAST_CHUNK,),
            id="labelled as JSON",
        ),
        pytest.param((head(headers="content-encoding: identity") + chunked(HI) + LAST_CHUNK,), id="identity coding"),
        pytest.param((head() + chunked(HI), Do.HOLD), id="[DONE] but no last chunk"),
        pytest.param((answer(HI), 0.05, b"stray bytes"), id="bytes after the message"),
        pytest.param((head() + chunked(HI.removesuffix(DONE)), 0.05, Do.CLOSE), id="cut after the finish"),
    ],
)
async def test_every_framing_of_a_whole_reply(world: World, script: Script) -> None:
    """Whatever ends the message, a reply that is whole is one."""
    assert await asyncio.wait_for(world.call(*script), 2.0) == STOPPED
    assert tuple(world.sink.texts) == HELLO


REDIRECT = refused(302, b"", headers="location: https://elsewhere.test/api/v1/chat/completions?k=1")
COMPRESSED = head(headers="content-encoding: gzip") + chunked(b"\x1f\x8b")
PAGE = head(headers="content-type: text/html; charset=utf-8") + chunked(b"hi")


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        pytest.param((Do.CLOSE,), UpstreamUnavailable, "without an answer", id="closed"),
        pytest.param((Do.RESET,), UpstreamUnavailable, "", id="reset"),
        pytest.param((b"HTTP/1.1 200 OK\r\ncontent-", Do.CLOSE), UpstreamUnavailable, "", id="cut in the head"),
        pytest.param((b"SSH-2.0-OpenSSH_9.2\r\n", Do.HOLD), UpstreamInvalid, "not HTTP", id="not HTTP"),
        pytest.param((COMPRESSED, Do.HOLD), UpstreamInvalid, "compressed (gzip)", id="compressed"),
        pytest.param((PAGE, Do.HOLD), UpstreamInvalid, "HTML", id="HTML"),
        pytest.param((REDIRECT,), UpstreamRefused, "set base_url to https://elsewhere.test/api/v1", id="redirect"),
        pytest.param((b"HTTP/1.1 204 Nothing\r\n\r\n",), UpstreamBroken, "", id="204"),
    ],
)
async def test_what_is_no_answer(world: World, script: Script, kind: type[RunError], message: str) -> None:
    """Each way not to answer has its own error, and none hangs."""
    with pytest.raises(kind) as caught:
        await asyncio.wait_for(world.call(*script), 2.0)
    assert message in caught.value.message
    assert world.sink.texts == []


@pytest.mark.parametrize("ending", [Do.CLOSE, Do.RESET])
async def test_a_cut_in_mid_stream_is_broken(world: World, ending: Do) -> None:
    """What came before the cut is kept, and the call says that it is not whole."""
    with pytest.raises(UpstreamBroken, match="before the reply was whole"):
        # A reset takes with it what has not been read yet.
        await world.call(head() + chunked(text("Hel")), world.sink.came, ending)
    assert world.sink.texts == ["Hel"]


@pytest.mark.parametrize("framing", [head(), head(length=999)], ids=["chunked", "content-length"])
async def test_a_cut_of_an_answer_that_is_not_streamed_is_broken(world: World, framing: bytes) -> None:
    """Half a JSON text is told from an answer of another kind by how its message ended."""
    half = b'{"choices": ['
    with pytest.raises(UpstreamBroken):
        await world.call(framing, chunked(half) if framing == head() else half, 0.05, Do.CLOSE)


async def test_a_finish_reason_and_then_silence_is_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that forgets [DONE] and keeps the connection open holds the reply up only so long."""
    monkeypatch.setattr("legato.providers.openai._REST_S", 0.1)
    server = await world.server((head() + chunked(text("Hello") + STOP), Do.HOLD))
    provider = await world.provider(server)
    assert await asyncio.wait_for(provider.call(REQUEST, world.sink), 2.0) == STOPPED
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_a_refusal_without_an_end_is_still_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status alone decides when the body of a refusal never ends."""
    monkeypatch.setattr("legato.providers.openai._REST_S", 0.1)
    script = (head(429, headers="retry-after: 7") + chunked(b"{"), Do.HOLD)
    with pytest.raises(UpstreamRateLimited) as caught:
        await asyncio.wait_for(world.call(*script), 2.0)
    assert caught.value.retry_after_s == 7.0


async def test_a_refusal_carries_what_the_server_said(world: World) -> None:
    """A refusal's body is read, also in pieces, and no key comes through."""
    body = json.dumps({"error": {"message": f"no model for {KEY}", "code": "x"}}).encode()
    with pytest.raises(UpstreamRefused) as caught:
        await world.call(*bytewise(refused(404, body)))
    assert caught.value.message.endswith("answered 404: no model for [removed]")
    assert world.sink.opens == 0


async def test_a_compressed_refusal_is_a_refusal(world: World) -> None:
    """The status counts; what it is wrapped in is not read."""
    with pytest.raises(UpstreamRateLimited):
        await world.call(head(429, headers="content-encoding: gzip") + chunked(b"\x1f\x8b"), Do.HOLD)


async def test_a_huge_refusal_is_cut(world: World) -> None:
    """A refusal is read as far as it is of use."""
    with pytest.raises(UpstreamRefused):
        await asyncio.wait_for(world.call(head(400), Do.FLOOD), 2.0)


async def test_a_line_without_end_is_refused(world: World) -> None:
    """Memory is bounded whatever a server sends."""
    script: Script = [head(), *([chunked(b"x" * 60_000)] * 80), Do.HOLD]
    with pytest.raises(UpstreamInvalid, match="line of more than"):
        await asyncio.wait_for(world.call(*script), 5.0)


async def test_the_request_is_as_the_protocol_says(world: World) -> None:
    """Method, path, query, headers and body, once each."""
    server = await world.server((answer(HI),))
    provider = await world.provider(
        server,
        base_url=server.base_url + "/?api-version=1",
        headers={"X-Team": "blue", "User-Agent": "own"},
    )
    await provider.call(REQUEST, world.sink)
    [seen] = server.requests
    assert seen.line == "POST /v1/chat/completions?api-version=1 HTTP/1.1"
    expected = {
        "host": f"localhost:{server.port}",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "x-team": "blue",
        "user-agent": "own",
        "x-client-request-id": "r-1",
    }
    assert expected.items() <= seen.headers.items()
    assert json.loads(seen.body) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi ☺"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 64,
        "temperature": 0.5,
    }


async def test_no_temperature_is_not_sent(world: World) -> None:
    """None leaves the model its own; a continuation ends with the assistant's text."""
    server = await world.server((answer(HI),))
    provider = await world.provider(server, max_tokens_field="max_completion_tokens")
    messages = [*REQUEST.messages, ChatMessage(role="assistant", content="Hel")]
    request = replace(REQUEST, temperature=None, messages=messages, continues=True)
    await provider.call(request, world.sink)
    body = json.loads(server.requests[0].body)
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 64
    assert body["messages"][-1] == {"role": "assistant", "content": "Hel"}


def unsupported(field: str, code: str = "unsupported_value") -> bytes:
    error = {"message": f"Unsupported: {field}", "code": code, "param": field}
    return refused(400, json.dumps({"error": error}).encode())


async def test_what_a_model_does_not_take_is_learnt_once(world: World) -> None:
    """A field that the server names is left out or renamed, in this call and all later ones."""
    refusals = [
        unsupported("max_tokens", "unsupported_parameter"),
        unsupported("temperature"),
        refused(422, b'{"detail": [{"loc": ["body", "stream_options"], "msg": "extra"}]}'),
    ]
    server = await world.server(*[(each,) for each in refusals], (answer(HI),), (answer(HI),))
    provider = await world.provider(server)
    for _ in range(2):
        assert await provider.call(REQUEST, Deltas()) == STOPPED
    bodies = [json.loads(seen.body) for seen in server.requests]
    assert len(bodies) == 5
    assert bodies[3] == bodies[4]
    assert bodies[4].keys() == {"model", "messages", "stream", "max_completion_tokens"}


async def test_a_refusal_that_teaches_nothing_is_final(world: World) -> None:
    """A field that was left out already, or that no reply can do without, is no reason to ask on."""
    server = await world.server(*[(unsupported(field),) for field in ("temperature",) * 2])
    provider = await world.provider(server)
    with pytest.raises(UpstreamRefused, match="Unsupported: temperature"):
        await provider.call(REQUEST, world.sink)
    server.scripts.append((unsupported("messages"),))
    with pytest.raises(UpstreamRefused, match="Unsupported: messages"):
        await provider.call(REQUEST, world.sink)

"""A stream's bytes do not depend on the server that carries them: the taken-over connection, h11, or bare ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from legato.http.api import create_api
from legato.http.edge import StreamingHttpProtocol
from legato.runs.node import Node
from tests.asgi import call, fetch, listening
from tests.client import Head

SOME = {"message": "script: seed=7 tokens=40", "conversationId": "data: é", "sessionId": "s"}


@pytest.fixture
async def api(node: Node) -> ASGIApp:
    return create_api(node)


@pytest.fixture
async def ports(api: ASGIApp) -> AsyncIterator[dict[str, int]]:
    """The same application behind our edge, stock httptools and stock h11."""
    async with (
        listening(api, StreamingHttpProtocol) as edge,
        listening(api, HttpToolsProtocol) as httptools,
        listening(api, H11Protocol) as h11,
    ):
        yield {"edge": edge, "httptools": httptools, "h11": h11}


def told(head: Head) -> dict[str, str]:
    """The headers that are ours."""
    return {name: value for name, value in head.headers if name not in ("date", "server", "connection")}


async def test_every_path_gives_the_same_bytes(api: ASGIApp, ports: dict[str, int]) -> None:
    """Status, headers and body of a post and of its replays."""
    head, body = await fetch(ports["edge"], "POST", "/chat/stream", SOME)
    assert head.status == 200
    assert body.count(b"event: chunk\n") == 40
    path = f"/chat/stream/{head['x-run-id']}"
    for query in ("", "?after=9"):
        replays = {name: await fetch(port, "GET", path + query) for name, port in ports.items()}
        bare = await call(api, "GET", path + query)
        assert {name: replay[1] for name, replay in replays.items()} == dict.fromkeys(ports, bare.body)
        assert all(told(replay[0]) == told(head) for replay in replays.values())
        assert bare.complete
        assert bare.headers.items() <= told(head).items()
        if not query:
            assert bare.body == body


@pytest.mark.parametrize("path", ["edge", "httptools", "h11"])
async def test_every_path_streams_live(ports: dict[str, int], node: Node, path: str) -> None:
    """A reply is followed while it is made, its comment first, and ends as a response does."""
    message = {"message": "script: seed=3 tokens=30 delay_ms=3"}
    head, body = await fetch(ports[path], "POST", "/chat/stream", message)
    assert body.startswith(b": ok\n\nevent: chunk\n")
    assert body.count(b"event: chunk\n") == 30
    again = await fetch(ports["edge"], "GET", f"/chat/stream/{head['x-run-id']}")
    assert again[1] == body
    assert len(node.readers) == 0


@pytest.mark.parametrize("path", ["edge", "httptools", "h11"])
async def test_every_path_survives_a_cut(ports: dict[str, int], node: Node, path: str) -> None:
    """The reader is forgotten, the run goes on to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[path])
    writer.write(
        b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n"
        b'{"message":"script: seed=3 tokens=90 delay_ms=5'
    )
    writer.write(b'"}')
    writer.close()
    await writer.wait_closed()
    assert reader is not None
    head, body = await fetch(
        ports[path], "POST", "/chat/stream", {"message": "script: tokens=9 delay_ms=2"}, {"Idempotency-Key": "k"}
    )
    assert head.status == 200
    assert body.count(b"event: complete\n") == 1


@pytest.mark.parametrize("body", [{"message": ""}, {"message": "x", "parentId": "m-0"}, b"{", None])
async def test_every_path_refuses_alike(api: ASGIApp, ports: dict[str, int], body: object) -> None:
    """Failures before the stream opens have one body too."""
    answers = {name: await fetch(port, "POST", "/chat/stream", body) for name, port in ports.items()}
    bare = await call(api, "POST", "/chat/stream", body)
    assert {name: answer[1] for name, answer in answers.items()} == dict.fromkeys(ports, bare.body)
    assert {answer[0].status for answer in answers.values()} == {bare.status}


async def test_a_reader_that_is_cut_by_the_server_sees_no_end(api: ASGIApp, ports: dict[str, int], node: Node) -> None:
    """Cut on purpose (its conversation is deleted), a stream ends without the mark of a proper end on every path."""
    readers = []
    for port in ports.values():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"message":"script: tokens=9 stall=2","conversationId":"c-%d"}' % port
        writer.write(
            b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await reader.readuntil(b'"index":2')
        readers.append((reader, writer, port))
    for reader, writer, port in readers:
        assert (await call(api, "DELETE", f"/conversations/c-{port}")).status == 204
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        assert b"event: " not in rest
        assert not rest.endswith(b"0\r\n\r\n")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert len(node.readers) == 0

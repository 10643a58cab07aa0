"""What does not arrive is cut, and what is not taken: what http.edge looks after between a connection's bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send

from legato.http import edge
from legato.http.api import create_api
from legato.http.edge import EXTENSION, REQUEST_S, StreamingHttpProtocol
from legato.runs.node import Node
from tests.asgi import listening
from tests.client import request_bytes


class Watched(StreamingHttpProtocol):
    """The connections that there were, and how much each has read."""

    made: list[Watched]
    read_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.made.append(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.read_bytes += len(data)


@pytest.fixture
async def port(node: Node) -> AsyncIterator[int]:
    Watched.made = []
    async with listening(create_api(node), Watched) as found:
        yield found


async def connect(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Watched]:
    """Return a connection that has said `data`, and its protocol once it has read that."""
    before = len(Watched.made)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(5):
        while len(Watched.made) == before or Watched.made[-1].read_bytes < len(data):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return reader, writer, Watched.made[-1]


async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, within_s: float = 20.0) -> bool:
    """Whether the other side ends the connection; `within_s` is short where it is not to."""
    try:
        async with asyncio.timeout(within_s):
            with suppress(ConnectionError):
                while await reader.read(65536):
                    pass
    except TimeoutError:
        return False
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return True


SEND_S = 30.0
MESSAGE = json.dumps({"message": "script: tokens=9 stall=2"}).encode()
WHOLE = request_bytes("POST", "/chat/stream", MESSAGE)


@pytest.mark.parametrize(
    "data", [b"", b"G", WHOLE[:40], WHOLE[:-1]], ids=["nothing", "a letter", "half", "all but one"]
)
async def test_a_request_that_does_not_arrive_is_cut(port: int, data: bytes) -> None:
    """After a minute, whether it is its head that is missing or the end of its body; not before."""
    reader, writer, protocol = await connect(port, data)
    now_s = asyncio.get_running_loop().time()
    protocol.look(now_s + REQUEST_S - 1, SEND_S)
    assert not protocol.transport.is_closing()
    protocol.look(now_s + REQUEST_S + 1, SEND_S)
    assert await closed(reader, writer)


async def test_a_stream_is_not_cut_by_time(port: int, node: Node) -> None:
    """However long it goes on, also with half a request behind it."""
    reader, writer, protocol = await connect(port, WHOLE)
    await reader.readuntil(b'"index":2')
    writer.write(WHOLE[:50])
    protocol.look(asyncio.get_running_loop().time() + 10 * REQUEST_S, SEND_S)
    assert len(node.readers) == 1
    assert not await closed(reader, writer, 0.2)


async def test_a_long_head_is_bounded(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that comes in one piece is let through, one that goes on and on is not."""
    monkeypatch.setattr(edge, "MAX_HEAD_BYTES", 3000)
    fine = request_bytes("GET", "/", headers={"X-Long": "x" * 20_000, "Connection": "close"})
    reader, writer, _ = await connect(port, fine)
    assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
    await closed(reader, writer)
    reader, writer, _ = await connect(port, b"GET / HTTP/1.1\r\n")
    for _ in range(4):
        writer.write(b"X: " + b"x" * 1000)
        await writer.drain()
        await asyncio.sleep(0.01)
    assert (await reader.read(100)).startswith(b"HTTP/1.1 400")
    await closed(reader, writer)


class Flood:
    """An application whose answer is longer than any buffer; it ends with its connection."""

    def __init__(self, *, at_once: bool) -> None:
        self.ended = asyncio.Event()
        self._at_once = at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        try:
            if self._at_once:
                await send({"type": "http.response.body", "body": b"x" * 32_000_000})
                return
            while scope["extensions"][EXTENSION]._protocol.cycle.disconnected is False:
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        finally:
            self.ended.set()


@pytest.mark.parametrize("at_once", [False, True], ids=["a stream", "an answer that was given"])
async def test_whoever_takes_nothing_is_cut(at_once: bool) -> None:
    """Whoever takes something is not, however slowly; nothing of it stays, no task and no connection."""
    Watched.made = []
    flood = Flood(at_once=at_once)
    async with listening(flood, Watched) as port:
        reader, writer, protocol = await connect(port, request_bytes("GET", "/"))
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        now_s = 0.0
        for _ in range(3):
            left = await _settled(protocol)
            protocol.look(now_s, SEND_S)
            protocol.look(now_s := now_s + SEND_S - 1, SEND_S)
            writer.transport.resume_reading()
            async with asyncio.timeout(5):
                while protocol.transport.get_write_buffer_size() == left:
                    await reader.read(65536)
            writer.transport.pause_reading()
            protocol.look(now_s := now_s + 2, SEND_S)
            await _settled(protocol)
            assert protocol in protocol.connections, "it took something"
        protocol.look(now_s, SEND_S)
        protocol.look(now_s + SEND_S + 1, SEND_S)
        async with asyncio.timeout(5):
            await flood.ended.wait()
            while protocol.connections:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
        writer.close()


async def _settled(protocol: Watched) -> int:
    """Wait until the socket takes no more; return how much is left."""
    left = -1
    while left != (left := protocol.transport.get_write_buffer_size()):  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.05)
    return left

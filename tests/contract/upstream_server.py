"""A model's server for tests: it sends exactly the bytes it is told, cut where it is told.

Raw TCP, so that every fault of a real server can be scripted: half messages, stray bytes, resets,
silence. Beside it an HTTP proxy that forwards and tunnels.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self


class Do(Enum):
    """What a script does besides sending bytes and sleeping.

    Attributes:
        CLOSE: Close cleanly (FIN, after TLS's own goodbye).
        RESET: Close with a reset (RST).
        HOLD: Send nothing more until the client closes.
        FLOOD: Send one frame after another until the client closes.
    """

    CLOSE = "close"
    RESET = "reset"
    HOLD = "hold"
    FLOOD = "flood"


Step = bytes | float | Do | asyncio.Event
"""An event is waited for."""
Script = Sequence[Step]

FLOOD_FRAME = b'data: {"choices":[{"delta":{"content":"' + b"x" * 1000 + b'"}}]}\n\n'


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that reached the server, on its `connection`-th connection (from 1)."""

    connection: int
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class UpstreamServer:
    """Answers each request with the next of `scripts`, and remembers what it saw.

    Attributes:
        tls: Speak TLS with this context.
        greeting: Sent on each connection before any request is read.
        closed_at: The loop's time at which a HOLD or FLOOD saw the client's close, one each.
        flooded_bytes: Sent by FLOOD so far.
    """

    tls: ssl.SSLContext | None = None
    greeting: bytes = b""
    scripts: deque[Script] = field(default_factory=deque)
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    flooded_bytes: int = 0

    def __post_init__(self) -> None:
        self.closed_at: asyncio.Queue[float] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(self.connections, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        while True:
            seen = await read_request(connection, reader)
            self.requests.append(seen)
            if not await self._run(self.scripts.popleft(), reader, writer):
                return

    async def _run(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Do one script; return whether the connection goes on."""
        loop = asyncio.get_running_loop()
        for step in script:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                    await asyncio.sleep(0)
                case float() | int():
                    await asyncio.sleep(step)
                case asyncio.Event():
                    await step.wait()
                case Do.CLOSE:
                    writer.close()
                    await writer.wait_closed()
                    return False
                case Do.RESET:
                    reset(writer)
                    return False
                case Do.HOLD:
                    try:
                        await reader.read()
                    finally:
                        self.closed_at.put_nowait(loop.time())
                    return False
                case Do.FLOOD:
                    try:
                        while True:
                            writer.write(chunked(FLOOD_FRAME))
                            await writer.drain()
                            self.flooded_bytes += len(FLOOD_FRAME)
                            await asyncio.sleep(0)
                    finally:
                        self.closed_at.put_nowait(loop.time())
        return True


@dataclass
class ProxyServer:
    """An HTTP proxy to one server, whatever host is asked for; it remembers each request's line.

    Attributes:
        port_behind: Where all connections go, on loopback.
        credentials: The `Basic` value that it wants, if any.
        refusal: A status with which it answers instead of connecting.
    """

    port_behind: int
    credentials: str | None = None
    refusal: int | None = None
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._relay(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        self.lines.append(line.decode())
        wanted = f"proxy-authorization: basic {self.credentials}".lower()
        refusal = self.refusal
        if self.credentials is not None and wanted not in head.decode().lower():
            refusal = 407
        if refusal is not None:
            writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % refusal)
            await writer.drain()
            return
        behind_reader, behind = await asyncio.open_connection("127.0.0.1", self.port_behind)
        try:
            if line.startswith(b"CONNECT "):
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                method, url, http = line.split(b" ")
                path = b"/" + url.split(b"/", 3)[3]
                behind.write(b" ".join((method, path, http)) + b"\r\n" + rest)
            there = asyncio.create_task(_pipe(reader, behind))
            back = asyncio.create_task(_pipe(behind_reader, writer))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            behind.transport.abort()
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        reset(writer)


async def read_request(connection: int, reader: asyncio.StreamReader) -> Seen:
    """Read one request with a Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (f.partition(": ") for f in fields)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Seen(connection, line, headers, body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an end."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def head(status: int = 200, *, headers: str = "content-type: text/event-stream", length: int | None = None) -> bytes:
    """Return the head of an answer: chunked, unless its length is given."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} Status\r\n{headers}\r\n{framing}\r\n\r\n".encode()


def chunked(data: bytes) -> bytes:
    """Return `data` as one chunk of HTTP's transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def answer(body: bytes) -> bytes:
    """Return a whole answer 200 with `body` in one chunk."""
    return head() + chunked(body) + LAST_CHUNK


def refused(status: int, body: bytes, *, headers: str = "content-type: application/json") -> bytes:
    """Return a whole answer with `status`, `body` and its length."""
    return head(status, headers=headers, length=len(body)) + body

"""A stream's frames written straight to the connection, past ASGI. The only file that knows uvicorn's insides.

uvicorn parses requests and runs the application as for any route. A streaming response then takes the connection over:
the request's task ends (it would cost 50 kB for as long as the stream is open), frames go to the transport with their
chunk headers, and when the reader is done uvicorn goes on with keep-alive or the next pipelined request.
tests/integration/test_edge.py guards what this leans on. Every other server gets the same bytes over plain ASGI.

uvicorn 0.54: HttpToolsProtocol.cycle / on_response_complete / pipeline, RequestResponseCycle.response_complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "legato.edge"
"""Key in an ASGI scope's `extensions` under which the connection is found."""


class Pulling(Protocol):
    """What sits on a connection: a runs.tail.Reader."""

    def pull(self) -> None: ...
    def close(self) -> None: ...


class _Streaming:
    """Stands where uvicorn expects the cycle of the present request, while its response is ours."""

    __slots__ = ("body", "disconnected", "keep_alive", "message_event", "more_body", "on_response", "response_complete")

    class _Nobody:
        def set(self) -> None: ...

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.more_body = False
        self.body = b""
        self.message_event = self._Nobody()


class Edge:
    """A taken-over connection, as a runs.tail.Sink: frames go out in HTTP/1.1 chunks."""

    __slots__ = ("_flow", "_protocol", "_streaming", "_transport")

    def __init__(self, protocol: StreamingHttpProtocol, streaming: _Streaming) -> None:
        self._protocol = protocol
        self._streaming = streaming
        self._transport = protocol.transport
        self._flow = protocol.flow

    @property
    def paused(self) -> bool:
        return self._flow.write_paused

    def write(self, frames: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(frames), frames))

    def finish(self) -> None:
        self._transport.write(b"0\r\n\r\n")
        self._protocol.stream_ended(self._streaming)

    def abort(self) -> None:
        self._transport.abort()


class Connection:
    """One request's way to its connection, in the request's scope."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: StreamingHttpProtocol) -> None:
        self._protocol = protocol
        self._cycle: Any = None

    def bind(self, cycle: Any) -> None:
        """Take uvicorn's object for this request; with pipelining it need not be the connection's latest."""
        self._cycle = cycle

    def can_stream(self) -> bool:
        """Whether the response may be written in chunks, past ASGI."""
        return self._cycle.scope["http_version"] == "1.1" and not self._protocol.transport.is_closing()

    def take(self, open_reader: Callable[[Edge], Pulling]) -> None:
        """Take the connection over; the response's head has been sent. The reader's first pull is made here."""
        protocol, cycle = self._protocol, self._cycle
        streaming = _Streaming(cycle.keep_alive)
        # The request's task sees a complete response; the connection sees one that goes on.
        cycle.response_complete = True
        if protocol.cycle is cycle:
            protocol.cycle = streaming  # type: ignore[assignment]
            # Nothing of the request is needed any more, and it would be held as long as the stream is open.
            protocol.scope = None  # type: ignore[assignment]
            protocol.headers = []
        protocol.reader = reader = open_reader(Edge(protocol, streaming))
        reader.pull()


class StreamingHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a way for a response to take the connection over."""

    reader: Pulling | None = None

    def on_headers_complete(self) -> None:
        # Set before uvicorn starts the application with this scope.
        connection = Connection(self)
        self.scope["extensions"] = {EXTENSION: connection}  # type: ignore[dict-item]
        super().on_headers_complete()
        connection.bind(self.cycle)

    def stream_ended(self, streaming: _Streaming) -> None:
        """Go on as uvicorn does after a complete response."""
        self.reader = None
        streaming.response_complete = True
        if not streaming.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.reader is not None:
            self.reader.pull()

    def connection_lost(self, exc: Exception | None) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()
        super().connection_lost(exc)


class AsgiSink:
    """The same reader over plain ASGI, for other servers and old HTTP: frames wait here to be awaited out.

    Attributes:
        ended: How the response ended, None while it goes on: True well, False cut.
    """

    HIGH_WATER_BYTES = 65536

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._size = 0
        self._ready = asyncio.Event()
        self.ended: bool | None = None

    @property
    def paused(self) -> bool:
        return self._size > self.HIGH_WATER_BYTES

    def write(self, frames: bytes) -> None:
        self._frames.append(frames)
        self._size += len(frames)
        self._ready.set()

    def finish(self) -> None:
        self.ended = True
        self._ready.set()

    def abort(self) -> None:
        self.ended = False
        self._ready.set()

    async def wait(self) -> None:
        """Wait until there is something to take, or the end."""
        await self._ready.wait()
        self._ready.clear()

    def take(self) -> bytes:
        """Return what waits to be sent."""
        frames, self._frames, self._size = self._frames, [], 0
        return b"".join(frames)

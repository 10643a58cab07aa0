"""A stream's frames written straight to the connection, past ASGI. The only file that knows uvicorn's insides.

uvicorn parses requests and runs the application as for any route. A streaming response then takes the connection over:
the request's task ends (it would cost 50 kB for as long as the stream is open), frames go to the transport with their
chunk headers, and when the reader is done uvicorn goes on with keep-alive or the next pipelined request.
tests/integration/test_edge.py guards what this leans on. Every other server gets the same bytes over plain ASGI.

uvicorn 0.54: HttpToolsProtocol.cycle / on_response_complete / pipeline, RequestResponseCycle.response_complete.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from legato.core.errors import Refused
from legato.http.problems import problem_response

EXTENSION = "legato.edge"
"""Key in an ASGI scope's `extensions` under which the connection is found."""
MAX_HEAD_BYTES = 65536
"""A request whose head is longer, and does not come in one piece, is refused."""
MAX_DISCARD_BYTES = 16_777_216
"""What is read of a body after its request has been answered; past it the connection is cut."""
REQUEST_S = 60.0
"""How long a request may take to arrive, head and body."""
LINGER_S = 2.0
"""How long a refused request is still read, so that its sender comes to read the answer."""


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


class OldEdge(Edge):
    """The same for HTTP/1.0, which knows no chunks: the end of the connection is the end of the body."""

    __slots__ = ()

    def write(self, frames: bytes) -> None:
        self._transport.write(frames)

    def finish(self) -> None:
        self._protocol.stream_ended(self._streaming)


class Connection:
    """One request's way to its connection, in the request's scope."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: StreamingHttpProtocol) -> None:
        self._protocol = protocol
        self._cycle: Callable[[], Any] = lambda: None

    def bind(self, cycle: Any) -> None:
        """Take uvicorn's object for this request; with pipelining it need not be the connection's latest."""
        # Weak: the cycle holds the scope that holds this.
        self._cycle = weakref.ref(cycle)

    def prepare(self) -> None:
        """Say that a stream's head comes next. uvicorn would write chunks to HTTP/1.0 too."""
        cycle = self._cycle()
        if cycle.scope["http_version"] == "1.0":
            cycle.chunked_encoding = False

    def can_stream(self) -> bool:
        """Whether there is still somebody to stream to."""
        return not self._protocol.transport.is_closing()

    def take(self, open_reader: Callable[[Edge], Pulling]) -> None:
        """Take the connection over; the response's head has been sent. The reader's first pull is made here."""
        protocol, cycle = self._protocol, self._cycle()
        streaming = _Streaming(cycle.keep_alive)
        # The request's task sees a complete response; the connection sees one that goes on.
        cycle.response_complete = True
        if protocol.cycle is cycle:
            protocol.cycle = streaming  # type: ignore[assignment]
            # Nothing of the request is needed any more, and it would be held as long as the stream is open.
            protocol.scope = None  # type: ignore[assignment]
            protocol.headers = []
        edge = OldEdge if cycle.scope["http_version"] == "1.0" else Edge
        protocol.reader = reader = open_reader(edge(protocol, streaming))
        reader.pull()


class _GentleClose:
    """A transport for the answer to a request of which more may come: closing would reset the connection."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: StreamingHttpProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        if self._protocol.cycle.more_body:
            self._protocol.linger()
        else:
            self._protocol.transport.close()


class StreamingHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a way for a response to take the connection over."""

    reader: Pulling | None = None
    _receiving_since: float | None = None
    _head_bytes: int | None = 0
    """What came of an unfinished head, beside its first piece; None while no head is expected."""
    _discarded_bytes = 0
    _lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receiving_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        in_head = self._head_bytes is not None
        super().data_received(data)
        if in_head and self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(f"the request's head is longer than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving_since = self.loop.time()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > MAX_DISCARD_BYTES:
                self.transport.abort()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._receiving_since = None
        self._discarded_bytes = 0
        self._head_bytes = 0

    def look(self, now_s: float) -> None:
        """Cut a connection on which a request takes too long to arrive; called every few seconds."""
        since = self._receiving_since
        if since is not None and now_s - since > REQUEST_S and self.reader is None and not self.flow.read_paused:
            self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what was asked before the other side closed its half, then close; else close at once."""
        cycle = self.cycle
        if self._lingering or cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        self._refuse("this is no HTTP request that can be read")

    def _refuse(self, message: str) -> None:
        """Answer what cannot be read with 400; an earlier request's response goes on and is the last."""
        cycle = self.cycle
        if self._lingering or self.transport.is_closing():
            return
        if self.pipeline:
            self.transport.abort()
        elif cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            self.flow.pause_reading()
        else:
            response = problem_response(Refused(message))
            head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\n%bconnection: close\r\n\r\n%b" % (head, bytes(response.body))
            )
            if cycle is not None:
                # Whatever the application says now, it is said to nobody.
                cycle.disconnected = True
                cycle.message_event.set()
            self.linger()

    def linger(self) -> None:
        """Send no more, and drop what comes until the other side closes, for LINGER_S at most."""
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        # Set before uvicorn starts the application with this scope.
        connection = Connection(self)
        self.scope["extensions"] = {EXTENSION: connection}  # type: ignore[dict-item]
        super().on_headers_complete()
        cycle = self.cycle
        connection.bind(cycle)
        if not cycle.keep_alive:
            cycle.transport = _GentleClose(self)  # type: ignore[assignment]

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
    """The same reader over plain ASGI, for other servers: frames wait here to be awaited out.

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

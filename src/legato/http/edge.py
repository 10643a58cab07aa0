"""A stream's frames written straight to the connection, past ASGI. The only file that knows uvicorn's insides.

uvicorn parses requests and runs the application as for any route. A streaming response then takes the connection over:
the transport gets another, small protocol, and the request's task and parser end (they would cost 50 kB for as long as
the stream is open). Frames go out with their chunk headers. When the reader is done, a fresh uvicorn protocol goes on
with keep-alive, or with what was sent ahead. tests/integration/test_edge.py guards what this leans on. Every other
server, and a client that sends requests ahead, gets the same bytes over plain ASGI.

uvicorn 0.54: HttpToolsProtocol's constructor, connection_made, parser, pipeline, flow and on_response_complete;
ServerState.connections; RequestResponseCycle.response_complete, keep_alive, chunked_encoding and
expected_content_length; get_remote_addr.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import Message, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

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


class Edge(asyncio.Protocol):
    """A taken-over connection: the transport's protocol and, to the reader, a runs.tail.Sink.

    Attributes:
        paused: The transport's buffer is full; `Reader.pull` follows when it has drained.
        keep_alive: Whether the connection goes on after the stream.
    """

    __slots__ = (
        "_ahead",
        "_app_state",
        "_chunked",
        "_config",
        "_server_state",
        "keep_alive",
        "paused",
        "reader",
        "transport",
    )

    def __init__(self, protocol: StreamingHttpProtocol, *, chunked: bool, keep_alive: bool) -> None:
        # What a fresh protocol for the same connection is made of.
        self._config = protocol.config
        self._server_state = protocol.server_state
        self._app_state = protocol.app_state
        self._chunked = chunked
        self._ahead = b""
        self.transport = protocol.transport
        self.keep_alive = keep_alive
        self.paused = protocol.flow.write_paused
        self.reader: Pulling | None = None
        connections: set[Any] = protocol.server_state.connections
        connections.discard(protocol)
        connections.add(self)

    # The reader's side

    def write(self, frames: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(frames), frames) if self._chunked else frames)

    def finish(self) -> None:
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        self.reader = None
        connections: set[Any] = self._server_state.connections
        connections.discard(self)
        if self.transport.is_closing():
            return
        following = StreamingHttpProtocol(self._config, self._server_state, self._app_state, asyncio.get_running_loop())
        following.go_on(self.transport, self._ahead, keep_alive=self.keep_alive)

    def abort(self) -> None:
        self.transport.abort()

    # The transport's side

    def data_received(self, data: bytes) -> None:
        # A request sent ahead: it is answered when the stream has ended.
        self._ahead += data
        if len(self._ahead) > MAX_HEAD_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Go on writing to whoever has closed its half: it asked before it did."""
        self.keep_alive = False
        return True

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.reader is not None:
            self.reader.pull()

    def connection_lost(self, exc: Exception | None) -> None:
        connections: set[Any] = self._server_state.connections
        connections.discard(self)
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    # uvicorn's side

    def shutdown(self) -> None:
        """Let the stream end and the connection with it; called when the server stops."""
        self.keep_alive = False


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

    def peer(self) -> str | None:
        """Return the other end's address. A transport keeps what it was asked for: ask where it is needed alone."""
        found = get_remote_addr(self._protocol.transport)
        return found[0] if found else None

    def plain(self, send: Send) -> Send:
        """Return what a stream is sent with, its head first: uvicorn would write chunks to HTTP/1.0 too."""
        cycle = self._cycle()
        if cycle.scope["http_version"] != "1.0":
            return send
        cycle.chunked_encoding = False

        async def send_plain(message: Message) -> None:
            # Without chunks uvicorn takes no more than was announced: here that is each piece by itself.
            cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        return send_plain

    def can_stream(self) -> bool:
        """Whether the connection can be taken over: it is open, and no further request has begun to arrive."""
        protocol = self._protocol
        return (
            protocol.cycle is self._cycle()
            and not protocol.transport.is_closing()
            and not protocol.pipeline
            and not protocol.is_receiving
        )

    def take(self, open_reader: Callable[[Edge], Pulling]) -> None:
        """Take the connection over; the response's head has been sent. The reader's first pull is made here."""
        protocol, cycle = self._protocol, self._cycle()
        # The request's task sees a complete response; the connection sees one that goes on.
        cycle.response_complete = True
        edge = Edge(protocol, chunked=cycle.scope["http_version"] != "1.0", keep_alive=cycle.keep_alive)
        protocol.flow.resume_reading()
        protocol.transport.set_protocol(edge)
        # These point back to their protocol; thousands would wait for the garbage collector.
        protocol.parser = protocol.scope = protocol.cycle = None  # type: ignore[assignment]
        edge.reader = reader = open_reader(edge)
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

    _receiving_since: float | None = None
    _head_bytes: int | None = 0
    """What came of an unfinished head, beside its first piece; None while no head is expected."""
    _discarded_bytes = 0
    _lingering = False
    _left_bytes = 0
    _left_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn also asks for both addresses, again after each reply; a transport keeps what it was asked for.
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.scheme = "http"
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

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn leaves its timer after an error, and with it this connection in memory.
        self._unset_keepalive_if_required()

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

    def look(self, now_s: float, send_timeout_s: float) -> None:
        """Cut a connection on which a request takes too long to arrive, or whose other end takes nothing for so long.

        Called every few seconds.
        """
        since = self._receiving_since
        if since is not None and now_s - since > REQUEST_S and not self.flow.read_paused:
            self.transport.abort()
        # Nothing is added to what waits now: it becomes less, or the other end takes nothing.
        left = self.transport.get_write_buffer_size() if self.flow.write_paused or self.transport.is_closing() else 0
        if not left or left != self._left_bytes:
            self._left_bytes, self._left_since = left, now_s
        elif now_s - self._left_since > send_timeout_s:
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

    @property
    def is_receiving(self) -> bool:
        """Whether a request has begun to arrive and is not whole."""
        return self._receiving_since is not None

    def go_on(self, transport: asyncio.Transport, ahead: bytes, *, keep_alive: bool) -> None:
        """Take a connection back whose stream has ended, with what was sent ahead on it."""
        transport.set_protocol(self)
        self.connection_made(transport)
        if not keep_alive:
            transport.close()
            return
        self._receiving_since = None
        self.on_response_complete()
        transport.resume_reading()
        if ahead:
            self.data_received(ahead)


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

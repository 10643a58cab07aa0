"""The direct transport: HTTP/1.1 over asyncio's own connections, one read, one parse, no task switch.

A connection carries one call at a time and is kept for the next one. The parser takes the transfer
coding off and calls the receiver from within `data_received`; nothing is awaited per chunk.

Source:
    https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools

from legato.core.compiled import plain_texts
from legato.core.run_errors import UpstreamInvalid, UpstreamUnavailable
from legato.providers.openai_transport import Receiver, Target, connect_error, unanswered

# How long a reply that is already whole may take to end its HTTP message; past it the connection
# is not worth keeping.
_DRAIN_S = 1.0
_NO_HEADERS: dict[str, str] = {}
_HEAD_LIMIT_BYTES = 64 * 1024
_CHUNKED = b"HTTP/1.1 200 OK\r\nconnection: %b\r\ntransfer-encoding: chunked\r\n\r\n"
"""Brings a parser to where a chunk may begin."""


class NothingCame(UpstreamUnavailable):
    """The server closed the connection before any byte of an answer; a kept one was stale."""

    request = b""


class Flow:
    """Pauses one call's stream; does nothing once the connection has left that call."""

    __slots__ = ("connection",)

    def __init__(self, connection: HttpConnection) -> None:
        self.connection: HttpConnection | None = connection

    def pause_reading(self) -> None:
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.connection is not None:
            self.connection.transport.resume_reading()


class HttpConnection(asyncio.Protocol):
    """One connection to the target: idle in the pool, with a call, or draining after one.

    Attributes:
        transport: Set from `connection_made` on.
        idle_since: The loop's time at which it was last put into the pool, in seconds.
    """

    __slots__ = (
        "_answered",
        "_done",
        "_draining",
        "_flow",
        "_head_bytes",
        "_headed",
        "_headers",
        "_keeps",
        "_parser",
        "_plain",
        "_pool",
        "_receiver",
        "_request",
        "_stray",
        "_until_eof",
        "idle_since",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: HttpTransport) -> None:
        self._pool = pool
        # None between plain chunks: a stream may be silent for long, and a parser is a tenth of what it holds.
        self._parser: Any = httptools.HttpResponseParser(self)
        self._keeps = False  # the connection may serve another call, as the parser that was let go of knew
        self._receiver: Receiver | None = None
        self._done: asyncio.Future[None] | None = None
        self._request = b""
        self._draining: asyncio.TimerHandle | None = None
        self._flow = Flow(self)
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._answered = False  # a byte of the answer has come
        self._headed = False  # its final head has come
        self._stray = False  # bytes came that no request asked for
        self._until_eof = False  # only the end of the connection ends the body
        self._plain = False  # a chunk of the usual form may come next
        self.idle_since = 0.0

    def exchange(self, request: bytes, receiver: Receiver) -> asyncio.Future[None]:
        """Send `request`; return what is done once its answer has ended or `receiver` is done.

        Its error may be NothingCame: the connection was closed without a byte of an answer.
        """
        self._receiver = receiver
        done = self._done = asyncio.get_running_loop().create_future()
        self._flow = Flow(self)
        self._answered = self._headed = self._until_eof = self._plain = False
        self._head_bytes = 0
        # Kept until something comes back: nothing else holds it while the stream is open.
        self._request = request
        self.transport.write(request)
        return done

    def give_up(self, done: asyncio.Future[None]) -> None:
        """Close the connection if the call that waited for `done` still holds it; another may by now."""
        if self._done is done:
            self._leave()
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self.transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if self._plain and receiver is not None:
            texts: list[str] = []
            taken = plain_texts(data, texts)  # type: ignore[misc]
            try:
                receiver.texts(texts)
            except Exception as error:  # noqa: BLE001 - the sink's own: the call ends with it
                self._fail(error)
                return
            if taken == len(data):
                if self._parser is not None:
                    self._keeps = self._parser.should_keep_alive()
                    self._parser = None
                return
            data = data[taken:]
        if not self._answered:
            self._answered = True
            self._request = b""
        if receiver is None and self._draining is None:
            self._cut()
            return
        if not self._headed:
            self._head_bytes += len(data)
        try:
            if self._parser is None:
                self._parser = httptools.HttpResponseParser(self)
                self._parser.feed_data(_CHUNKED % (b"keep-alive" if self._keeps else b"close"))
                self._headers = _NO_HEADERS
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ or error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._headed:
                self._cut()
            else:
                where = self._pool.target.authority
                self._fail(UpstreamInvalid(f"the answer of {where} is not HTTP"))
        else:
            if self._stray:
                self._cut()
            elif not self._headed and self._head_bytes > _HEAD_LIMIT_BYTES:
                where = self._pool.target.authority
                self._fail(UpstreamInvalid(f"the answer of {where} has no end to its head"))
            elif receiver is not None and receiver.done and self._receiver is not None:
                self._leave()
                loop = asyncio.get_running_loop()
                self._draining = loop.call_later(_DRAIN_S, self.transport.abort)
            elif plain_texts is not None:
                # Behind an event's end the line end is the HTTP chunk's: were it the body's, the receiver would wait.
                self._plain = data.endswith(b"\n\n\r\n") and receiver is not None and receiver.is_between

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        # The parser points back here; hundreds would wait for the garbage collector.
        del self._parser
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        receiver = self._receiver
        if receiver is None:
            return
        if self._headed:
            receiver.end(clean=self._until_eof and exc is None)
            self._leave()
            return
        target = self._pool.target
        error = unanswered(target)
        if not self._answered:
            error = NothingCame(error.message)
            error.request, self._request = self._request, b""
        self._fail(error)

    # httptools

    def on_message_begin(self) -> None:
        self._headers = {}
        self._stray = self._receiver is None

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        before = self._headers.get(key)
        self._headers[key] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._receiver is None or self._headed:
            return
        self._headed = True
        headers = self._headers
        self._until_eof = not ("content-length" in headers or "transfer-encoding" in headers)
        self._headers = _NO_HEADERS
        self._receiver.head(status, headers, self._flow)

    def on_body(self, body: bytes) -> None:
        receiver = self._receiver
        if receiver is not None and not receiver.done:
            receiver.body(body)

    def on_message_complete(self) -> None:
        if not self._headed:  # 100 Continue and its like
            return
        if self._receiver is not None:
            self._receiver.end(clean=True)
            self._leave()
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        if self._parser.should_keep_alive() and not self.transport.is_closing():
            self.transport.resume_reading()
            self._pool.put(self)
        else:
            self.transport.close()

    def _leave(self, error: BaseException | None = None) -> None:
        """Let the call return, or raise `error`; its connection goes on without it."""
        self._receiver = None
        self._flow.connection = None
        done, self._done = self._done, None
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _cut(self) -> None:
        """End the call, if one is left, in the middle of its answer, and the connection."""
        self._pool.lost(self)
        if self._receiver is not None:
            self._receiver.end(clean=False)
            self._leave()
        self.transport.abort()

    def _fail(self, error: BaseException) -> None:
        """End the call, if one is left, with `error`, and the connection."""
        self._pool.lost(self)
        self._leave(error)
        self.transport.abort()


MOST_IDLE = 32
"""Connections that are kept for later calls: after a rush the rest is closed, with the memory that it holds."""


class HttpTransport:
    """Own connections to one target, kept while they are used (see openai_transport.Transport)."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._slots = asyncio.Semaphore(target.max_connections)
        # Where there are thousands a dict is a third of a set's size.
        self._open: dict[HttpConnection, None] = {}
        # Oldest first; the youngest is taken, so that what is not needed grows old.
        self._idle: dict[HttpConnection, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        lines = [f"POST {target.path} HTTP/1.1", f"host: {target.authority}"]
        lines += [f"{name}: {value}" for name, value in target.headers.items()]
        self._head = "\r\n".join(lines).encode("ascii") + b"\r\n"

    async def post(self, body: bytes, request_id: str, receiver: Receiver) -> None:
        """Post `body`; see the seam."""
        body = b"%bx-client-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            self._head,
            request_id.encode("ascii"),
            len(body),
            body,
        )
        await self._slots.acquire()
        try:
            fresh = not self._idle
            while True:
                connection = await self._connect() if fresh else self._idle.popitem()[0]
                done = connection.exchange(body, receiver)
                # A stream may be open for long, and a context is large.
                body = b""
                try:
                    await done
                except NothingCame as error:
                    if fresh:
                        raise
                    fresh, body = True, error.request
                else:
                    return
                finally:
                    connection.give_up(done)
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Close all connections; see the seam."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        connections = list(self._open)
        for connection in connections:
            connection.transport.abort()
        # One turn of the loop lets the transports close their sockets.
        await asyncio.sleep(0)

    async def _connect(self) -> HttpConnection:
        target = self.target
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(target.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(self),
                    target.host,
                    target.port,
                    ssl=target.tls,
                    server_hostname=target.host if target.tls else None,
                )
        except OSError as error:
            raise connect_error(error, target) from error
        return connection

    # Called by connections

    def opened(self, connection: HttpConnection) -> None:
        """Know `connection`, so that `close` reaches it."""
        self._open[connection] = None

    def lost(self, connection: HttpConnection) -> None:
        """Forget `connection`: it is closed, or about to be."""
        self._open.pop(connection, None)
        self._idle.pop(connection, None)

    def put(self, connection: HttpConnection) -> None:
        """Keep `connection` for the next call."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[connection] = None
        if len(self._idle) > MOST_IDLE:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.close()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self.target.idle_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come again when the next one may be."""
        loop = asyncio.get_running_loop()
        self._sweeper = None
        for connection in list(self._idle):
            left_s = connection.idle_since + self.target.idle_s - loop.time()
            if left_s > 0:
                self._sweeper = loop.call_later(left_s, self._sweep)
                return
            del self._idle[connection]
            connection.transport.close()

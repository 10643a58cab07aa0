"""A raw relay: own asyncio protocols on both sides, no framework and no log.

The lower bound for Python on this path: it parses the same upstream chunks and renders the
same native frames as Legato does, and keeps nothing. Run as
`python -m bench.peers.relay --port P --upstream URL`.
"""

import argparse
import asyncio
import ssl
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop


class Delta(msgspec.Struct):
    """What one choice of an upstream chunk adds."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One choice of an upstream chunk."""

    delta: Delta
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """An upstream chunk, as far as it is read."""

    choices: list[Choice] = []


class Turn(msgspec.Struct):
    """The native request body."""

    message: str
    sessionId: str = ""
    conversationId: str = ""


CHUNK = msgspec.json.Decoder(Chunk)
TURN = msgspec.json.Decoder(Turn)
ENCODE = msgspec.json.Encoder().encode
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Upstreams:
    """Keep-alive connections to the upstream; as many as there are streams."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.target = f"{parts.path}/chat/completions"
        # SSL_CERT_FILE names the authority, as for any OpenSSL client.
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.idle: list[Upstream] = []

    def request(self, message: str) -> bytes:
        """Return the bytes of a streaming chat request."""
        body = ENCODE(
            {
                "model": "mock-model",
                "messages": [{"role": "user", "content": message}],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        head = (
            f"POST {self.target} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Authorization: Bearer sk-bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def take(self) -> "Upstream":
        """Return an idle connection or open one."""
        while self.idle:
            upstream = self.idle.pop()
            if not upstream.transport.is_closing():
                return upstream
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: Upstream(self), self.host, self.port, ssl=self.tls)
        return upstream


class Upstream(asyncio.Protocol):
    """One connection to the upstream, serving one stream at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: Upstreams) -> None:
        self.pool = pool
        self.downstream: Downstream | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.rest = b""
        self.frames: list[bytes] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse what one read brought and write all of its frames at once."""
        self.parser.feed_data(data)
        downstream = self.downstream
        if downstream and self.frames:
            downstream.write(b"".join(self.frames))
        self.frames.clear()
        if self.ended:
            self.ended = False
            self.downstream = None
            if downstream:
                downstream.end()
            self.pool.idle.append(self)

    def on_body(self, body: bytes) -> None:
        """Cut the body into events and render each."""
        *events, self.rest = (self.rest + body).split(b"\n\n")
        downstream = self.downstream
        if downstream is None:
            return
        for event in events:
            data = event[6:]
            if data == b"[DONE]":
                self.frames.append(downstream.completion())
                continue
            for choice in CHUNK.decode(data).choices:
                if choice.delta.content:
                    self.frames.append(downstream.frame(choice.delta.content))

    def on_message_complete(self) -> None:
        """The reply is over; the connection goes back to the pool after this read."""
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """An upstream that breaks cuts its reader: no terminal, so the client sees a failure."""
        if self.downstream:
            self.downstream.transport.abort()


class Downstream(asyncio.Protocol):
    """One client connection."""

    transport: asyncio.Transport

    def __init__(self, pool: Upstreams, tasks: set[asyncio.Task[None]]) -> None:
        self.pool, self.tasks = pool, tasks
        self.parser = httptools.HttpRequestParser(self)
        self.upstream: Upstream | None = None
        self.body = b""
        self.count = self.length = self.index = 0
        self.conversation = b'""'

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse the request."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Collect the request body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The request is whole: begin its reply."""
        turn, self.body = TURN.decode(self.body), b""
        self.index = self.length = 0
        self.count += 1
        self.conversation = ENCODE(turn.conversationId)
        task = asyncio.get_running_loop().create_task(self.start(turn.message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def start(self, message: str) -> None:
        """Open the reply and ask the upstream."""
        self.transport.write(HEAD)
        self.upstream = await self.pool.take()
        self.upstream.downstream = self
        self.upstream.transport.write(self.pool.request(message))

    def frame(self, content: str) -> bytes:
        """Render one native chunk."""
        self.index += 1
        self.length += len(content)
        return b'event: chunk\nid: r%d.0.%d\ndata: {"content":%b,"index":%d,"conversationId":%b}\n\n' % (
            self.count,
            self.index,
            ENCODE(content),
            self.index,
            self.conversation,
        )

    def completion(self) -> bytes:
        """Render the native terminal."""
        return (
            b'event: complete\nid: r%d.0.%d\ndata: {"conversationId":%b,"messageCount":2,'
            b'"responseLength":%d,"finishReason":"stop"}\n\n'
            % (self.count, self.index + 1, self.conversation, self.length)
        )

    def write(self, data: bytes) -> None:
        """Write frames as one piece of the chunked encoding."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """End the response; the connection stays open for the next request."""
        self.upstream = None
        self.transport.write(b"0\r\n\r\n")

    def pause_writing(self) -> None:
        """A reader that does not keep up stops its upstream."""
        if self.upstream:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        """The reader caught up."""
        if self.upstream:
            self.upstream.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Without a reader the upstream is not needed."""
        if self.upstream:
            self.upstream.downstream = None
            self.upstream.transport.abort()


async def serve(port: int, upstream: str) -> None:
    """Relay on 127.0.0.1:port until the process is stopped."""
    pool, tasks = Upstreams(upstream), set[asyncio.Task[None]]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Downstream(pool, tasks), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="base address, ends in /v1")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.upstream))

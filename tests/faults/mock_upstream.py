"""A model's server that breaks on purpose: OpenAI's chat completions, streamed, with one fault a conversation.

What it says is legato.providers.scripted's reply; what it does wrong stands in the user's message:

    script: seed=7 tokens=20 delay_ms=5 id=x1 fault=cut-rst@5 times=1

The fault happens in the first `times` calls of that id; the next one goes on from what it is shown, as a model would.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import Counter
from typing import Any

from legato.providers.scripted import reply, token

FAULTS = (
    "refuse-fin",
    "refuse-rst",
    "stall-early",
    "http-429",
    "http-500",
    "http-503",
    "html-200",
    "json-200",
    "cut-fin@0",
    "cut-rst@0",
    "stall@0",
    "garbage@0",
    "error@0",
    "cut-fin@1",
    "cut-rst@1",
    "cut-fin@7",
    "cut-rst@7",
    "stall@7",
    "garbage@7",
    "bytes@7",
    "error@7",
    "half@7",
    "cut-fin@last",
    "cut-rst@last",
    "stall@last",
    "overlap@9",
)
"""`@k`: after k tokens; `last`: after all of them, before the end is told. `overlap` cuts, then says its last words
again."""
CONTINUE = "Your previous message was cut off"


class MockUpstream:
    """Listens on a loopback port, in a thread of its own.

    Attributes:
        calls: Requests by conversation id.
        closed_at: Monotonic time at which the connection of an id's call was first closed by the other side.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.closed_at: dict[str, float] = {}
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="mock-upstream", daemon=True)
        self._thread.start()
        self._ready.wait(10)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    def close(self) -> None:
        """Close every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:")
                body = json.loads(await reader.readexactly(length))
                await _Answer(self, reader, writer, body).give()
        except (asyncio.IncompleteReadError, ConnectionError, _Over):
            pass
        except asyncio.CancelledError:
            # The mock is being closed; a task of asyncio's streams that ends as cancelled is reported as a fault.
            pass
        finally:
            writer.close()


class _Over(Exception):
    """The connection is at its end."""


class _Answer:
    """One call's answer."""

    def __init__(
        self, upstream: MockUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: Any
    ) -> None:
        self._upstream = upstream
        self._reader = reader
        self._writer = writer
        messages: list[dict[str, str]] = body["messages"]
        self._prefix = ""
        if messages[-1]["content"].startswith(CONTINUE):
            messages = messages[:-1]
        if messages[-1]["role"] == "assistant":
            self._prefix = messages[-1]["content"]
        asked = next(m["content"] for m in reversed(messages) if m["role"] == "user" and "script:" in m["content"])
        words = dict(word.split("=", 1) for word in asked.partition("script:")[2].split())
        self._seed, self._tokens = int(words["seed"]), int(words["tokens"])
        self._delay_s = float(words.get("delay_ms", "0")) / 1000
        self._id = words["id"]
        self._upstream.calls[self._id] += 1
        call = self._upstream.calls[self._id]
        fault, _, at = words.get("fault", "").partition("@")
        self._overlaps = fault == "overlap" and call > 1
        if call > int(words.get("times", "1")):
            fault = ""
        self._fault = "cut-fin" if fault == "overlap" else fault
        self._at = self._tokens if at == "last" else int(at or 0)

    async def give(self) -> None:
        watch = asyncio.create_task(self._watch())
        try:
            await self._early()
            self._writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await self._speak()
            self._writer.write(b"0\r\n\r\n")
            await self._writer.drain()
        except ConnectionError:
            # Closed with words of ours unread, a connection ends as a reset, and the writer may hear of it first.
            self._note_end()
            raise
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self) -> None:
        # Nothing more is sent by a client that waits: what can be read here is the end.
        try:
            ended = not await self._reader.read(1)
        except ConnectionError:
            ended = True
        if ended:
            self._note_end()

    def _note_end(self) -> None:
        self._upstream.closed_at.setdefault(self._id, time.monotonic())

    async def _early(self) -> None:
        match self._fault:
            case "refuse-fin" | "refuse-rst":
                self._cut(self._fault[-3:])
            case "stall-early":
                await asyncio.sleep(30)
            case "http-429" | "http-500" | "http-503":
                await self._plain(int(self._fault[-3:]), b'{"error":{"message":"not now","type":"server_error"}}')
            case "html-200":
                await self._plain(200, b"<html><body>Welcome to the proxy</body></html>", b"text/html")
            case "json-200":
                await self._plain(200, b'{"detail":"something else"}')

    async def _plain(self, status: int, body: bytes, kind: bytes = b"application/json") -> None:
        more = b"Retry-After: 1\r\n" if status == 429 else b""
        self._writer.write(
            b"HTTP/1.1 %d X\r\nContent-Type: %b\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, kind, more, len(body), body)
        )
        await self._writer.drain()
        raise _Over

    async def _speak(self) -> None:
        self._chunk({"role": "assistant", "content": ""})
        text = reply(self._seed, self._tokens)
        begin = len(self._prefix)
        if not text.startswith(self._prefix):
            # It is shown what it never said: it says so, and the reader's text will differ.
            self._chunk({"content": "[the prefix is not what was said]"})
        if self._overlaps:
            begin = max(0, begin - 30)
        position = 0
        for index in range(self._tokens):
            if self._fault and index == self._at:
                await self._break()
            piece = token(self._seed, index)
            position += len(piece)
            if position <= begin:
                continue
            self._chunk({"content": piece[max(0, len(piece) - (position - begin)) :]})
            await self._writer.drain()
            await asyncio.sleep(self._delay_s)
        if self._fault and self._at >= self._tokens:
            await self._break()
        self._chunk({}, finish="stop")
        self._data(b"[DONE]")

    async def _break(self) -> None:
        match self._fault:
            case "cut-fin" | "cut-rst":
                await self._writer.drain()
                # What was sent is read before a reset throws it away.
                await asyncio.sleep(0.02)
                self._cut(self._fault[-3:])
            case "half":
                self._writer.write(b'40\r\ndata: {"id":"x","choices":[{"ind')
                await self._writer.drain()
                self._cut("fin")
            case "stall":
                await asyncio.sleep(30)
            case "garbage":
                self._data(b'{"choices": [{"delta": {"content": <<<')
            case "bytes":
                self._raw(b"\x00\xff\xfe\x80 not an event at all \r\r\n\n" * 3)
            case "error":
                self._data(b'{"error":{"message":"the engine is overloaded","type":"server_error","code":503}}')
                await self._writer.drain()
                self._cut("fin")

    def _cut(self, how: str) -> None:
        if how == "rst":
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Over

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "mock", "choices": [choice]}
        self._data(json.dumps(body).encode())

    def _data(self, data: bytes) -> None:
        self._raw(b"data: %b\n\n" % data)

    def _raw(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

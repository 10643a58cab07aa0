"""The Python client in tests: one with little patience, what it reads, and what its callbacks were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from legato.client import ChatClient, ChatError, ChatEvent, Chunk, Patience, ReplyStream

QUICK = Patience(away_s=20.0, first_s=1.0, jitter=lambda: 0.0)


def client_of(
    port: int, conversation_id: str | None = None, *, patience: Patience = QUICK, api_key: str | None = None
) -> ChatClient:
    """Return a client of the server on this port."""
    address = f"http://127.0.0.1:{port}"
    return ChatClient("tests", conversation_id, base_url=address, patience=patience, api_key=api_key)


async def read(stream: ReplyStream) -> list[ChatEvent]:
    """Return all events of a reply that can be read."""
    async with stream:
        return [event async for event in stream]


async def read_until_error(stream: ReplyStream) -> tuple[list[ChatEvent], ChatError | None]:
    """Return the events that came, and what reading ended with."""
    events: list[ChatEvent] = []
    try:
        async for event in stream:
            events.append(event)  # noqa: PERF401
    except ChatError as error:
        return events, error
    return events, None


def text_of(events: list[ChatEvent]) -> str:
    """Return the text that the chunks say."""
    return "".join(event.content for event in events if isinstance(event, Chunk))


class Calls:
    """What `send_message` told: the text, and each final callback, None for `on_complete`."""

    def __init__(self, *, wanted: str = "") -> None:
        self.text = ""
        self.ends: list[str | None] = []
        self.reached = asyncio.Event()
        self._wanted = wanted

    def chunk(self, text: str) -> None:
        self.text += text
        if self._wanted in self.text:
            self.reached.set()

    def complete(self) -> None:
        self.ends.append(None)

    async def error(self, words: str) -> None:
        self.ends.append(words)

    async def of(self, client: ChatClient, message: str) -> Calls:
        await client.send_message(message, self.chunk, self.complete, self.error)
        return self


@asynccontextmanager
async def answering(*answers: str) -> AsyncIterator[tuple[ChatClient, list[str]]]:
    """Give each connection the next answer and close it; yield a client, and what it has asked."""
    asked: list[str] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(lines.get("Content-Length", "0")))
        told = [lines[name] for name in ("Last-Event-ID", "Idempotency-Key") if name in lines]
        asked.append(" ".join([*head.split(" ")[:2], *told]))
        writer.write(left.pop(0).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield client_of(server.sockets[0].getsockname()[1], "c-1"), asked

"""Ways into an application inside this process: a bare ASGI call, and uvicorn with whichever HTTP protocol."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.types import ASGIApp, Message

from tests.client import Head, as_bytes, request_bytes
from tests.naive import unchunked


@dataclass(slots=True)
class AsgiAnswer:
    """What an application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    def fields(self, name: str) -> list[str]:
        """Return all fields of a name, which may stand several times."""
        return [value for each, value in self.lines if each.lower() == name]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    api: ASGIApp, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> AsgiAnswer:
    """Call the application as a server without Legato's extension does; return its whole answer."""
    data = as_bytes(body)
    fields = {"host": "localhost"} | ({"content-type": "application/json"} if data is not None else {})
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target),
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in (fields | dict(headers or {})).items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    requests = [{"type": "http.request", "body": data or b"", "more_body": False}]
    gone = asyncio.Event()
    answer = AsgiAnswer()

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.lines = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
            answer.headers = dict(answer.lines)
        else:
            answer.pieces.append(message.get("body", b""))
            answer.complete = not message.get("more_body", False)

    await api(scope, receive, send)
    return answer


@asynccontextmanager
async def listening(api: ASGIApp, http: Any) -> AsyncIterator[int]:
    """Serve an application on a free port with one of uvicorn's HTTP protocols; gives the port."""
    config = uvicorn.Config(
        api, http=http, ws="none", lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        await server.startup(sockets=[sock])
        try:
            yield sock.getsockname()[1]
        finally:
            await server.shutdown(sockets=[sock])


async def fetch(
    port: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[Head, bytes]:
    """Make one request over a socket and return head and body, the latter without chunk marks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes(method, path, as_bytes(body), {"Connection": "close"} | dict(headers or {})))
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    raw, _, rest = data.partition(b"\r\n\r\n")
    lines = raw.decode("latin-1").split("\r\n")
    version, status, _ = (lines[0] + " ").split(" ", 2)
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    head = Head(version, int(status), fields)
    return head, unchunked(rest) if ("transfer-encoding", "chunked") in fields else rest

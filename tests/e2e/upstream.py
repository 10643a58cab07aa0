"""A model's server that answers as a test wants: refuses, or says a given text."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

from legato.providers import scripted
from tests.e2e.chat import Chat
from tests.server import ServerProcess

TOML = """\
[models.scripted]
base_url = "http://127.0.0.1:{port}/v1"
model = "stub"
context_window = 100000
"""


class Upstream:
    """What the next answers are.

    Attributes:
        status: Their status.
        text: What they say, in pieces.
        piece: Characters of one piece.
        pause_s: Between two pieces.
    """

    def __init__(self) -> None:
        self.status = 200
        self.text = "Hello."
        self.piece = 24
        self.pause_s = 0.0
        self.port = 0
        self._held_at = 0
        self._gate = threading.Event()
        self._gate.set()

    def count(self, seed: int, tokens: int, *, held_at: int) -> None:
        """Say what the scripted model would, and stand still before this token until `go_on`."""
        self.text = scripted.reply(seed, tokens)
        self._held_at = len(scripted.reply(seed, held_at))
        self._gate.clear()

    def go_on(self) -> None:
        self._gate.set()

    def wait(self, start: int) -> None:
        """Wait where a piece that begins here is held."""
        if start >= self._held_at:
            self._gate.wait()

    @property
    def toml(self) -> str:
        """What stands in legato.toml of a server that asks this one."""
        return TOML.replace("{port}", str(self.port))


@contextmanager
def open_upstream() -> Iterator[Upstream]:
    """Answer on a free port until the context ends."""
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(upstream.status)
            if upstream.status != 200:
                body = json.dumps({"error": {"message": "refused by the stub", "type": "stub"}}).encode()
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for start in range(0, len(upstream.text), upstream.piece):
                upstream.wait(start)
                content = upstream.text[start : start + upstream.piece]
                delta = {"choices": [{"index": 0, "delta": {"content": content}}]}
                self.wfile.write(f"data: {json.dumps(delta)}\n\n".encode())
                time.sleep(upstream.pause_s)
            end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            self.wfile.write(f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    upstream.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Told(NamedTuple):
    """A server, and its model."""

    server: ServerProcess
    upstream: Upstream


class Held(NamedTuple):
    """A page of it, and the model."""

    chat: Chat
    upstream: Upstream


@pytest.fixture(scope="package")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A server whose model says what a test wants."""
    with open_upstream() as upstream:
        upstream.piece, upstream.pause_s = 7, 0.003
        server = ServerProcess(tmp_path_factory.mktemp("told"), {"rate_limit": "off"}, toml=upstream.toml).start()
        yield Told(server, upstream)
        server.kill()

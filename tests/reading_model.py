"""A model's server that does as it is told: it looks the question up with a tool, and answers with what that gave.

OpenAI's chat completions over loopback. With tools it calls the first one, its arguments in pieces; what the tool
gave becomes its answer: the text of the best passage with its source in brackets, or that it does not know.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NO_ANSWER = "I do not know that."


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        last = request["messages"][-1]
        chunks = _answer(last["content"]) if last["role"] == "tool" or "tools" not in request else _call(request, last)
        body = b"".join(b"data: %b\n\n" % json.dumps({"choices": [chunk]}).encode() for chunk in chunks)
        body += b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _call(request: dict[str, Any], last: dict[str, Any]) -> list[dict[str, Any]]:
    function = request["tools"][0]["function"]
    arguments = json.dumps({"query": last["content"]})
    half = len(arguments) // 2
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (arguments[:half], arguments[half:])]
    return [
        *({"index": 0, "delta": {"tool_calls": [each]}, "finish_reason": None} for each in (first, *pieces)),
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]


def _answer(found: str) -> list[dict[str, Any]]:
    try:
        passages = json.loads(found)
    except ValueError:
        passages = []
    text = f"{passages[0]['text']} [{passages[0]['source']}]" if passages else NO_ANSWER
    return [
        {"index": 0, "delta": {"content": text}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]


@contextmanager
def reading_model() -> Iterator[str]:
    """Run it; the value is its address, up to `/v1`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

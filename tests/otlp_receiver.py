"""A collector for tests: takes OTLP over HTTP on loopback, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span, in plain values; ids are hex digits, `parent` is empty for none."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    seconds: float
    is_error: bool
    attributes: dict[str, Any]


@dataclass
class Received:
    """What a collector was sent."""

    address: str
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def named(self, beginning: str) -> list[Span]:
        """Return the spans whose name begins so, the oldest first."""
        return [span for span in self.spans if span.name.startswith(beginning)]

    def one(self, beginning: str) -> Span:
        """Return the only one."""
        (span,) = self.named(beginning)
        return span

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Keep what one request brings."""
        self.bodies.append(body)
        self.headers.append(headers)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_values(group.resource.attributes))
            for scope in group.scope_spans:
                self.spans += [
                    Span(
                        name=each.name,
                        kind=each.kind,
                        trace=each.trace_id.hex(),
                        id=each.span_id.hex(),
                        parent=each.parent_span_id.hex(),
                        seconds=(each.end_time_unix_nano - each.start_time_unix_nano) / 1e9,
                        is_error=each.status.code == 2,
                        attributes=_values(each.attributes),
                    )
                    for each in scope.spans
                ]


@contextmanager
def receive() -> Iterator[Received]:
    """Take what is sent until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            received.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)

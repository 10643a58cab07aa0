"""A client that sees bytes: HTTP/1.1 over a plain socket, and an event stream as its blocks.

It knows nothing of Legato's own code, so that nothing wrong there is right here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

WAIT_S = 20.0
"""How long a test waits for a byte before it fails."""
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of a response; names in lower case, in order."""

    version: str
    status: int
    headers: list[tuple[str, str]]

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name.lower()]

    def __contains__(self, name: str) -> bool:
        return any(key == name.lower() for key, _ in self.headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code, in whichever of the two forms it came."""
        assert self.status >= 400, (self.status, self.body)
        if self.head["content-type"].startswith("text/event-stream"):
            return str(parse_event(self.body.removesuffix(b"\n\n")).data["code"])
        return str(self.json["code"])


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, and the bytes that it came in."""

    name: str
    id: str | None
    data: dict[str, Any]
    raw: bytes


def parse_event(block: bytes) -> Event:
    """Read a block in the only form that is allowed: `event:`, `id:` if there is one, `data:` last."""
    lines = block.split(b"\n")
    assert lines[0].startswith(b"event: "), block
    assert lines[-1].startswith(b"data: "), block
    cursor = None
    if len(lines) == 3:
        assert lines[1].startswith(b"id: "), block
        cursor = lines[1][4:].decode()
    else:
        assert len(lines) == 2, block
    return Event(lines[0][7:].decode(), cursor, json.loads(lines[-1][6:]), block)


class Connection:
    """One TCP connection, read byte-exactly."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((host, port), timeout=WAIT_S)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.sock.close()

    def read_until(self, mark: bytes) -> bytes:
        """Return what comes up to and with `mark`."""
        while mark not in self._buffer:
            self._fill(f"waiting for {mark!r}")
        at = self._buffer.index(mark) + len(mark)
        found, self._buffer = self._buffer[:at], self._buffer[at:]
        return found

    def read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill(f"waiting for {size} bytes")
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def read_to_end(self) -> bytes:
        """Return all that comes until the other side closes."""
        while data := self.sock.recv(65536):
            self._buffer += data
        found, self._buffer = self._buffer, b""
        return found

    def read_head(self) -> Head:
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = (lines[0] + " ").split(" ", 2)
        headers = []
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        return Head(version, int(status), headers)

    def read_chunk(self) -> bytes:
        """Return one chunk of a chunked body; empty at its end."""
        size = int(self.read_until(b"\r\n"), 16)
        data = self.read_exactly(size)
        assert self.read_exactly(2) == b"\r\n"
        return data

    def read_body(self, head: Head, method: str = "GET") -> bytes:
        if method == "HEAD" or head.status in (204, 304):
            return b""
        if "content-length" in head:
            return self.read_exactly(int(head["content-length"]))
        if head.headers.count(("transfer-encoding", "chunked")) == 1:
            return b"".join(iter(self.read_chunk, b""))
        return self.read_to_end()

    def _fill(self, doing: str) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError(f"closed while {doing}; had {self._buffer[-200:]!r}")
        self._buffer += data


def request_bytes(
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Headers | None = None,
    *,
    version: str = "HTTP/1.1",
) -> bytes:
    """Return a request; a header given as empty is left out."""
    fields = {"Host": "localhost"}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= dict(headers or {})
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@dataclass(slots=True)
class Stream:
    """An event stream that is being read.

    Attributes:
        comments: Comment blocks so far, without their blank line.
        raw: All bytes of the body so far, comments included.
    """

    connection: Connection
    head: Head
    comments: list[bytes] = field(default_factory=list)
    raw: bytes = b""
    _rest: bytes = b""
    _ended: bool = False

    def __getitem__(self, header: str) -> str:
        return self.head[header]

    @property
    def run_id(self) -> str:
        return self.head["x-run-id"]

    def blocks(self) -> Iterator[bytes]:
        """Yield blocks as they come, without their blank line; comments too."""
        while True:
            while b"\n\n" in self._rest:
                block, _, self._rest = self._rest.partition(b"\n\n")
                yield block
            if self._ended:
                assert not self._rest, f"the stream ends inside a block: {self._rest!r}"
                return
            data = self._read()
            self.raw += data
            self._rest += data

    def events(self) -> Iterator[Event]:
        """Yield events as they come; comments are put aside."""
        for block in self.blocks():
            if block.startswith(b":"):
                assert b"\n" not in block, f"a comment is not alone in its block: {block!r}"
                self.comments.append(block)
            else:
                yield parse_event(block)

    def take(self, count: int) -> list[Event]:
        """Return the next `count` events."""
        found: list[Event] = []
        for event in self.events():
            found.append(event)
            if len(found) == count:
                return found
        raise AssertionError(f"the stream ended after {len(found)} events")

    def rest(self) -> list[Event]:
        """Return all further events, up to the proper end of the response."""
        return list(self.events())

    def close(self) -> None:
        self.connection.close()

    def _read(self) -> bytes:
        if self.head.version == "HTTP/1.1" and "transfer-encoding" in self.head:
            data = self.connection.read_chunk()
            self._ended = not data
            return data
        self._ended = True
        return self.connection.read_to_end()


def text_of(events: list[Event]) -> str:
    """Return the text that the chunks say."""
    return "".join(event.data["content"] for event in events if event.name == "chunk")


def wire_of(events: list[Event]) -> bytes:
    """Return the very bytes of the events, in order."""
    return b"".join(event.raw + b"\n\n" for event in events)


class Client:
    """Makes requests of one server, each on a connection of its own.

    Args:
        headers: Sent with every request.
    """

    seen: ClassVar[set[tuple[str, str, int]]] = set()
    """Method, path and status of every answer to every client: OpenAPI must describe each (tests/conftest.py)."""

    def __init__(self, port: int, headers: Headers | None = None) -> None:
        self.port = port
        self._headers = dict(headers or {})
        self._connections: list[Connection] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def connect(self) -> Connection:
        """Return a connection that is closed with this client."""
        connection = Connection(self.port)
        self._connections.append(connection)
        return connection

    def ask(self, method: str, path: str, body: object = None, headers: Headers | None = None) -> Answer:
        """Return the whole answer; `body` is sent as JSON unless it is bytes."""
        connection = self.connect()
        connection.send(request_bytes(method, path, as_bytes(body), self._headers | dict(headers or {})))
        head = connection.read_head()
        self.seen.add((method, path.partition("?")[0], head.status))
        return Answer(head, connection.read_body(head, method))

    def get(self, path: str, headers: Headers | None = None) -> Any:
        """Return the JSON of a GET that succeeds."""
        answer = self.ask("GET", path, headers=headers)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    def open(self, method: str, path: str, body: object = None, headers: Headers | None = None) -> Stream:
        """Return a stream that has been opened with 200."""
        connection = self.connect()
        connection.send(request_bytes(method, path, as_bytes(body), self._headers | dict(headers or {})))
        head = connection.read_head()
        self.seen.add((method, path.partition("?")[0], head.status))
        if head.status != 200:
            raise AssertionError((head.status, connection.read_body(head, method)))
        return Stream(connection, head)

    def post(self, message: str, headers: Headers | None = None, **fields: object) -> Stream:
        """Post a message and return the stream of its reply."""
        return self.open("POST", "/chat/stream", {"message": message} | fields, headers)

    def follow(self, run_id: str, query: str = "", headers: Headers | None = None) -> Stream:
        """Return the stream of a run that is there."""
        return self.open("GET", f"/chat/stream/{run_id}{query}", headers=headers)

    def say(self, message: str, **fields: object) -> list[Event]:
        """Post a message and return all events of its reply."""
        stream = self.open("POST", "/chat/stream", {"message": message} | fields)
        events = stream.rest()
        stream.close()
        return events


def as_bytes(body: object) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()

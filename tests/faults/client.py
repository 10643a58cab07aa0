"""A reader that shares nothing with the server: a raw socket, its own HTTP and SSE parsing, its own cursor.

It keeps what came, byte by byte, and notes every way in which a later look differs from an earlier one.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 30.0
RECV_BYTES = 65536
END = b"\r\n0\r\n\r\n"
TERMINAL = (b"complete", b"error")


@dataclass(slots=True)
class Response:
    """A response as far as its raw bytes go; `grow` takes what has come since.

    Attributes:
        body: What the chunks (or the length) have brought so far.
        ended: The response came to its proper end; otherwise it was cut.
    """

    status: int
    headers: dict[str, str]
    at: int
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    taken: int = 0

    def json(self) -> Any:
        return json.loads(self.body)

    def grow(self, raw: bytearray) -> None:
        """Take the body from `raw`, all bytes of the connection, from where the last look ended."""
        if self.headers.get("transfer-encoding") == "chunked":
            self._unchunk(raw)
            return
        self.body[:] = raw[self.at :]
        self.ended = len(self.body) >= int(self.headers.get("content-length", "0"))

    def _unchunk(self, raw: bytearray) -> None:
        """Take whole chunks for good, and one that is not whole yet as far as it goes."""
        while not self.ended:
            line_end = raw.find(b"\r\n", self.at)
            if line_end < 0:
                return
            size = int(raw[self.at : line_end], 16)
            begin, end = line_end + 2, line_end + 2 + size
            if size == 0:
                self.ended = raw[line_end : line_end + 4] == b"\r\n\r\n"
                return
            piece = raw[begin:end]
            # `body` ends with what this chunk has brought at earlier looks.
            self.body += piece[self.taken :]
            if len(raw) < end + 2:
                self.taken = len(piece)
                return
            self.taken = 0
            self.at = end + 2


def parse_response(raw: bytearray) -> Response | None:
    """Return the response that `raw` begins, or None before its head is whole."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = raw[:end].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    response = Response(int(first.split(" ")[1]), headers, end + 4)
    response.grow(raw)
    return response


def request_bytes(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a request; `body` is sent as JSON."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    data = b""
    if body is not None:
        data = json.dumps(body).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode() + data


def chat_bytes(
    message: str, conversation_id: str, key: str | None = None, more: Mapping[str, Any] | None = None
) -> bytes:
    """Return the request that posts a message; `more` are further fields of its body."""
    body = {"message": message, "sessionId": "faults", "conversationId": conversation_id, **(more or {})}
    return request_bytes("POST", "/chat/stream", body, {"Idempotency-Key": key} if key else None)


class Connection:
    """One TCP connection; keeps every byte that came."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(TIMEOUT_S)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = bytearray()
        self._response: Response | None = None

    def send(self, data: bytes, *, one_by_one: bool = False) -> None:
        """Send `data`, on wish with one write a byte; a server that has answered and gone is no error."""
        try:
            if one_by_one:
                for at in range(len(data)):
                    self.socket.sendall(data[at : at + 1])
            else:
                self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, size: int = RECV_BYTES) -> bool:
        """Take what has come, `size` bytes at most; return False at the end of the connection."""
        try:
            data = self.socket.recv(size)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self.raw += data
        return bool(data)

    def receive_exactly(self, size: int) -> None:
        """Take bytes until `size` have come in all, or the response (in chunks) has ended."""
        while len(self.raw) < size and not self.raw.endswith(END) and self.receive(size - len(self.raw)):
            pass

    def response(self) -> Response | None:
        """Return what has come so far."""
        if self._response is None:
            self._response = parse_response(self.raw)
        else:
            self._response.grow(self.raw)
        return self._response

    def whole(self) -> Response:
        """Read to the response's end, or to where it is cut.

        Raises:
            ConnectionError: It was cut before its head was whole.
        """
        while True:
            response = self.response()
            if response is not None and response.ended:
                return response
            if not self.receive():
                if response is None:
                    raise ConnectionError("the connection ended before a response began")
                return response

    def cut(self, how: str) -> None:
        """End the connection: `fin`, `rst`, or `half` (close our side, then take what still comes)."""
        if how == "half":
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            while self.receive():
                pass
        elif how == "rst":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def call(port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    """Make one request on a connection of its own."""
    connection = Connection(port)
    try:
        connection.send(request_bytes(method, path, body, headers))
        return connection.whole()
    finally:
        connection.cut("fin")


@dataclass(slots=True)
class Frame:
    """One event as it came."""

    raw: bytes
    name: bytes
    seq: int
    epoch: int
    data: dict[str, Any]


def parse_frame(raw: bytes) -> Frame | None:
    """Return the event of one block, None for a comment."""
    if raw.startswith(b":"):
        return None
    lines = raw.split(b"\n")
    if len(lines) != 3 or [line.split(b": ")[0] for line in lines] != [b"event", b"id", b"data"]:
        raise ValueError(f"not event, id, data: {raw[:200]!r}")
    _, epoch, seq = lines[1][4:].decode().rsplit(".", 2)
    return Frame(raw, lines[0][7:], int(seq), int(epoch), json.loads(lines[2][6:]))


@dataclass(slots=True)
class Reader:
    """What one reader was shown of one run, over any number of connections.

    Attributes:
        frames: Every event once, in the order of showing; `arrivals` holds the monotonic time of each.
        faults: What went wrong, counted: duplicated, reordered, changed, malformed, mixed, terminals.
        partial: The unfinished block at which the last connection was cut: the next one must begin with it.
    """

    run_id: str | None = None
    frames: list[Frame] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    partial: bytes = b""
    notes: list[str] = field(default_factory=list)
    _seen: int = 0
    _connection: Connection | None = None

    @property
    def cursor(self) -> str | None:
        """Of the last complete event."""
        if not self.frames or self.run_id is None:
            return None
        return f"{self.run_id}.{self.frames[-1].epoch}.{self.frames[-1].seq}"

    @property
    def text(self) -> str:
        return "".join(frame.data["content"] for frame in self.frames if frame.name == b"chunk")

    @property
    def terminal(self) -> Frame | None:
        return next((frame for frame in self.frames if frame.name in TERMINAL), None)

    def take(self, connection: Connection) -> Response | None:
        """Look at all that a connection has brought; may be called again as more comes."""
        if connection is not self._connection:
            self._connection = connection
            self._seen = 0
        response = connection.response()
        if response is None or response.status != 200:
            return response
        self.run_id = self.run_id or response.headers.get("x-run-id")
        blocks = bytes(response.body[self._seen :]).split(b"\n\n")
        rest = blocks.pop()
        for block in blocks:
            self._take_block(block)
            self._seen += len(block) + 2
        if rest and not rest.startswith(b":"):
            self._check_partial(rest)
            if len(rest) > len(self.partial):
                self.partial = rest
        return response

    def _check_partial(self, raw: bytes) -> None:
        shorter = min(len(raw), len(self.partial))
        if raw[:shorter] != self.partial[:shorter]:
            self._fault("changed", f"was {self.partial!r}, is {raw!r}")

    def _take_block(self, block: bytes) -> None:
        try:
            frame = parse_frame(block)
        except (ValueError, KeyError, IndexError) as error:
            self._fault("malformed", str(error))
            return
        if frame is None:
            return
        self._check_partial(block)
        self.partial = b""
        if frame.raw.split(b"\n")[1][4:].rsplit(b".", 2)[0].decode() != self.run_id:
            self._fault("mixed", f"an event of another run: {block[:120]!r}")
        if self.frames:
            last = self.frames[-1]
            if frame.seq <= last.seq:
                same = any(each.raw == block for each in self.frames)
                self._fault("duplicated" if same else "reordered", f"seq {frame.seq} came after {last.seq}")
                return
            if frame.epoch < last.epoch:
                self._fault("reordered", f"epoch {frame.epoch} came after {last.epoch}")
            if last.name in TERMINAL:
                self._fault("terminals", f"{frame.name!r} came after the end")
        self.frames.append(frame)
        self.arrivals.append(time.monotonic())

    def _fault(self, kind: str, note: str) -> None:
        self.faults[kind] += 1
        self.notes.append(f"{kind}: {note}")

    def follow(self, port: int, *, until: float | None = None, receive_bytes: int = RECV_BYTES) -> Response | None:
        """Go on from the cursor to the end of the connection; return the last look at its response.

        Args:
            until: Monotonic time at which to stop looking, if the connection has not ended by then.
        """
        assert self.run_id is not None
        connection = Connection(port)
        cursor = self.cursor
        headers = {"Last-Event-ID": cursor} if cursor else {}
        connection.send(request_bytes("GET", f"/chat/stream/{self.run_id}", None, headers))
        try:
            return self.drain(connection, until=until, receive_bytes=receive_bytes)
        finally:
            connection.cut("fin")

    def drain(
        self, connection: Connection, *, until: float | None = None, receive_bytes: int = RECV_BYTES
    ) -> Response | None:
        """Read a connection to the end of its response, to where it is cut, or to `until`."""
        while True:
            response = self.take(connection)
            if response is not None and response.ended:
                return response
            if until is not None and time.monotonic() >= until:
                return response
            if until is not None:
                connection.socket.settimeout(max(0.05, until - time.monotonic()))
            try:
                if not connection.receive(receive_bytes):
                    return self.take(connection)
            except TimeoutError:
                return self.take(connection)

"""A client that shares nothing with the server: a raw socket, its own HTTP parsing; it keeps every byte."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 15.0
RECV_BYTES = 65536
END = b"\r\n0\r\n\r\n"


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

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout_s)
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
        """Read to the response's end, or to where it is cut, for a minute at most.

        Raises:
            ConnectionError: It was cut before its head was whole.
        """
        until = time.monotonic() + 4 * TIMEOUT_S
        while True:
            response = self.response()
            if response is not None and (response.ended or time.monotonic() > until):
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


def call(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Response:
    """Make one request on a connection of its own.

    Args:
        timeout_s: Of each wait for the server.
    """
    connection = Connection(port, timeout_s=timeout_s)
    try:
        connection.send(request_bytes(method, path, body, headers))
        return connection.whole()
    finally:
        connection.cut("fin")

"""A client as it stands in the field: it looks at no status, splits on blank lines, and takes what follows `data: `."""

from __future__ import annotations

import json
import socket

from tests.client import WAIT_S, request_bytes


class NaiveClient:
    """Posts messages, and calls back for chunks, for the end, or for an error, by the letters of the body alone."""

    def __init__(self, port: int, *, session: str, conversation: str, token: str = "") -> None:
        self._port = port
        self._session = session
        self._conversation = conversation
        self._token = token
        self.chunks: list[str] = []
        self.errors: list[str] = []
        self.completed = 0

    def send(self, message: str) -> None:
        body = json.dumps({"message": message, "sessionId": self._session, "conversationId": self._conversation})
        self.send_bytes(body.encode())

    def send_bytes(self, body: bytes, *, content_type: str = "application/json") -> None:
        headers = {"Content-Type": content_type, "Authorization": self._token, "Connection": "close"}
        with socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S) as sock:
            sock.sendall(request_bytes("POST", "/chat/stream", body, headers))
            data = b""
            while piece := sock.recv(65536):
                data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            rest = unchunked(rest)
        self._read(rest.decode())

    def _read(self, text: str) -> None:
        blocks = text.split("\n\n")
        for block in blocks[:-1]:
            if block.startswith("event: chunk"):
                self.chunks.append(self._data(block)["content"])
            elif block.startswith("event: complete"):
                self._data(block)
                self.completed += 1
            elif block.startswith("event: error"):
                self.errors.append(self._data(block)["error"])

    @staticmethod
    def _data(block: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(block.split("data: ")[1])
        return found


def unchunked(body: bytes) -> bytes:
    """Return a chunked body's content."""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return content
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]

"""A reader with its own SSE parsing and its own cursor; it notes whatever a later look shows differently."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.faults.client import RECV_BYTES, Connection, Response, request_bytes

TERMINAL = (b"complete", b"error")
LONGEST_S = 60.0
"""After which a response that goes on is given up, where nothing else is said."""


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
        # In this order: who looks from another thread finds a time for each event that is there.
        self.arrivals.append(time.monotonic())
        self.frames.append(frame)

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
        """Read a connection to the end of its response, to where it is cut or goes wrong, or to `until`."""
        until = until if until is not None else time.monotonic() + LONGEST_S
        while True:
            response = self.take(connection)
            if response is not None and response.ended:
                if response.status == 200 and self.terminal is None:
                    self._fault("terminals", "a response came to its proper end without a terminal event")
                return response
            # A server that goes wrong may never end its response.
            if self.faults or time.monotonic() >= until:
                return response
            connection.socket.settimeout(max(0.05, until - time.monotonic()))
            try:
                if not connection.receive(receive_bytes):
                    return self.take(connection)
            except TimeoutError:
                return self.take(connection)

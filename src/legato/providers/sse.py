"""Server-sent events, read from bytes that arrive in any pieces.

Pure: bytes in, events out. It follows the standard's line rules (LF, CRLF and CR, in any mix, cut
anywhere) and works on bytes, so that a UTF-8 sequence cut in two is never decoded by halves and
U+2028 ends no line.

Source:
    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"

_LINE_END = re.compile(rb"\r\n|\n|\r")
_LINE_COST_BYTES = 48  # what a line costs in memory beside its own bytes
_FIELDS = frozenset((b"data", b"event", b"id", b"retry"))


class SseEvent(NamedTuple):
    """One event: its type (empty where none was named) and its data lines joined by LF."""

    type: bytes
    data: bytes


class EventReader:
    """Turns pieces of an event stream into events.

    Attributes:
        held_bytes: Size of what waits for its line or event to end; the caller bounds it.
        stray_lines: Lines so far that belong to no event stream (an HTML page has many).
    """

    __slots__ = ("_data", "_data_bytes", "_rest", "_skip_lf", "_type", "held_bytes", "stray_lines")

    def __init__(self) -> None:
        self._rest = b""
        self._skip_lf = False
        self._type = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self.held_bytes = 0
        self.stray_lines = 0

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Return the events that `piece` completes, oldest first. Events without data are dropped."""
        if not piece:
            return []
        # A CR at the very end of a piece has ended its line; an LF that follows belongs to it.
        if self._skip_lf and piece.startswith(b"\n"):
            piece = piece[1:]
        self._skip_lf = piece.endswith(b"\r")
        lines = _LINE_END.split(self._rest + piece)
        self._rest = lines.pop()
        events: list[SseEvent] = []
        for line in lines:
            self._line(line, events)
        self.held_bytes = len(self._rest) + self._data_bytes
        return events

    def finish(self) -> list[SseEvent]:
        """Return the event that the end of the stream cut short, if any.

        The standard drops it; servers exist that leave out the last blank line, so it is given
        and the caller judges whether it is whole.
        """
        return self.feed(b"\n\n" if self._rest or self._data else b"")

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if not line:
            if self._data:
                events.append(SseEvent(self._type, b"\n".join(self._data)))
            self._type, self._data, self._data_bytes = b"", [], 0
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + _LINE_COST_BYTES
        elif name == b"event":
            self._type = value
        elif name and name not in _FIELDS:
            self.stray_lines += 1

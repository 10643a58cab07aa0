"""Server-sent events, read from bytes that arrive in any pieces.

Pure. By the standard's rules: LF, CRLF and CR end a line, in any mix; pieces are cut anywhere, also inside a UTF-8
sequence or between CR and LF; one byte order mark at the beginning is dropped; U+2028 ends no line; a block without the
empty line that ends it is no event. The cases of protocol/sse.json hold for every parser of the project.

Source:
    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

from legato.client.errors import BadStream

MOST_CHARS: Final = 32 * 1024 * 1024
"""Most characters of one event: what is longer is no event of this protocol, and would fill the memory."""

_LINE_END: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class SseEvent:
    """One server-sent event.

    Attributes:
        name: What `event:` said; `message` where nothing did.
        data: The lines of `data:`, joined by LF.
        id: Its own `id:`, None where it brought none. A cursor must not live on as the standard's last id does: an
            event without one would be taken for the event before it.
        last_event_id: The standard's: of this event or of an earlier one, empty where there was none.
    """

    name: str
    data: str
    id: str | None = None
    last_event_id: str = ""


class SseParser:
    """Turns pieces of an event stream into events; one parser a connection.

    Attributes:
        retry_ms: What `retry:` said last; None where nothing did.
    """

    __slots__ = (
        "_begun",
        "_data",
        "_data_chars",
        "_decode",
        "_id",
        "_last_id",
        "_name",
        "_rest",
        "_rest_chars",
        "_skip_lf",
        "retry_ms",
    )

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = False
        # Pieces of a line whose end has not come: joined once, so that a long line in small pieces costs no copies.
        self._rest: list[str] = []
        # Of `_rest`, and of `_data`.
        self._rest_chars = self._data_chars = 0
        self._skip_lf = False
        self._name = ""
        self._data: list[str] = []
        self._id: str | None = None
        self._last_id = ""

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Return the events that `piece` completes, oldest first.

        Raises:
            BadStream: One event is longer than MOST_CHARS.
        """
        text = self._decode(piece)
        if not text:
            return []
        if not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        # A CR at the very end of a piece has ended its line; an LF that follows belongs to it.
        if self._skip_lf and text.startswith("\n"):
            text = text[1:]
            self._skip_lf = False
        if not text:
            return []
        self._skip_lf = text.endswith("\r")
        first, *lines = _LINE_END.split(text)
        self._keep(first)
        if not lines:
            return []
        lines.insert(0, "".join(self._rest))
        last = lines.pop()
        self._rest, self._rest_chars = [], 0
        events = [event for line in lines if (event := self._take(line)) is not None]
        self._keep(last)
        return events

    def _keep(self, piece: str) -> None:
        self._rest.append(piece)
        self._rest_chars += len(piece)
        self._check_size()

    def _take(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
                self._data_chars += len(value) + 1
                self._check_size()
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) <= 15:
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> SseEvent | None:
        if self._id is not None:
            self._last_id = self._id
        event = None
        if self._data:
            data = "\n".join(self._data)
            event = SseEvent(name=self._name or "message", data=data, id=self._id, last_event_id=self._last_id)
        self._name, self._data, self._id = "", [], None
        self._data_chars = 0
        return event

    def _check_size(self) -> None:
        if self._rest_chars + self._data_chars > MOST_CHARS:
            raise BadStream("an event of the stream is longer than 32 Mi characters")

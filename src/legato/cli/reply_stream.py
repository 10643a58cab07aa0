"""A streamed reply, read from bytes: what happens in it, where to go on after a cut, and exactly one end.

Pure: no I/O, no clock. Server-sent events by the standard's rules (LF, CRLF and CR, cut anywhere, also inside a
UTF-8 sequence; U+2028 ends no line), then the native protocol's events (docs/reference: POST /chat/stream).

Source:
    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_KNOWN: Final = frozenset({"chunk", "complete", "error", "reasoning", "queued", "tool", "approval"})
_CURSOR: Final = re.compile(r"(.+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One server-sent event; `id` is its own, empty where it brought none."""

    type: str
    data: str
    id: str


class EventParser:
    """Turns pieces of an event stream into events; what a cut leaves unfinished is never an event."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = False
        self._rest = ""
        self._skip_lf = False
        self._type = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, piece: bytes) -> list[StreamEvent]:
        """Return the events that `piece` completes, oldest first."""
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
        if text:
            self._skip_lf = text.endswith("\r")
        lines = _LINE_END.split(self._rest + text)
        self._rest = lines.pop()
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: str) -> StreamEvent | None:
        if not line:
            event = StreamEvent(self._type or "message", "\n".join(self._data), self._id) if self._data else None
            self._type, self._data, self._id = "", [], ""
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
        return None


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """The next piece of the model's reasoning; no part of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The reply waits for `ahead` others of its conversation."""

    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool is called, or has failed; `told` is the call's arguments, or what the failure says."""

    name: str
    failed: bool
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A tool call waits for a person (`status` is `asked`), or was decided on (`granted`, `denied`)."""

    call_id: str
    name: str
    arguments: str
    status: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection was cut before the reply's end; the next attempt begins in `wait_s` seconds."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """What was shown is no longer what the server has: the reply is told again from its first character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The one end of a reply.

    Attributes:
        reason: `stop`, `length`, `content_filter`, `tool_limit`, `stopped`, `budget`, `fallback`; `error` if it failed.
        error: What failed, if it did.
        data: All that the server said of it.
    """

    reason: str
    error: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


Happening: TypeAlias = Text | Thinking | Queued | Tool | Approval | Cut | Restarted | Ended


class BadStream(Exception):
    """What came is no stream of Legato's."""


class ReplyFold:
    """Follows one reply over any number of connections.

    Attributes:
        run_id: The run, once it is known.
        conversation_id: Its conversation, once it is known.
        cursor: What to send as Last-Event-ID, or None to begin at the start.
        ended: Whether the reply's one end was seen; nothing follows it.
    """

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.conversation_id: str | None = None
        self.cursor: str | None = None
        self.ended = False
        self._seq = -1
        self._parser = EventParser()

    def connected(self) -> None:
        """Begin to read a new connection: what the last one left unfinished is dropped."""
        self._parser = EventParser()

    def restart(self) -> None:
        """Forget how far the reply was read."""
        self.cursor, self._seq = None, -1

    def feed(self, piece: bytes) -> list[Happening]:
        """Return what `piece` brings; a question that it brings the decision on too is none any more.

        Raises:
            BadStream: An event's data is no JSON object.
        """
        happenings: list[Happening] = []
        for event in self._parser.feed(piece):
            if self.ended:
                break
            if self._is_known(event.id):
                continue
            happening = self._read(event)
            if happening is not None:
                happenings.append(happening)
            self._advance(event.id)
        approvals = [each for each in happenings if isinstance(each, Approval)]
        decided = {each.call_id for each in approvals if each.status != "asked"}
        settled = [each for each in approvals if each.status == "asked" and each.call_id in decided]
        return [each for each in happenings if each not in settled]

    def _read(self, event: StreamEvent) -> Happening | None:
        if event.type not in _KNOWN:
            return None
        try:
            data = json.loads(event.data)
        except ValueError as error:
            raise BadStream("an event's data is no JSON") from error
        if not isinstance(data, dict):
            raise BadStream("an event's data is no JSON object")
        if isinstance(conversation_id := data.get("conversationId"), str) and conversation_id:
            self.conversation_id = conversation_id
        match event.type:
            case "chunk":
                return Text(str(data.get("content", "")))
            case "reasoning":
                return Thinking(str(data.get("content", "")))
            case "queued":
                ahead = data.get("ahead")
                return Queued(ahead if isinstance(ahead, int) else 1)
            case "tool":
                return _tool(data)
            case "approval":
                call_id, name, arguments, status = (
                    str(data.get(key, "")) for key in ("callId", "name", "arguments", "status")
                )
                return Approval(call_id=call_id, name=name, arguments=arguments, status=status)
            case "complete":
                self.ended = True
                return Ended(reason=str(data.get("finishReason") or "stop"), data=data)
            case _:
                self.ended = True
                return Ended(reason="error", error=str(data.get("error") or "the reply failed"), data=data)

    def _is_known(self, cursor: str) -> bool:
        """Whether an event was read before: a server may repeat itself, the reader must not."""
        match = _CURSOR.fullmatch(cursor)
        return match is not None and int(match[3]) <= self._seq

    def _advance(self, cursor: str) -> None:
        if match := _CURSOR.fullmatch(cursor):
            self.run_id, self.cursor, self._seq = match[1], cursor, int(match[3])


def _tool(data: dict[str, Any]) -> Tool | None:
    """Return what is told of a tool call: that it is made, and that it failed."""
    name = str(data.get("name", ""))
    match data.get("status"):
        case "called":
            return Tool(name=name, failed=False, told=str(data.get("arguments", "")))
        case "failed":
            return Tool(name=name, failed=True, told=str(data.get("output", "")))
        case _:
            return None

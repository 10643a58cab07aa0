"""One answer of an OpenAI-compatible server: its HTTP head and body in, deltas and an end out.

The hot path is `body`: what one read brings is split into frames, each frame is decoded once and
goes straight to the sink. Whatever does not look like the usual frame takes the slow way through
EventReader, with the same result.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from legato.core.run_errors import RunError, UpstreamBroken, UpstreamInvalid
from legato.providers.base import CallEnd, DeltaSink, EndReason, Pausable
from legato.providers.openai_chunks import (
    BROKEN_REASONS,
    NOT_TYPED,
    Chunk,
    ChunkUsage,
    Delta,
    decode_chunk,
    decode_tolerantly,
    decode_typed,
    end_reason,
    usage_of,
)
from legato.providers.openai_errors import (
    Complaint,
    complaint_in,
    complaint_of,
    quoted,
    redirect,
    refusal,
)
from legato.providers.sse import BOM, EventReader, SseEvent
from legato.providers.tool_deltas import ToolDeltas

# What waits for its end, a line or an answer that is not streamed, is never larger.
HELD_LIMIT_BYTES = 4 * 1024 * 1024
_REFUSAL_LIMIT_BYTES = 64 * 1024
_WAIT_HEADERS = frozenset(("retry-after", "retry-after-ms"))
_NO_HEADERS: Mapping[str, str] = {}
_STATUS_CODES = frozenset(map(str, range(400, 600)))


class Answer:
    """Receives one answer (see openai_transport.Receiver).

    Attributes:
        done: The answer is whole: `[DONE]` came, or enough of a refusal.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_clean",
        "_emitted",
        "_events",
        "_headers",
        "_host",
        "_line_mode",
        "_nearly",
        "_reason",
        "_secret",
        "_sink",
        "_status",
        "_taken",
        "_tools",
        "_url",
        "_usage",
        "done",
    )

    def __init__(
        self,
        sink: DeltaSink,
        *,
        host: str,
        url: str,
        secret: str | None,
        nearly: Callable[[], None],
    ) -> None:
        """Make ready for one answer.

        Args:
            sink: Where the deltas go.
            host: For messages.
            url: What was asked, for the advice on a redirect.
            secret: The API key, removed from what is quoted.
            nearly: Called once when all that is wanted for an end has come, and only the rest
                (usage, `[DONE]`, a refusal's words) is missing: from then on the wait is bounded.
        """
        self._sink = sink
        self._host = host
        self._url = url
        self._secret = secret
        self._nearly = nearly
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._body = b""  # what waits for its frame, or for its end, to come
        self._begun = False  # the body is known to be an event stream
        self._line_mode = False
        self._events: EventReader | None = None  # made for what is no usual frame
        self._taken = False  # a chunk has come
        self._emitted = False
        self._clean = False
        self._reason: EndReason | None = None
        self._usage: ChunkUsage | None = None
        self._tools: ToolDeltas | None = None  # made for the first call of a tool
        self.done = False

    def head(self, status: int, headers: Mapping[str, str], flow: Pausable) -> None:
        """Take the head; a redirect, a compressed body and an HTML page are refused here."""
        self._status, self._headers = status, headers
        if 300 <= status < 400:
            raise redirect(status, headers.get("location", ""), self._url)
        coding = headers.get("content-encoding", "identity").strip().lower()
        if not 200 <= status < 300:
            if coding != "identity":
                self.done = True
            self._nearly()
            return
        if coding != "identity":
            raise UpstreamInvalid(
                f"the answer of {self._host} is compressed ({quoted(coding, None)}), though it was asked not to be"
            )
        if headers.get("content-type", "").strip().lower().startswith("text/html"):
            raise self._page()
        if not _WAIT_HEADERS.intersection(headers):
            # Nothing of them is asked for again, and the stream may be open for long.
            self._headers = _NO_HEADERS
        self._sink.opened(flow)

    @property
    def is_between(self) -> bool:
        """Whether what comes next is the beginning of an event."""
        return self._begun and not self._body and not self._line_mode

    def texts(self, texts: list[str]) -> None:
        """Take plain text deltas, each of an event of its own."""
        self._taken = self._emitted = True
        for text in texts:
            self._sink.text(text)

    def body(self, data: bytes) -> None:
        """Take a piece of the body.

        Raises:
            RunError: The stream holds an error, or is no chat completion.
        """
        if not self._begun:
            self._begin(data)
            return
        if self._line_mode or b"\r" in data:
            self._lines(data)
            return
        if self._body:
            data = self._body + data
        frames = data.split(b"\n\n")
        self._body = rest = frames.pop()
        for frame in frames:
            if frame.startswith(b"data: {") and b"\n" not in frame:
                chunk: Chunk | None
                try:
                    chunk = decode_typed(frame[6:])
                except NOT_TYPED:
                    chunk = decode_tolerantly(frame[6:])
                    if chunk is None:
                        raise self._invalid("sent a chunk that is not JSON") from None
                self._take(chunk)
            else:
                self._take_events(self._reader().feed(frame + b"\n\n"))
                if self.done:
                    return
        if len(rest) > HELD_LIMIT_BYTES:
            raise self._too_long()

    def end(self, *, clean: bool) -> None:
        """Learn that nothing more comes; `result` says what that means."""
        self._clean = clean

    def result(self) -> CallEnd:
        """Return how the call ended; called once, when nothing more comes or is waited for.

        Raises:
            RunError: The server refused, or the reply is not whole.
        """
        if not 200 <= self._status < 300:
            raise self._refusal(self._status, self.complaint())
        self._nearly = _nothing  # there is no wait left to bound
        self._take_rest()
        if self._reason is None and not self.done:
            strays = self._events is not None and self._events.stray_lines
            if not self._taken and (strays or (self._clean and self._body)):
                raise self._invalid("is no chat completion")
            raise UpstreamBroken(f"{self._host} ended its stream before the reply was whole")
        usage = usage_of(self._usage) if self._usage is not None else None
        calls = self._tools.complete() if self._tools is not None else ()
        return CallEnd(reason=self._reason or "stop", usage=usage, tool_calls=calls)

    def complaint(self) -> Complaint:
        """Return what a refusal complains of; empty for any other answer."""
        if self._status < 400:
            return Complaint()
        return complaint_in(self._body, self._headers.get("content-type", ""))

    def _begin(self, data: bytes) -> None:
        """Find out by the first character what the body is; labels lie more often than bodies."""
        data = self._body + data
        if not 200 <= self._status < 300:
            self._body = data[:_REFUSAL_LIMIT_BYTES]
            self.done = len(data) > _REFUSAL_LIMIT_BYTES
            return
        self._body = data
        if len(data) > HELD_LIMIT_BYTES:
            raise self._too_long()
        if len(data) < len(BOM) and BOM.startswith(data):
            return  # no more than the beginning of a byte order mark
        start = data.removeprefix(BOM).lstrip()
        if start.startswith(b"<"):
            raise self._page()
        if start and not start.startswith((b"{", b"[")):
            self._begun, self._body = True, b""
            self.body(start)

    def _lines(self, data: bytes) -> None:
        """Take a piece of a stream in which a CR has been seen, line by line from here on."""
        if not self._line_mode:
            self._line_mode = True
            data, self._body = self._body + data, b""
        events = self._reader()
        self._take_events(events.feed(data))
        if events.held_bytes > HELD_LIMIT_BYTES:
            raise self._too_long()

    def _reader(self) -> EventReader:
        if self._events is None:
            self._events = EventReader()
        return self._events

    def _take_events(self, events: list[SseEvent], *, cut: bool = False) -> None:
        """Take events; with `cut` the last one may lack its end, and what is not whole is dropped.

        What is neither a chunk nor `[DONE]`, keep-alives among it, says nothing about the reply.
        """
        for event in events:
            if self.done:
                return
            data = event.data.strip()
            if data.startswith(b"{") and (chunk := decode_chunk(data)) is not None:
                if event.type.strip() == b"error" and not (chunk.error or chunk.choices):
                    raise self._stream_error(complaint_in(data, ""))
                self._take(chunk)
            else:
                self._take_lines(data.split(b"\n"), cut=cut)

    def _take_lines(self, lines: list[bytes], *, cut: bool) -> None:
        """Take data that is not one JSON text: chunks without a blank line between them."""
        for line in map(bytes.strip, lines):
            if line == b"[DONE]":
                self.done = True
                return
            if line.startswith(b"{"):
                chunk = decode_chunk(line)
                if chunk is not None:
                    self._take(chunk)
                elif not cut:
                    raise self._invalid("sent a chunk that is not JSON")

    def _take(self, chunk: Chunk) -> None:
        self._taken = True
        if chunk.error:
            raise self._stream_error(complaint_of(chunk.error))
        if chunk.usage is not None:
            self._usage = chunk.usage
        choices = chunk.choices
        if not choices:
            return
        choice = choices[0]
        delta = choice.delta
        if delta is None and not self._emitted:
            delta = choice.message
        if delta is not None:
            if thought := delta.reasoning_content or delta.reasoning:
                self._emitted = True
                self._sink.reasoning(thought)
            if text := delta.content or delta.refusal:
                self._emitted = True
                self._sink.text(text)
            if delta.tool_calls or delta.function_call:
                self._take_tools(delta)
        if choice.finish_reason:
            if choice.finish_reason in BROKEN_REASONS:
                raise UpstreamBroken(f"{self._host} gave up before the reply was whole")
            first, self._reason = self._reason is None, end_reason(choice.finish_reason)
            if first:
                self._nearly()

    def _take_tools(self, delta: Delta) -> None:
        if self._tools is None:
            self._tools = ToolDeltas(_new_call_id)
        if delta.tool_calls:
            self._tools.feed(delta.tool_calls)
        else:
            self._tools.feed_function(delta.function_call)
        if self._tools:
            self._emitted = True
            # Nothing of it is shown, and it may take long: the call is not idle.
            self._sink.text("")

    def _take_rest(self) -> None:
        """Take what the end of the message left over, if it is whole."""
        if self.done:
            return
        rest, self._body = self._body, b""
        if self._begun:
            events = self._reader()
            self._take_events(events.feed(rest))
            self._take_events(events.finish(), cut=True)
        elif (chunk := decode_chunk(rest.removeprefix(BOM))) and (chunk.choices or chunk.error):
            # A server that knows no streaming answers with one completion.
            self._take(chunk)
            self._reason = self._reason or "stop"
        else:
            self._body = rest

    def _stream_error(self, complaint: Complaint) -> RunError:
        if not self._emitted:
            status = int(complaint.code) if complaint.code in _STATUS_CODES else 0
            if complaint.context_exceeded:
                status = 400
            if status:
                return self._refusal(status, complaint)
        words = quoted(complaint.message, self._secret)
        return UpstreamBroken(f"{self._host} reported an error" + (f": {words}" if words else ""))

    def _refusal(self, status: int, complaint: Complaint) -> RunError:
        return refusal(status, self._headers, complaint, host=self._host, secret=self._secret)

    def _invalid(self, what: str) -> RunError:
        kind = UpstreamBroken if self._emitted else UpstreamInvalid
        return kind(f"the answer of {self._host} {what}")

    def _too_long(self) -> RunError:
        return self._invalid(f"holds a line of more than {HELD_LIMIT_BYTES} bytes")

    def _page(self) -> UpstreamInvalid:
        return UpstreamInvalid(f"the answer of {self._host} is an HTML page, not a chat completion: check base_url")


def _new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _nothing() -> None:
    pass

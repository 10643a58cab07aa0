"""The native protocol: a run's log as `chunk`, `tool`, `complete`, `error` and a few further events over SSE.

Pure: the same events at the same place give the same bytes. Clients in the field parse this stream naively (they split
on blank lines, test for `event: chunk`, and take what stands between the first `data: ` and the next), so the order of
the lines, LF, one line of data and the absence of a literal `data: ` inside the JSON are part of the contract.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from legato.core.compiled import chunk_frames
from legato.core.event import (
    ApprovalAsked,
    ApprovalGiven,
    CallStarted,
    Event,
    LogItem,
    ReasoningDelta,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    ToolCalled,
    ToolEvent,
    ToolResulted,
    ToolStarted,
    UsageReported,
)
from legato.core.log import RunLog
from legato.core.money import cost_json
from legato.core.reply import Reply, fold_reply
from legato.core.text import utf16_length
from legato.core.usage import usage_json

OPENING = b": ok\n\n"
"""A comment that is sent at once: it carries the headers through proxies."""

_encode = msgspec.json.Encoder().encode

_LINE_ENDS = tuple((chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029))
"""What Python's `str.splitlines` splits on, and JSON leaves as it is."""


def encode_json(value: Any) -> bytes:
    """Return `value` as JSON on one line that never holds `data: ` literally."""
    return _on_one_line(_encode(value))


def _on_one_line(data: bytes) -> bytes:
    """Return JSON without what a client may take for a field or, beside LF, for the end of a line."""
    if b"data: " in data:
        data = data.replace(b"data: ", b"data:\\u0020")
    if not data.isascii():
        for mark, escaped in _LINE_ENDS:
            if mark in data:
                data = data.replace(mark, escaped)
    return data


def error_event(code: str, message: str, retryable: bool, conversation_id: str | None, **more: Any) -> bytes:
    """Return the `error` event of a failure before a stream has a log: it has no id."""
    data = {"error": message, "conversationId": conversation_id, "code": code, "retryable": retryable, "partial": False}
    return b"event: error\ndata: %b\n\n" % encode_json(data | more)


class NativeRenderer:
    """Renders one run's events. `log` is read for what stands before them."""

    __slots__ = ("_chunk_end", "_conversation_id", "_epoch", "_head", "_log", "_run_id")

    def __init__(self, run_id: str, log: RunLog) -> None:
        self._run_id = run_id
        self._log = log
        self._conversation_id = ""
        self._chunk_end = b""
        self._epoch = -1
        # A chunk's frame up to its seq.
        self._head = b""

    def render(self, first: int, items: Sequence[LogItem]) -> bytes:
        """Return the frames of `items`, which stand in the log from seq `first` on and are of one epoch."""
        log = self._log
        if not self._chunk_end:
            self._conversation_id = log.events[0].conversation_id if isinstance(log.events[0], RunStarted) else ""
            self._chunk_end = b',"conversationId":' + encode_json(self._conversation_id) + b"}\n\n"
        # All epochs but the last are read back only: what is being written is of the last one.
        epoch = log.epochs[-1] if first >= log.epoch_starts[-1] else log.epoch_at(first)
        if epoch != self._epoch:
            self._epoch = epoch
            self._head = b"event: chunk\nid: %b.%d." % (self._run_id.encode(), epoch)
        head = self._head
        end = self._chunk_end
        seqs = log.event_seqs
        index = first - len(seqs) if seqs[-1] < first else log.texts_before(first)
        if chunk_frames is not None and type(items) is list:
            quick = chunk_frames(head, first, index, end, items)
            if quick is not None:
                return quick
        frames: list[bytes] = []
        seq = first
        for item in items:
            if type(item) is str:
                index += 1
                content = _encode(item)
                if b"data: " in content or not content.isascii():
                    content = _on_one_line(content)
                frames.append(b'%b%d\ndata: {"content":%b,"index":%d%b' % (head, seq, content, index, end))
            elif frame := self._frame(item, head.removeprefix(b"event: chunk"), seq):  # type: ignore[arg-type]
                frames.append(frame)
            seq += 1
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _frame(self, event: Event, cursor: bytes, seq: int) -> bytes:
        match event:
            case RunStarted():
                if not event.ahead:
                    return b""
                name, data = b"queued", {"conversationId": self._conversation_id, "ahead": event.ahead}
            case CallStarted() | UsageReported():
                return b""
            case ReasoningDelta():
                name, data = b"reasoning", {"content": event.text, "conversationId": self._conversation_id}
            case ToolCalled() | ToolStarted() | ToolResulted() | ApprovalAsked() | ApprovalGiven():
                name, data = self._tool(event, seq)
            case RunFinished() | RunStopped():
                name, data = b"complete", self._complete(event)
            case RunFailed():
                name, data = b"error", self._error(event)
            case _:
                assert_never(event)
        return b"event: %b%b%d\ndata: %b\n\n" % (name, cursor, seq, encode_json(data))

    def _tool(self, event: ToolEvent, seq: int) -> tuple[bytes, dict[str, Any]]:
        called = event if isinstance(event, ToolCalled) else self._called(event.call_id, seq)
        data: dict[str, Any] = {"callId": event.call_id, "name": called.name if called else ""}
        arguments = {"arguments": called.arguments if called else ""}
        name = b"tool"
        match event:
            case ToolCalled():
                data |= {"status": "called"} | arguments
            case ToolStarted():
                data["status"] = "running"
            case ToolResulted():
                data["status"] = "failed" if event.is_error else "done"
                data |= {"output": event.output, "elapsedMs": round(event.elapsed_s * 1000)}
            case ApprovalAsked():
                name, data = b"approval", data | arguments | {"status": "asked", "until": event.until_ms}
            case ApprovalGiven():
                granted = "granted" if event.granted else "denied"
                name, data = b"approval", data | arguments | {"status": granted, "by": event.by, "reason": event.reason}
            case _:
                assert_never(event)
        return name, data | {"conversationId": self._conversation_id}

    def _called(self, call_id: str, seq: int) -> ToolCalled | None:
        """Return the call that the event at `seq` is about; it stands before it, and not far."""
        events = self._log.events
        for index in range(bisect_left(self._log.event_seqs, seq) - 1, -1, -1):
            event = events[index]
            if type(event) is ToolCalled and event.call_id == call_id:
                return event
        return None

    def _complete(self, event: RunFinished | RunStopped) -> dict[str, Any]:
        reply = fold_reply(self._log)
        data = self._shared(reply)
        data["finishReason"] = reply.finish_reason
        if isinstance(event, RunStopped):
            data["stoppedBy"] = event.by
        data["responseTimeMs"] = event.response_time_ms
        data["failover"] = (
            {"from": reply.failover.from_model, "to": reply.failover.to_model} if reply.failover else None
        )
        return {
            "conversationId": self._conversation_id,
            "messageCount": event.message_count,
            "responseLength": utf16_length(reply.text),
        } | data

    def _error(self, event: RunFailed) -> dict[str, Any]:
        reply = fold_reply(self._log)
        return {
            "error": event.message,
            "conversationId": self._conversation_id,
            "code": event.code,
            "retryable": event.retryable,
            "partial": bool(reply.text),
            "messageCount": event.message_count,
            "responseLength": utf16_length(reply.text),
            "responseTimeMs": event.response_time_ms,
        } | self._shared(reply)

    def _shared(self, reply: Reply) -> dict[str, Any]:
        started = reply.started
        return {
            "messageId": started.message_id if started else None,
            "runId": self._run_id,
            "model": reply.model,
            "usage": usage_json(reply.usage),
            "cost": cost_json(reply.cost),
        }

"""A server-sent event of the native protocol, read into one of the typed events.

Pure. A field that is absent or of another type gets the value that claims least; an event of an unknown name is passed
on as Unknown. The cases of protocol/native.json hold for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from legato.client.errors import BadStream
from legato.client.events import (
    ApprovalEvent,
    Chunk,
    CitationEvent,
    Complete,
    Cost,
    Failover,
    Failure,
    Queued,
    Reasoning,
    ToolEvent,
    Unknown,
    Usage,
    WireEvent,
)
from legato.client.sse import SseEvent

_KNOWN: Final = frozenset({"chunk", "complete", "error", "queued", "reasoning", "tool", "approval", "citation"})
_CURSOR: Final = re.compile(r"(.+)\.([0-9]{1,15})\.([0-9]{1,15})", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in a run's log, as an event's `id` says it."""

    run_id: str
    epoch: int
    seq: int


def parse_cursor(text: str | None) -> Cursor | None:
    """Return the parts of a cursor; None if it is none."""
    found = _CURSOR.fullmatch(text) if text else None
    return Cursor(run_id=found[1], epoch=int(found[2]), seq=int(found[3])) if found else None


def read_event(event: SseEvent) -> WireEvent:
    """Return what a server-sent event says.

    Raises:
        BadStream: Its data is no JSON object, though its name is one of the protocol's.
    """
    data = _object_of(event)
    shared: dict[str, Any] = {"cursor": event.id or None, "conversation_id": _text_or_none(data.get("conversationId"))}
    match event.name, data.get("status"):
        case "chunk", _:
            return Chunk(content=_text(data.get("content")), index=_count(data.get("index")) or 0, **shared)
        case "reasoning", _:
            return Reasoning(content=_text(data.get("content")), **shared)
        case "queued", _:
            ahead = _count(data.get("ahead"))
            return Queued(ahead=1 if ahead is None else ahead, **shared)
        # A status that comes later in the protocol's life is an unknown event, and is passed over.
        case "tool", ("called" | "running" | "done" | "failed") as status:
            return ToolEvent(
                call_id=_text(data.get("callId")),
                name=_text(data.get("name")),
                status=status,
                arguments=_text_or_none(data.get("arguments")),
                output=_text_or_none(data.get("output")),
                elapsed_ms=_count(data.get("elapsedMs")),
                **shared,
            )
        case "approval", ("asked" | "granted" | "denied") as status:
            return ApprovalEvent(
                call_id=_text(data.get("callId")),
                name=_text(data.get("name")),
                arguments=_text(data.get("arguments")),
                status=status,
                until_ms=_count(data.get("until")),
                by=_text_or_none(data.get("by")) if status != "asked" else None,
                reason=_text_or_none(data.get("reason")) if status != "asked" else None,
                **shared,
            )
        case "citation", _:
            return CitationEvent(
                document_id=_text(data.get("documentId")),
                title=_text(data.get("title")),
                locator=_text_or_none(data.get("locator")),
                quote=_text_or_none(data.get("quote")),
                **shared,
            )
        case "complete", _:
            return Complete(
                finish_reason=_text(data.get("finishReason")) or "stop",
                stopped_by=_text_or_none(data.get("stoppedBy")),
                failover=_failover(data.get("failover")),
                **_end(data),
                **shared,
            )
        case "error", _:
            return Failure(
                error=_text(data.get("error")) or "the reply failed",
                code=_text(data.get("code")) or "internal",
                retryable=data.get("retryable") is True,
                partial=data.get("partial") is True,
                **_end(data),
                **shared,
            )
    return Unknown(name=event.name, data=data, **shared)


def _object_of(event: SseEvent) -> Mapping[str, Any]:
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        return data
    if event.name in _KNOWN:
        raise BadStream(f"the data of an event {event.name!r} is no JSON object")
    return {}


def _end(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "message_id": _text_or_none(data.get("messageId")),
        "run_id": _text_or_none(data.get("runId")),
        "model": _text_or_none(data.get("model")),
        "usage": _usage(data.get("usage")),
        "cost": _cost(data.get("cost")),
        "message_count": _count(data.get("messageCount")),
        "response_length": _count(data.get("responseLength")),
        "response_time_ms": _count(data.get("responseTimeMs")),
    }


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    return Usage(
        input_tokens=_count(value.get("inputTokens")),
        output_tokens=_count(value.get("outputTokens")),
        cache_read_tokens=_count(value.get("cacheReadTokens")),
        reasoning_tokens=_count(value.get("reasoningTokens")),
        counted=value.get("counted") is True,
    )


def _cost(value: Any) -> Cost | None:
    if not isinstance(value, dict) or not isinstance(usd := value.get("usd"), str):
        return None
    return Cost(usd=usd)


def _failover(value: Any) -> Failover | None:
    if not isinstance(value, dict):
        return None
    first, other = value.get("from"), value.get("to")
    return Failover(from_model=first, to_model=other) if isinstance(first, str) and isinstance(other, str) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    """Return a whole number; JSON may write one as 2.0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 and abs(value) < 2**53 else None

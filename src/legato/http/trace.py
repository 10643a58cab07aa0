"""The trace of a request: what it causes, however much later, carries the same id."""

from __future__ import annotations

import re
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers

from legato.core.ids import new_trace_id

TRACE_HEADER: Final = "X-Trace-Id"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def trace_id_of(request: Request, now_ms: int) -> str:
    """Return the trace that a request belongs to: that of its `traceparent` header, else a new one.

    Source:
        https://www.w3.org/TR/trace-context/
    """
    state = request.scope["state"]
    known: str | None = state.get("trace_id")
    if known is None:
        given = request.headers.get("traceparent")
        found = _TRACEPARENT.fullmatch(given) if given else None
        known = found[1] if found and found[1].strip("0") else new_trace_id(now_ms)
        state["trace_id"] = known
    return known


def parent_of(headers: Headers) -> int | None:
    """Return the id of the span that a request belongs to by its `traceparent` header, if it has a good one."""
    given = headers.get("traceparent")
    found = _TRACEPARENT.fullmatch(given) if given else None
    return int(found[2], 16) or None if found and found[1].strip("0") else None

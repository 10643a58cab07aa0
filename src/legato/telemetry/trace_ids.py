"""Ids of traces and spans that any process makes alike, of what they are about.

Pure. A run that is taken up by another process, and a job that comes of it, belong to the same spans as before; nothing
has to be stored for that.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_TRACE: Final = re.compile(r"[0-9a-f]{32}")


def trace_id_from(text: str) -> str:
    """Return `text` if it is a trace id, else one that is made of it: 32 hex digits, not all of them 0."""
    if _TRACE.fullmatch(text) and text.strip("0"):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def span_id_of(run_id: str) -> int:
    """Return the id of a run's span, above 0."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big") or 1


def run_of_event(event_id: str) -> str | None:
    """Return the run that an event tells the end of, or None: runs.events names it `<run>.<what>`."""
    run_id, dot, _ = event_id.partition(".")
    return run_id if dot and run_id.startswith("r-") else None

"""The parts of a reply in their order: what the model said without a break (a stretch), then the tool calls that it
asked for, then their results in the order of the calls; then the next stretch.

Pure. The same order as the server's own (core/stretch.py), which protocol/native.json holds both to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from legato.client.message import Part, TextPart, ToolCallPart, ToolResultPart

Parts = tuple[Part, ...]


def with_text(parts: Parts, kind: Literal["text", "reasoning"], text: str) -> Parts:
    """Return `parts` with more text or reasoning; in a stretch the reasoning stands before the text."""
    if not text:
        return parts
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        # Calls end a stretch.
        if not isinstance(part, TextPart):
            break
        if part.type == kind:
            return (*parts[:at], TextPart(type=kind, text=part.text + text), *parts[at + 1 :])
    said = TextPart(type=kind, text=text)
    if kind == "reasoning" and parts and isinstance(parts[-1], TextPart):
        return (*parts[:-1], said, parts[-1])
    return (*parts, said)


def with_approval(parts: Parts, call_id: str, approval: Literal["asked", "granted", "denied"]) -> Parts:
    """Return `parts` with where a call's approval stands."""
    return tuple(
        replace(part, approval=approval) if isinstance(part, ToolCallPart) and part.call_id == call_id else part
        for part in parts
    )


def with_result(parts: Parts, result: ToolResultPart) -> Parts:
    """Return `parts` with a call's result, behind those of earlier calls and before those of later ones.

    An unknown call has none.
    """
    places = {part.call_id: at for at, part in enumerate(parts) if isinstance(part, ToolCallPart)}
    if result.call_id not in places:
        return parts
    order = list(places)
    before = set(order[: order.index(result.call_id)])
    at = places[result.call_id] + 1
    while at < len(parts) and _goes_before(parts[at], before):
        at += 1
    return (*parts[:at], result, *parts[at:])


def _goes_before(part: Part, earlier: set[str]) -> bool:
    return isinstance(part, ToolCallPart) or (isinstance(part, ToolResultPart) and part.call_id in earlier)

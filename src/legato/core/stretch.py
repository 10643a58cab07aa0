"""A reply in stretches: what the model said without a break, and the tool calls that it then asked for.

Pure. Every stretch but the last has calls; a reply without tools is one stretch. What a person sees of a message (its
parts), what the model is told again, and what is still to be done after a crash are all read off it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

from legato.core.event import ApprovalAsked, ApprovalGiven, ToolCalled, ToolEvent, ToolResulted, ToolStarted


@dataclass(slots=True, kw_only=True)
class LoggedCall:
    """A tool call as far as its run's log goes.

    Attributes:
        started: It began to run, in this process or in an earlier one.
    """

    id: str
    name: str
    arguments: str
    asked: ApprovalAsked | None = None
    given: ApprovalGiven | None = None
    started: bool = False
    result: ToolResulted | None = None

    @property
    def approval(self) -> str | None:
        """Where its approval stands: `asked`, `granted` or `denied`; None where nobody was asked."""
        if self.given is not None:
            return "granted" if self.given.granted else "denied"
        return "asked" if self.asked is not None else None


@dataclass(slots=True, kw_only=True)
class Stretch:
    """What came between two rounds of tool calls; `calls` in the order in which the model named them."""

    reasoning: list[str] = field(default_factory=list)
    text: str = ""
    calls: list[LoggedCall] = field(default_factory=list)

    def take(self, event: ToolEvent, known: dict[str, LoggedCall]) -> None:
        """Take what happened to one of the calls; `known` are those of the whole run by id."""
        if isinstance(event, ToolCalled):
            call = LoggedCall(id=event.call_id, name=event.name, arguments=event.arguments)
            self.calls.append(call)
            known[call.id] = call
            return
        found = known.get(event.call_id)
        if found is None:
            return
        match event:
            case ApprovalAsked():
                found.asked = event
            case ApprovalGiven():
                found.given = event
            case ToolStarted():
                found.started = True
            case ToolResulted():
                found.result = event
            case _:
                assert_never(event)


def parts_of(stretches: list[Stretch]) -> list[dict[str, Any]]:
    """Return the parts of a message, in their order, as they are stored and shown (JSON)."""
    parts: list[dict[str, Any]] = []
    for stretch in stretches:
        if stretch.reasoning:
            parts.append({"type": "reasoning", "text": "".join(stretch.reasoning)})
        if stretch.text:
            parts.append({"type": "text", "text": stretch.text})
        for call in stretch.calls:
            part = {"type": "tool-call", "callId": call.id, "name": call.name, "arguments": call.arguments}
            parts.append(part if call.approval is None else part | {"approval": call.approval})
        parts += [_result(call, call.result) for call in stretch.calls if call.result is not None]
    return parts


def _result(call: LoggedCall, result: ToolResulted) -> dict[str, Any]:
    return {
        "type": "tool-result",
        "callId": call.id,
        "name": call.name,
        "output": result.output,
        "isError": result.is_error,
        "elapsedMs": round(result.elapsed_s * 1000),
    }

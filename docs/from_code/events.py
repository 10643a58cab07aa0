"""The events: core.event's vocabulary, and the bytes that the native protocol makes of each."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from typing import Any, get_type_hints

from docs.from_code.markdown import DASH, code, docstring, fence, table
from legato.core import event
from legato.core.event import (
    EVENT_TYPES,
    SCHEMA_VERSION,
    TERMINAL,
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
    ToolResulted,
    ToolStarted,
    UsageReported,
)
from legato.core.log import RunLog
from legato.wire.native import NativeRenderer

INTRODUCTION = """\
# Events of a run

A run is an append-only log of these events, numbered from `seq` 0 without a gap. The first is `run-started`, the
last is exactly one of {terminals}; nothing follows it.
The vocabulary has version {version}, which is stored with every row. In the code a text delta is a bare string,
everything else one of the classes below.

The examples are what the [native protocol](../protocol.md) sends for the event at that place of one log. What it does
not render still takes a `seq`, so the numbers in the cursors of a stream have gaps.

"""
TEXT = """\
## text-delta

Text that the model said: one delta, as the model's server cut it, and never empty.

"""
_STARTED = RunStarted(
    conversation_id="c-1", session_id="s-1", user_message_id="m-1", message_id="m-2", at_ms=1795345200000, ahead=1
)
_SAMPLES: dict[type[Event] | None, tuple[list[LogItem], LogItem]] = {}


def _sample(before: list[LogItem], item: LogItem) -> None:
    _SAMPLES[None if isinstance(item, str) else type(item)] = (before, item)


_call = CallStarted(epoch=0, provider="openai", model="gpt-5-mini", reason="first")
_usage = UsageReported(input_tokens=12, output_tokens=2)
_sample([], _STARTED)
_sample([_STARTED], _call)
_sample([_STARTED, _call], ReasoningDelta(text="A greeting."))
_sample([_STARTED, _call], "Hel")
_sample([_STARTED, _call, "Hel", "lo!"], _usage)
_called = ToolCalled(call_id="call_1", name="delete_file", arguments='{"path": "notes.txt"}')
_asked = ApprovalAsked(call_id="call_1", until_ms=1795345800000)
_given = ApprovalGiven(call_id="call_1", granted=True, by="local")
_started_tool = ToolStarted(call_id="call_1")
_sample([_STARTED, _call], _called)
_sample([_STARTED, _call, _called], _asked)
_sample([_STARTED, _call, _called, _asked], _given)
_sample([_STARTED, _call, _called, _asked, _given], _started_tool)
_sample(
    [_STARTED, _call, _called, _asked, _given, _started_tool],
    ToolResulted(call_id="call_1", output="deleted", is_error=False, elapsed_s=0.012),
)
_sample(
    [_STARTED, _call, "Hel", "lo!", _usage],
    RunFinished(reason="stop", message_count=2, response_time_ms=480),
)
_sample(
    [_STARTED, _call, "Hel"],
    RunFailed(
        code="upstream_broken",
        message="the model's stream was cut",
        retryable=True,
        message_count=2,
        response_time_ms=9200,
    ),
)
_sample([_STARTED, _call, "Hel"], RunStopped(by="user", message_count=2, response_time_ms=210))


def render() -> str:
    """Return the page."""
    terminals = ", ".join(code(each.type) for each in TERMINAL)
    head = INTRODUCTION.format(terminals=terminals, version=SCHEMA_VERSION)
    parts = [TEXT + _native(*_SAMPLES[None])]
    parts += [_section(name, kind) for name, kind in EVENT_TYPES.items()]
    return head + "\n".join(parts)


def _section(name: str, kind: type[Event]) -> str:
    words = _words_of_fields(kind)
    types = get_type_hints(kind)
    rows = [
        (
            code(field.name),
            code(_type_name(types[field.name])),
            "required" if field.default is dataclasses.MISSING else code(field.default),
            words.get(field.name, DASH),
        )
        for field in dataclasses.fields(kind)
    ]
    return (
        f"## {name}\n\n{docstring(kind)}\n\n"
        + table(("field", "type", "default", "meaning"), rows)
        + "\n"
        + _native(*_SAMPLES[kind])
    )


def _native(before: list[LogItem], item: LogItem) -> str:
    log = RunLog()
    log.extend([*before, item], 0)
    frames = NativeRenderer("r-1", log).render(len(before), [item])
    if not frames:
        return "Native: not rendered.\n"
    return "Native:\n\n" + fence(frames.decode())


def _type_name(annotation: Any) -> str:
    """Return an annotation as it is written in the code, short and without module names."""
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _words_of_fields(kind: type[Event]) -> dict[str, str]:
    """Return the strings that stand below fields in the class; Python itself throws them away."""
    tree = ast.parse(inspect.getsource(event))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    found: dict[str, str] = {}
    for above, node in itertools.pairwise(body):
        if (
            isinstance(above, ast.AnnAssign)
            and isinstance(above.target, ast.Name)
            and isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
        ):
            found[above.target.id] = str(node.value.value)
    return found

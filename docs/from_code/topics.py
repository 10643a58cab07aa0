"""The topics that the server tells, with the fields of their payloads."""

from __future__ import annotations

from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from docs.from_code.markdown import DASH, code, docstring, fence, table
from docs.from_code.python_api import described
from legato.steps.payloads import (
    BudgetExhausted,
    BudgetWarning,
    ChatFeedbackGiven,
    ChatMessageCompleted,
    ChatMessageFailed,
    ChatMessageStopped,
    Payload,
    TokenUsage,
)

TOPICS: Final[dict[str, type[Payload]]] = {
    "chat.message.completed": ChatMessageCompleted,
    "chat.message.failed": ChatMessageFailed,
    "chat.message.stopped": ChatMessageStopped,
    "chat.feedback.given": ChatFeedbackGiven,
    "budget.warning": BudgetWarning,
    "budget.spent": BudgetExhausted,
}
INTRODUCTION = """\
# Topics

What the server tells queue steps. An event is written in the transaction that causes it, delivered at least once, and
carries the trace id of the request at its beginning. A step that names the class as its input gets it checked and
typed; JSON has camelCase, Python snake_case. Later versions may add fields.

Topics of your own are whatever a step declares with `enqueues=[…]`; no step may enqueue one of these.

"""
SAMPLES: Final[dict[str, dict[str, Any]]] = {
    "chat.message.completed": {
        "id": "r-01a202f90046.completed",
        "conversation_id": "c-1",
        "session_id": "s-1",
        "run_id": "r-01a202f90046",
        "message_id": "m-2",
        "user_message_id": "m-1",
        "message_length": 6,
        "response_length": 31,
        "chunk_count": 9,
        "timestamp": 1795345200480,
        "model": "gpt-5-mini",
        "usage": TokenUsage(input_tokens=12, output_tokens=9),
        "cost": None,
        "finish_reason": "stop",
        "response_time_ms": 480,
        "first_token_ms": 210,
    },
    "chat.feedback.given": {
        "id": "e-01a202f90047",
        "conversation_id": "c-1",
        "session_id": "s-1",
        "run_id": "r-01a202f90046",
        "message_id": "m-2",
        "thumb": "down",
        "reason": "This is the old price.",
        "timestamp": 1795345260000,
        "model": "gpt-5-mini",
    },
    "budget.warning": {
        "id": "8a2f0c9d13e57b64a0f1c2d3.warning",
        "per": "principal",
        "subject": "ann",
        "period": "day",
        "since": 1795305600000,
        "until": 1795392000000,
        "limit_usd": "1.5",
        "spent_usd": "1.2041",
        "timestamp": 1795345320000,
    },
}


def render() -> str:
    """Return the page."""
    overview = [
        (f"[{code(topic)}](#{topic.replace('.', '')})", code(kind.__name__), _words(kind))
        for topic, kind in TOPICS.items()
    ]
    return (
        INTRODUCTION
        + table(("topic", "class", ""), overview)
        + "".join(_section(topic, kind) for topic, kind in TOPICS.items())
        + f"\n## Usage\n\n{docstring(TokenUsage)}\n\n"
        + _fields(TokenUsage)
    )


def _section(topic: str, kind: type[Payload]) -> str:
    text = f"\n## {topic}\n\n{code(kind.__name__)}: {_words(kind)}\n\n" + _fields(kind)
    if topic in SAMPLES:
        sample = kind(**SAMPLES[topic])
        text += "\n" + fence(sample.model_dump_json(by_alias=True, indent=2), "json")
    return text


def _words(kind: type[Payload]) -> str:
    _, _, words = docstring(kind).partition(": ")
    return words[:1].upper() + words[1:]


def _fields(kind: type[Payload]) -> str:
    words = described(kind)
    rows = [
        (code(field.alias), code(name), _type(field.annotation), words.get(name, DASH))
        for name, field in kind.model_fields.items()
    ]
    return table(("JSON", "Python", "type", "meaning"), rows)


def _type(annotation: Any) -> str:
    inner = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) is Literal:
        return ", ".join(code(f'"{each}"') for each in inner)
    if NoneType in get_args(annotation):
        return f"{' or '.join(map(_type, inner))} or null"
    if annotation is TokenUsage:
        return "[usage](#usage)"
    return {str: "string", int: "integer", bool: "boolean"}[annotation]

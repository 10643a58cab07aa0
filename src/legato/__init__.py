"""Legato: a streaming chat server whose replies reach their reader whole.

What a bot's file imports is here; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from legato.version import __version__

if TYPE_CHECKING:
    from legato.app import Legato
    from legato.core.errors import Conflict, Forbidden, NotFound, ToolError
    from legato.core.operations import append, decrement, increment, merge, remove
    from legato.core.operations import set as set_to
    from legato.policies.moderation.verdict import Allow, Block, Flag, Passage, Redact
    from legato.steps.context import Context
    from legato.steps.jobs import JobEvent as QueueEvent
    from legato.steps.payloads import (
        BudgetExhausted,
        BudgetWarning,
        ChatFeedbackGiven,
        ChatMessageCompleted,
        ChatMessageFailed,
        ChatMessageStopped,
    )
    from legato.steps.step_set import StepSet
    from legato.wire.step_events import Event


__all__ = [
    "Allow",
    "Block",
    "BudgetExhausted",
    "BudgetWarning",
    "ChatFeedbackGiven",
    "ChatMessageCompleted",
    "ChatMessageFailed",
    "ChatMessageStopped",
    "Conflict",
    "Context",
    "Event",
    "Flag",
    "Forbidden",
    "Legato",
    "NotFound",
    "Passage",
    "QueueEvent",
    "Redact",
    "StepSet",
    "ToolError",
    "__version__",
    "append",
    "decrement",
    "increment",
    "merge",
    "remove",
    "set_to",
]

_PLACES = {
    "Legato": ("legato.app", "Legato"),
    "Context": ("legato.steps.context", "Context"),
    "Event": ("legato.wire.step_events", "Event"),
    "QueueEvent": ("legato.steps.jobs", "JobEvent"),
    "StepSet": ("legato.steps.step_set", "StepSet"),
    "ToolError": ("legato.core.errors", "ToolError"),
    **{name: ("legato.core.errors", name) for name in ("Conflict", "Forbidden", "NotFound")},
    **{name: ("legato.policies.moderation.verdict", name) for name in ("Allow", "Block", "Flag", "Passage", "Redact")},
    "set_to": ("legato.core.operations", "set"),
    **{name: ("legato.core.operations", name) for name in ("append", "decrement", "increment", "merge", "remove")},
    **{name: ("legato.steps.payloads", name) for name in __all__ if name.startswith(("Chat", "Budget"))},
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'legato' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)

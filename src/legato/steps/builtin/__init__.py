"""The steps that come with Legato, written as a bot's own are."""

from __future__ import annotations

from legato.steps.builtin import analytics, cleanup, message_log
from legato.steps.step_set import StepSet


def built_in_steps() -> StepSet:
    """Return all of them."""
    steps = StepSet()
    for room in (analytics, message_log, cleanup):
        steps.include(room.steps)
    return steps

"""Runs queue and cron steps: what the queue hands out becomes a call of the step's function."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import structlog
from pydantic import ValidationError

from legato.core.errors import InvalidJob
from legato.core.principal import APP
from legato.runs.node import Node
from legato.steps.context import Context, principal_of
from legato.steps.cron_clock import tick_prefix
from legato.steps.jobs import CronTick, JobEvent
from legato.steps.registry import Registry
from legato.steps.slow_spots import Timed
from legato.steps.step import Step
from legato.steps.triggers import Condition, Occasion, QueueTrigger
from legato.telemetry.trace_ids import trace_id_from

log = structlog.get_logger(__name__)


class StepRunner:
    """Calls the functions of steps; its methods are the engine's handlers."""

    def __init__(self, node: Node, registry: Registry) -> None:
        self._node = node
        self._registry = registry

    async def handle(self, name: str, events: Sequence[JobEvent], attempt: int) -> None:
        """Run a queue step.

        Raises:
            InvalidJob: A payload does not fit the step's input.
        """
        step = self._registry.by_name[name]
        if step.batch > 1:
            await self._handle_batch(step, events, attempt)
            return
        for event in events:
            context = Context(
                self._node,
                step,
                trigger=Occasion(kind="queue", name=event.topic, at_ms=event.at_ms),
                principal=principal_of(event.owner),
                trace_id=event.trace_id or event.id,
                attempt=attempt,
                event_id=event.id,
                seed=f"{name}/{event.id}",
            )
            value = _checked(step, event)
            if await passes(_condition(step, event.topic), value, context):
                await self._call(step, value, context)

    async def _handle_batch(self, step: Step, events: Sequence[JobEvent], attempt: int) -> None:
        first = events[0]
        context = Context(
            self._node,
            step,
            trigger=Occasion(kind="queue", name=first.topic, at_ms=first.at_ms),
            principal=APP,
            # A batch comes of many requests: each event names its own.
            trace_id=first.trace_id or first.id,
            attempt=attempt,
            event_id=first.id,
            seed=f"{step.name}/{'/'.join(event.id for event in events)}",
        )
        values: list[Any] = []
        for event in events:
            value = _checked(step, event)
            if await passes(_condition(step, event.topic), value, context):
                values.append(value)
        if values:
            await self._call(step, values, context)

    async def tick(self, name: str, tick: CronTick, attempt: int) -> None:
        """Run a cron step."""
        step = self._registry.by_name[name]
        expression = ", ".join(trigger.expression for trigger in step.crons)
        context = Context(
            self._node,
            step,
            trigger=Occasion(kind="cron", name=expression, at_ms=tick.at_ms),
            principal=APP,
            trace_id=trace_id_from(tick.id),
            attempt=attempt,
            event_id=tick.id,
            seed=f"{name}/{tick.id}",
        )
        # Several triggers may have one tick; one of them that lets it pass is enough.
        due = [trigger for trigger in step.crons if trigger.times().upto(tick.at_ms) == tick.at_ms]
        due = due or [trigger for trigger in step.crons if tick.id.startswith(tick_prefix(name, trigger))]
        for trigger in due:
            if await passes(trigger.condition, None, context):
                await self._call(step, None, context)
                return

    async def _call(self, step: Step, value: Any, context: Context) -> None:
        assert step.function is not None
        arguments = step.input.arguments(value, context)
        if value is None and step.input.name is not None and not step.topics:
            del arguments[step.input.name]
        await Timed(step.name, step.function(**arguments))


async def passes(condition: Condition | None, value: Any, context: Context) -> bool:
    """Return whether a trigger's condition lets a step run."""
    return condition is None or await Timed(context.step, _answer(condition, value, context))


async def _answer(condition: Condition, value: Any, context: Context) -> bool:
    answer = condition(value, context)
    return bool(await answer if inspect.isawaitable(answer) else answer)


def _checked(step: Step, event: JobEvent) -> Any:
    try:
        return step.input.of(event)
    except ValidationError:
        raise InvalidJob(step.input.fault(event) or "the payload does not fit") from None


def _condition(step: Step, topic: str) -> Condition | None:
    return next(
        (
            trigger.condition
            for trigger in step.triggers
            if isinstance(trigger, QueueTrigger) and trigger.topic == topic
        ),
        None,
    )

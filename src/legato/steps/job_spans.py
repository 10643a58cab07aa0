"""Handlers of jobs that tell the traces of each attempt. Used only where somebody collects traces."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from legato.steps.attempts import CronHandler, Handler
from legato.steps.jobs import CronTick, JobEvent
from legato.telemetry.trace_ids import trace_id_from

if TYPE_CHECKING:
    from legato.telemetry.traces import Traces


def with_spans(traces: Traces, handle: Handler, tick: CronHandler) -> tuple[Handler, CronHandler]:
    """Return both handlers with a span for each attempt."""

    async def traced(
        work: Awaitable[None], step: str, topic: str, event_id: str, trace_id: str | None, events: int, attempt: int
    ) -> None:
        began_ns = time.time_ns()
        fault: str | None = None
        try:
            await work
        except BaseException as error:
            fault = type(error).__name__
            raise
        finally:
            traces.job(
                step=step,
                topic=topic,
                event_id=event_id,
                trace_id=trace_id,
                events=events,
                attempt=attempt,
                fault=fault,
                began_ns=began_ns,
            )

    async def handle_traced(step: str, events: list[JobEvent], attempt: int) -> None:
        first = events[0]
        await traced(handle(step, events, attempt), step, first.topic, first.id, first.trace_id, len(events), attempt)

    async def tick_traced(step: str, cron_tick: CronTick, attempt: int) -> None:
        trace_id = trace_id_from(cron_tick.id)
        await traced(tick(step, cron_tick, attempt), step, "cron", cron_tick.id, trace_id, 1, attempt)

    return handle_traced, tick_traced

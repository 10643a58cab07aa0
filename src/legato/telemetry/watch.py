"""Looks at a node a few times a second: how late the event loop is, and how far apart tokens come.

A token costs nothing here. Some replies are looked at twice, LOOK_S apart; what has come between is one measurement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

import structlog

from legato.core.event import CallStarted
from legato.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.5
MOST_RUNS: Final = 32
"""Replies that are looked at together: what a look costs does not grow with the server."""


class Watched(Protocol):
    """A live run, as far as it is looked at. `call` is another object at each call of a model, None between two."""

    @property
    def id(self) -> str: ...
    @property
    def call(self) -> object | None: ...
    @property
    def tail(self) -> Any: ...


class _Mark:
    """What was seen of a run: the call, how long the log was, and when it had last grown."""

    __slots__ = ("at_s", "call", "count", "model")

    def __init__(self, call: object, model: str | None, count: int, at_s: float) -> None:
        self.call = call
        self.model = model
        self.count = count
        self.at_s = at_s


class GapWatch:
    """Measures the time between two tokens of some runs."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._marks: dict[str, _Mark] = {}
        self._turn = 0

    def look(self, live: Mapping[str, Watched], now_s: float) -> None:
        """Measure what has grown since the last look, and choose what is looked at until the next.

        A run whose tokens pause is held until the next one comes, so that a pause is measured whole.
        """
        held: dict[str, _Mark] = {}
        for run_id, mark in self._marks.items():
            run = live.get(run_id)
            if run is None or run.call is not mark.call:
                continue
            count = len(run.tail.log.ends)
            if count > mark.count:
                self._metrics.gap(mark.model, (now_s - mark.at_s) / (count - mark.count))
                mark.count, mark.at_s = count, now_s
            held[run_id] = mark
        if len(live) > MOST_RUNS:
            # Others have their turn; those that pause stay.
            held = {run_id: mark for run_id, mark in held.items() if mark.at_s < now_s}
        runs = [*live.values()]
        first = self._turn % len(runs) if runs else 0
        self._turn = first + MOST_RUNS
        for run in (runs[first:] + runs[:first])[: MOST_RUNS - len(held)]:
            if run.call is not None and run.id not in held and _speaks(run):
                held[run.id] = _Mark(run.call, _model_of(run), len(run.tail.log.ends), now_s)
        self._marks = held


def _speaks(run: Watched) -> bool:
    """Whether the present call has brought something: before that the wait is not one between two tokens."""
    events, seqs = run.tail.log.events, run.tail.log.event_seqs
    return bool(events) and (not isinstance(events[-1], CallStarted) or len(run.tail.log.ends) > seqs[-1] + 1)


def _model_of(run: Watched) -> str | None:
    return next((event.model for event in reversed(run.tail.log.events) if isinstance(event, CallStarted)), None)


async def watch(metrics: Metrics, live: Mapping[str, Watched], *, every_s: float = LOOK_S) -> None:
    """Look at the event loop and at the live runs until cancelled."""
    loop = asyncio.get_running_loop()
    gaps = GapWatch(metrics)
    while True:
        due_s = loop.time() + every_s
        await asyncio.sleep(every_s)
        now_s = loop.time()
        metrics.lag(max(0.0, now_s - due_s))
        try:
            gaps.look(live, now_s)
        except Exception:
            # The boundary of each look: the next ones, and the loop's lag, are told all the same.
            log.exception("live replies could not be looked at")

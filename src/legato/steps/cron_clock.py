"""When cron steps are due: each tick once, over all processes and restarts.

A tick is a job whose id is made of step, trigger and time, so that whoever adds it first adds it for all. The last
tick of a trigger is the greatest such id: it is kept when older ones are deleted, and tells after a pause what was
missed. A trigger that is seen for the first time, or was changed, begins with a mark: a tick that is never run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from legato.core.clock import Clock
from legato.core.errors import LegatoError
from legato.steps.cron_times import CronTimes
from legato.steps.jobs import CronStep, CronTick, CronTrigger

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
"""Longest time between two looks at the clock, which may jump."""
LATE_MS: Final = 30_000
"""A tick that is later than this was missed."""


class TickStore(Protocol):
    """Where ticks are kept."""

    async def last_tick(self, step: str, prefix: str) -> str | None:
        """Return the greatest id of a tick of `step` that begins with `prefix`."""
        ...

    async def add_tick(self, step: str, tick: CronTick, *, mark: bool) -> bool:
        """Add a tick unless it is there, or one of its step still waits; a mark is never run. False if not added."""
        ...


@dataclass(slots=True)
class _Due:
    step: str
    trigger: CronTrigger
    times: CronTimes
    prefix: str
    last_ms: int
    next_ms: int


class CronClock:
    """Adds the ticks of cron steps as they come due."""

    def __init__(self, steps: Sequence[CronStep], store: TickStore, clock: Clock, *, look_s: float = LOOK_S) -> None:
        self._steps = steps
        self._store = store
        self._clock = clock
        self._look_s = look_s
        self._due: list[_Due] = []

    async def run(self) -> None:
        """Add ticks until cancelled, after `open`; what cannot be written is tried again at the next look."""
        while self._due:
            wait_s = self._look_s
            try:
                await self.look()
                next_ms = min(due.next_ms for due in self._due)
                wait_s = min(wait_s, max(0.001, (next_ms - self._clock.now_ms()) / 1000))
            except LegatoError as error:
                log.warning("cron steps cannot be looked after", error=error.code)
            except Exception:
                # The boundary of each look: whatever went wrong in one, all cron steps would stop for good without it.
                log.exception("cron steps could not be looked after")
            await asyncio.sleep(wait_s)

    async def open(self) -> None:
        """Find each trigger's last tick; a trigger without one begins now."""
        found = []
        for step in self._steps:
            for trigger in step.triggers:
                prefix = tick_prefix(step.name, trigger)
                last = await self._store.last_tick(step.name, prefix)
                if last is None:
                    last_ms = self._clock.now_ms() // 1000 * 1000
                    mark = CronTick(id=f"{prefix}{last_ms // 1000:012d}", at_ms=last_ms)
                    await self._store.add_tick(step.name, mark, mark=True)
                else:
                    # A stamp of the future is from a clock that was put back since.
                    last_ms = min(int(last.removeprefix(prefix)) * 1000, self._clock.now_ms())
                times = trigger.times()
                found.append(_Due(step.name, trigger, times, prefix, last_ms, times.after(last_ms)))
        self._due = found

    async def look(self) -> None:
        """Add what is due now: of several ticks of a trigger the last."""
        for due in self._due:
            now_ms = self._clock.now_ms()
            if now_ms < due.last_ms:
                # The clock was put back. A tick that comes by again has its old id, so it is not run again.
                due.last_ms, due.next_ms = now_ms, due.times.after(now_ms)
            if now_ms < due.next_ms:
                continue
            # A look back may stop short in a repeated hour, never before what is known to be due.
            at_ms = max(due.times.upto(now_ms), due.next_ms)
            missed = now_ms - at_ms > LATE_MS
            if not missed or due.trigger.missed == "once":
                tick = CronTick(id=f"{due.prefix}{at_ms // 1000:012d}", at_ms=at_ms)
                if not await self._store.add_tick(due.step, tick, mark=False):
                    log.warning("cron tick left out: the one before it still waits", step=due.step, at_ms=at_ms)
            else:
                log.info("cron tick missed", step=due.step, at_ms=at_ms)
            due.last_ms, due.next_ms = at_ms, due.times.after(at_ms)


def tick_prefix(step: str, trigger: CronTrigger) -> str:
    """Return what the ids of a trigger's ticks begin with."""
    shape = f"{trigger.expression} {trigger.timezone}".encode()
    return f"cron:{step}:{hashlib.blake2s(shape, digest_size=4).hexdigest()}:"

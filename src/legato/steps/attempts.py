"""One job from its first attempt to its end: slots, time limits, pauses, and when to give up.

Runs on the server's own event loop, where handlers can use its services. Knows nothing of the queue: what it needs of
it (to keep what was tried) is handed in.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NoReturn

import structlog

from legato.core.clock import Clock
from legato.core.errors import InvalidJob, JobTimeout, LegatoError
from legato.core.text import words_of
from legato.steps.jobs import (
    ERROR_MAX_CHARS,
    CronTick,
    DeadKind,
    JobDead,
    JobEvent,
    StepOptions,
    Tries,
    Work,
)

log = structlog.get_logger(__name__)

Handler = Callable[[str, list[JobEvent], int], Awaitable[None]]
"""(step, events, attempt from 1)."""
CronHandler = Callable[[str, CronTick, int], Awaitable[None]]
"""(step, tick, attempt from 1)."""
Save = Callable[[str, Tries], Awaitable[None]]
"""Keeps what was tried with a job."""

MOST_CUTS: Final = 8
"""So many deaths of the process under a job, and it is given up: it may be what kills it."""
CUT_PAUSE_S: Final = 1.0
MOST_CUT_PAUSE_S: Final = 60.0
"""Pause after the first such death, doubled with each further one, and the longest: others are done meanwhile."""
DEAF_S: Final = 10.0
"""A handler that goes on for so long after its time limit is named in the log."""


def note_cut(tries: Tries, now_ms: int) -> None:
    """Note that a process died under an attempt."""
    tries.begun = False
    tries.cuts += 1
    pause_s = min(MOST_CUT_PAUSE_S, CUT_PAUSE_S * 2.0 ** (tries.cuts - 1))
    tries.until_ms = max(tries.until_ms, now_ms + round(pause_s * 1000))


class JobRunner:
    """Runs the jobs that were taken from the queue.

    Args:
        steps: By kind and name.
        pausing: Told the job's work and 1 when a job begins to wait for its next attempt, and -1 at the end of that.
    """

    def __init__(
        self,
        steps: Mapping[tuple[DeadKind, str], StepOptions],
        handler: Handler,
        cron_handler: CronHandler | None,
        *,
        clock: Clock,
        save: Save,
        pausing: Callable[[Work, int], None],
    ) -> None:
        self._steps = steps
        self._handler = handler
        self._cron_handler = cron_handler
        self._clock = clock
        self._save = save
        self._pausing = pausing
        self._slots = {key: asyncio.Semaphore(step.concurrency) for key, step in steps.items()}
        # Jobs that were running when a process died run one at a time: only the one that kills it is under it then.
        self._suspects = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self.left: dict[str, Tries] = {}
        """What is known of jobs that an earlier process left."""

    async def run(self, job_id: str, work: Work) -> None:
        """Run one job to its end.

        Raises:
            JobDead: It is given up.
            CancelledError: This process closes; the job is as it was.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._closing:
                raise asyncio.CancelledError
            await self._run(job_id, work)
        finally:
            self._tasks.discard(task)

    async def close(self, within_s: float) -> None:
        """Cancel what runs, and wait for it, but not longer than `within_s` seconds."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def _run(self, job_id: str, work: Work) -> None:
        known = self.left.pop(job_id, None)
        tries = known or Tries()
        step = self._steps.get((work.kind, work.step))
        if work.fault is not None:
            self._give_up(job_id, work, tries, InvalidJob.__name__, work.fault)
        if step is None:
            text = f"there is no {work.kind} step {work.step!r} any more: add it again and redrive, or discard"
            self._give_up(job_id, work, tries, "UnknownStep", text)
        while True:
            if tries.cuts >= MOST_CUTS:
                text = f"the server ended {tries.cuts} times while this job ran: it may be the cause"
                self._give_up(job_id, work, tries, "Interrupted", text)
            await self._pause(work, tries)
            error = await self._attempt(job_id, step, work, tries, watched=known is not None)
            if error is None:
                return
            tries.failures += 1
            tries.begun = False
            name = type(error).__name__
            if isinstance(error, InvalidJob) or tries.failures >= step.attempts:
                self._give_up(job_id, work, tries, name, words_of(error))
            pause_s = step.pause_s(tries.failures, jitter=random.random())
            log.warning(
                "job attempt failed",
                job=job_id,
                step=work.step,
                trace_id=_trace(work),
                attempt=tries.count,
                error=name,
                again_s=pause_s,
            )
            tries.until_ms = self._clock.now_ms() + round(pause_s * 1000)
            await self._keep(job_id, tries)

    async def _keep(self, job_id: str, tries: Tries) -> None:
        try:
            await self._save(job_id, tries)
        except LegatoError as error:
            # The job goes on; should this process end now, the next one knows less of what was tried.
            log.warning("what was tried with a job cannot be kept", job=job_id, error=error.code)

    def _give_up(self, job_id: str, work: Work, tries: Tries, name: str, text: str) -> NoReturn:
        log.error("job given up", job=job_id, step=work.step, trace_id=_trace(work), attempts=tries.count, error=name)
        raise JobDead(
            name,
            text[:ERROR_MAX_CHARS],
            attempts=tries.count,
            first_ms=tries.first_ms,
            last_ms=self._clock.now_ms(),
            about=work.about,
        )

    async def _pause(self, work: Work, tries: Tries) -> None:
        wait_s = (tries.until_ms - self._clock.now_ms()) / 1000
        if wait_s <= 0:
            return
        self._pausing(work, 1)
        try:
            await asyncio.sleep(wait_s)
        finally:
            self._pausing(work, -1)

    async def _attempt(
        self, job_id: str, step: StepOptions, work: Work, tries: Tries, *, watched: bool
    ) -> Exception | None:
        """Make one attempt, when there is a slot; return what it ended with."""
        async with AsyncExitStack() as held:
            if tries.cuts:
                await held.enter_async_context(self._suspects)
            await held.enter_async_context(self._slots[work.kind, work.step])
            if tries.first_ms is None:
                tries.first_ms = self._clock.now_ms()
            if not watched:
                return await self._call(step, work, tries.count + 1)
            # It was taken when a process ended: from now on it is kept whether that happens under it.
            tries.begun = True
            await self._keep(job_id, tries)
            try:
                return await self._call(step, work, tries.count + 1)
            except asyncio.CancelledError:
                tries.begun = False
                await self._keep(job_id, tries)
                raise

    async def _call(self, step: StepOptions, work: Work, attempt: int) -> Exception | None:
        # An empty context: what the queue's machinery keeps in its own is not the handler's business.
        task = asyncio.get_running_loop().create_task(self._handle(work, attempt), context=contextvars.Context())
        late = False
        try:
            await asyncio.wait({task}, timeout=step.time_limit_s)
            if not task.done():
                late = True
                task.cancel()
                # Until it has really ended there is no next attempt: two at once would be worse than a lost slot.
                while not (await asyncio.wait({task}, timeout=DEAF_S))[0]:
                    log.warning("a handler goes on past its time limit", step=step.name, limit_s=step.time_limit_s)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            if task.cancelled() or task.exception() is not None:
                raise
        if late and (task.cancelled() or task.exception() is not None):
            return JobTimeout(f"the attempt took longer than {step.time_limit_s:g} s")
        if task.cancelled():
            return RuntimeError("the handler cancelled itself")
        error = task.exception()
        if error is None or isinstance(error, Exception):
            return error
        return RuntimeError(f"the handler raised {type(error).__name__}")

    def _handle(self, work: Work, attempt: int) -> Coroutine[Any, Any, None]:
        async def handle() -> None:
            if work.tick is None:
                await self._handler(work.step, list(work.events), attempt)
            else:
                assert self._cron_handler is not None
                await self._cron_handler(work.step, work.tick, attempt)

        return handle()


def _trace(work: Work) -> str | None:
    return work.events[0].trace_id if work.events else None

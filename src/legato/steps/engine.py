"""The queue and the clock that run steps: at least once, in order where asked, and never lost.

Built on DBOS, which keeps a job as a workflow in the queue's own file or in its own schema of a PostgreSQL database;
the files whose names begin with `engine` are the only ones that know it. A job's id is made of its step and its events,
so that what is handed over twice is one job. Handlers run on the event loop that called `start`; everything that waits
for the disk runs in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import structlog

from legato.core.clock import Clock, SystemClock
from legato.core.errors import ConfigurationError, LegatoError, StorageUnavailable
from legato.core.ids import new_id
from legato.steps.attempts import CronHandler, Handler, JobRunner
from legato.steps.cron_clock import CronClock
from legato.steps.job_groups import groups_of, job_id_of
from legato.steps.jobs import (
    CronStep,
    CronTick,
    DeadKind,
    DeadLetter,
    JobCounts,
    JobEvent,
    QueueStep,
    Tries,
    Work,
)
from legato.steps.queue_address import QueueAddress

if TYPE_CHECKING:
    from legato.steps.engine_runtime import Runtime
    from legato.steps.job_seal import JobSeal
    from legato.storage.erasures import Erased

log = structlog.get_logger(__name__)

T = TypeVar("T")
Step = QueueStep | CronStep
LiveExecutors = Callable[[], Awaitable[Collection[str]]]
"""Asks for the ids of the processes that are not known to be dead."""

POLL_S: Final = 5.0
"""How often a queue looks for jobs that nobody in this process told it of: redriven ones."""
KEEP_S: Final = 600.0
"""How long jobs that are done are remembered."""
CARE_S: Final = 30.0


class Engine:
    """The queue of one process.

    Args:
        address: Where the queue is. A file is made if absent; the caller has seen to it that no other server uses it.
        durability: Of a file. `power`: what `hand_over` has taken survives a power cut. `process`: it survives
            `kill -9`. In PostgreSQL it survives both.
        alone: No other process takes jobs from it: `start` takes up everything that was left unfinished, and jobs of
            steps that are not there become dead letters, elsewhere only once nobody has run one for a day. False:
            whoever runs several processes calls `take_up` for those that died.
        executor_id: This process among those that ever took jobs from the queue; by default a new one.
        live: Finds processes that died and were taken up by nobody, now and then; without it `take_up` is all.
        poll_s, keep_s: As POLL_S and KEEP_S.
        seal: Seals and opens what jobs say, where encryption is on.
    """

    def __init__(
        self,
        address: QueueAddress,
        *,
        durability: Literal["power", "process"] = "power",
        clock: Clock | None = None,
        alone: bool = True,
        executor_id: str | None = None,
        live: LiveExecutors | None = None,
        poll_s: float = POLL_S,
        keep_s: float = KEEP_S,
        seal: JobSeal | None = None,
    ) -> None:
        self._seal = seal
        self._address = address
        # What is handed over is forgotten in the outbox: a crash of PostgreSQL alone must not lose it.
        self._flush = durability == "power" or isinstance(address, str)
        self._clock = clock or SystemClock()
        self._alone = alone
        self._live = live
        self._poll_s = poll_s
        self._keep_s = keep_s
        self._steps: Sequence[Step] = ()
        self._opened: Runtime | None = None
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self.executor_id = executor_id or new_id("node", self._clock.now_ms())

    async def start(self, steps: Sequence[Step], handler: Handler, cron_handler: CronHandler | None = None) -> None:
        """Open the queue, take up what was left, and begin to run jobs.

        Args:
            handler: Called as `handler(step, events, attempt)` on this event loop; returning is success.
            cron_handler: Called as `cron_handler(step, tick, attempt)`.

        Raises:
            ConfigurationError: The queue cannot be used, or the steps contradict each other.
            StorageUnavailable: It cannot be reached or written at present.
        """
        by_key = _check(steps, cron_handler)
        self._steps = steps
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="legato-queue")
        self._runner = JobRunner(
            by_key, handler, cron_handler, clock=self._clock, save=self._save, pausing=self._pausing
        )
        cron = CronClock([step for step in steps if isinstance(step, CronStep)], self, self._clock)
        opening = asyncio.ensure_future(self._in_thread(self._open))
        try:
            self._opened = await asyncio.shield(opening)
            # Only now: a job that begins needs what was opened.
            await self._do(self._serve)
            await cron.open()
        except BaseException:
            # A thread cannot be cancelled: what it opens is closed when it has.
            await asyncio.wait({opening})
            if opening.exception() is None:
                self._opened = opening.result()
            await self.close(0.0)
            self._threads.shutdown(wait=False)
            raise
        self._tasks = [asyncio.create_task(self._look_after()), asyncio.create_task(cron.run())]

    def _open(self) -> Runtime:
        # Imported here, in a thread: it takes a tenth of a second and 20 MB.
        import sqlite3

        import sqlalchemy as sa

        from legato.steps.engine_database import unopened
        from legato.steps.engine_runtime import Runtime

        try:
            runtime = Runtime(
                self._address,
                flush=self._flush,
                alone=self._alone,
                executor_id=self.executor_id,
                run=self._run,
                left=self._runner.left,
                poll_s=self._poll_s,
                keep_s=self._keep_s,
                seal=self._seal,
            )
        except (sa.exc.DatabaseError, sqlite3.Error) as error:
            raise unopened(self._address, error) from error
        return runtime

    def _serve(self, runtime: Runtime) -> None:
        from legato.steps.engine_workers import AHEAD

        if self._alone:
            runtime.take_up(runtime.holders(), self._clock.now_ms())
        for step in self._steps:
            if isinstance(step, QueueStep):
                # What one process takes ahead others that are idle cannot have.
                ahead = AHEAD if self._alone else min(AHEAD, step.concurrency)
                runtime.serve(_queue(step), window=step.concurrency + ahead, ordered=step.key is not None)
            else:
                # Nothing ahead: a tick that was taken would not be seen to wait.
                runtime.serve(_queue(step), window=step.concurrency, most=None if self._alone else step.concurrency)

    async def _run(self, job_id: str, work: Work) -> None:
        """Run one job; called on DBOS's event loop, it has the server's do it."""
        future = asyncio.run_coroutine_threadsafe(self._runner.run(job_id, work), self._loop)
        await asyncio.wrap_future(future)

    async def hand_over(self, batch_id: str, events: Sequence[JobEvent]) -> int:
        """Take events: one transaction adds the jobs of all steps that are subscribed to their topics.

        When it has returned they are kept until they are done or dead letters. Handing the same events over again,
        whatever the batch is called, adds nothing as long as the jobs are remembered (`keep_s` after their end).

        Args:
            batch_id: Names the batch in the log where it cannot be taken.
            events: In the order in which they happened.

        Returns:
            Jobs that the events are, those included that were there already.

        Raises:
            StorageUnavailable: The file could not be written; nothing was taken.
            Exception: Any other: an event is of a form that cannot be kept, now or later; nothing was taken.
        """
        try:
            return await self._do(lambda runtime: self._add(runtime, events))
        except StorageUnavailable:
            log.warning("batch not taken", batch=batch_id, events=len(events))
            raise

    def _add(self, runtime: Runtime, events: Sequence[JobEvent]) -> int:
        from legato.steps.engine_database import write_input
        from legato.steps.engine_rows import QUEUE_JOB, NewJob

        jobs = [
            NewJob(
                id=job_id_of(step.name, group),
                workflow=QUEUE_JOB,
                queue=_queue(step),
                input=write_input(Work(kind="queue", step=step.name, events=tuple(group), fault=fault), self._seal),
                partition=key,
            )
            for step in self._steps
            if isinstance(step, QueueStep)
            for key, group, fault in groups_of(step, [event for event in events if event.topic in step.topics])
        ]
        if jobs:
            runtime.rows.add(jobs, self._clock.now_ms())
        for queue in {job.queue for job in jobs}:
            runtime.ring(queue)
        return len(jobs)

    async def erase(self, erased: Erased) -> bool:
        """Take out what the queue knows of somebody; return whether nothing is left, not even in a running job."""

        def erase(runtime: Runtime) -> bool:
            from legato.steps.engine_erase import QueueEraser

            client = runtime.letters.client
            return QueueEraser(client._sys_db, client, self._seal).erase(erased)

        return await self._do(erase)

    async def give_back(self) -> None:
        """Let go of what a rush has left in memory; called when there is little to do."""
        if self._opened is not None and not self._closing:
            await self._do(lambda runtime: runtime.give_back())

    async def close(self, within_s: float = 1.0) -> None:
        """Cancel what runs, wait for it at most `within_s` seconds, and leave what is unfinished to others."""
        runtime = self._opened
        if runtime is None or self._closing:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._in_thread(runtime.stop_taking)
        await self._runner.close(within_s)
        await self._in_thread(runtime.close, min(within_s, 0.5), not self._alone)
        self._opened = None
        self._threads.shutdown(wait=False)

    async def take_up(self, executor_ids: Collection[str]) -> None:
        """Put back what processes have taken that are known to be dead; for those who run several on one database."""

        def put_back(runtime: Runtime) -> None:
            runtime.take_up(executor_ids, self._clock.now_ms())
            for step in self._steps:
                runtime.ring(_queue(step))

        await self._do(put_back)

    async def dead_letters(self, step: str | None = None, *, limit: int = 50, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters in the order in which their jobs were handed over."""
        return await self._do(lambda runtime: runtime.letters.list(step, limit=limit, offset=offset))

    async def dead_letter(self, job_id: str) -> DeadLetter:
        """Return one; NotFound if there is none."""
        return await self._do(lambda runtime: runtime.letters.get(job_id))

    async def redrive(self, job_id: str) -> None:
        """Make it a job again, with all its attempts before it; NotFound if there is none."""
        await self._do(lambda runtime: runtime.ring(runtime.letters.redrive(job_id)))

    async def discard(self, job_id: str) -> None:
        """Delete it with its input; NotFound if there is none."""
        await self._do(lambda runtime: runtime.letters.discard(job_id))

    async def counts(self) -> dict[str, JobCounts]:
        """Return how many jobs each step has; steps without any are left out."""
        return await self._do(lambda runtime: runtime.letters.counts())

    async def oldest_ms(self) -> dict[str, int]:
        """Return when each step's oldest job that nobody has taken was added; steps without one are left out."""
        found = await self._do(lambda runtime: runtime.rows.oldest())
        return {queue.partition(":")[2]: at_ms for queue, at_ms in found.items()}

    @property
    def is_open(self) -> bool:
        """Whether jobs are taken and run."""
        return self._opened is not None and not self._closing

    async def last_tick(self, step: str, prefix: str) -> str | None:
        """As TickStore."""
        ticks = await self._do(lambda runtime: runtime.rows.ticks())
        return max((tick_id for tick_id, _, _ in ticks if tick_id.startswith(prefix)), default=None)

    async def add_tick(self, step: str, tick: CronTick, *, mark: bool) -> bool:
        """As TickStore."""
        from legato.steps.engine_database import write_input
        from legato.steps.engine_rows import CRON_JOB, NewJob

        queue = f"cron:{step}"
        job = NewJob(
            id=tick.id,
            workflow=CRON_JOB,
            queue=queue,
            input=write_input(Work(kind="cron", step=step, tick=tick)),
            done=mark,
        )

        def add(runtime: Runtime) -> bool:
            rows = runtime.rows
            if not mark and rows.is_waiting(queue, beside=tick.id):
                return False
            rows.add([job], self._clock.now_ms())
            runtime.ring(queue)
            return True

        return await self._do(add)

    @property
    def _runtime(self) -> Runtime:
        if self._opened is None or self._closing:
            raise StorageUnavailable("the queue is not open: it is being started or closed")
        return self._opened

    def _pausing(self, work: Work, change: int) -> None:
        if self._opened is not None:
            self._opened.pausing(f"{work.kind}:{work.step}", change)

    async def _save(self, job_id: str, tries: Tries) -> None:
        # While this process closes too: it is then that cut attempts are noted.
        if (runtime := self._opened) is not None:
            await self._write(lambda: runtime.save(job_id, tries))

    async def care(self) -> None:
        """Forget jobs that were done long ago, and take up what was stranded; done every CARE_S seconds anyway."""
        if self._live is not None:
            # In this order: who takes a job was known to live before.
            holders = await self._do(lambda runtime: runtime.holders())
            if holders and (dead := holders - set(await self._live())):
                await self.take_up(dead)
        await self._do(lambda runtime: runtime.look_after(self._clock.now_ms()))

    async def _look_after(self) -> None:
        while True:
            try:
                await self.care()
            except LegatoError as error:
                log.warning("the queue cannot be looked after", error=error.code)
            except Exception:
                log.exception("the queue could not be looked after")
            await asyncio.sleep(CARE_S)

    async def _do(self, work: Callable[[Runtime], T]) -> T:
        runtime = self._runtime
        return await self._write(lambda: work(runtime))

    async def _write(self, work: Callable[[], T]) -> T:
        import sqlalchemy as sa

        try:
            return await self._in_thread(work)
        except (sa.exc.DataError, sa.exc.IntegrityError):
            # Of what was to be written, not of the file: it would be the same at the next try.
            raise
        except sa.exc.SQLAlchemyError as error:
            raise StorageUnavailable("the queue cannot be read or written at present: try again") from error

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _kind(step: Step) -> DeadKind:
    return "queue" if isinstance(step, QueueStep) else "cron"


def _queue(step: Step) -> str:
    return f"{_kind(step)}:{step.name}"


def _check(steps: Sequence[Step], cron_handler: CronHandler | None) -> dict[tuple[DeadKind, str], Step]:
    by_key: dict[tuple[DeadKind, str], Step] = {}
    for step in steps:
        key = (_kind(step), step.name)
        if key in by_key:
            raise ConfigurationError(f"two {key[0]} steps are named {step.name!r}: rename one")
        by_key[key] = step
        if isinstance(step, CronStep) and cron_handler is None:
            raise ConfigurationError(f"cron step {step.name!r} has no handler: give cron_handler")
    return by_key

"""DBOS in this process: opened quietly, with a queue a step, and closed within a second.

DBOS keeps a job's state, hands it to one process, takes it up again after a crash, and never does so twice. What is
here fits it into a server: nothing of it runs on the server's event loop, it listens on no port, it talks to nobody,
it leaves the logging alone, and its queues are woken instead of asking ten times a second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
import structlog
from dbos import DBOS, _workflow_commands
from dbos._queue import Queue
from dbos._sys_db import SystemDatabase
from dbos._utils import GlobalParams

from legato.core.errors import ConfigurationError, SealBroken
from legato.steps.attempts import note_cut
from legato.steps.engine_database import APPLICATION, VERSION, JobSerializer, connect, disconnect, read_work
from legato.steps.engine_letters import Letters, queue_of
from legato.steps.engine_prune import prune
from legato.steps.engine_rows import CRON_JOB, DEAD, QUEUE_JOB, TAKEN
from legato.steps.engine_workers import AHEAD, Worker, claimed_beside_others
from legato.steps.job_seal import JobSeal
from legato.steps.jobs import JobDead, Tries, Work
from legato.steps.queue_address import QueueAddress

log = structlog.get_logger(__name__)

RunJob = Callable[[str, Work], Awaitable[None]]

THREADS: Final = 2
"""Threads that write results. SQLite has one writer; the second is for the moment in which the first waits."""
STRANDED_S: Final = 20.0
"""So long a job was taken and nothing ran it."""
ABANDONED_MS: Final = 24 * 3600 * 1000
"""A job that waited for so long, while nobody took one of its step, is of a step that is gone from all processes."""
_SELDOM_S: Final = 60.0
_one = threading.Lock()
"""DBOS has one instance a process, and would hand out the first for the second."""


class _Quiet(logging.Filter):
    """Leaves out what is told elsewhere: ends of jobs, jobs that are left to the next start, a start that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], JobDead):
            return False
        return not str(record.msg).startswith(("Asyncio task cancelled", "DBOS failed to launch"))


class Runtime:
    """DBOS on one queue. There can be one at a time in a process.

    Args:
        flush: What is handed over is flushed to the disk before it counts as taken.
        alone: No other process takes jobs from it.
        executor_id: This process among those that ever took jobs from it.
        run: Called on DBOS's own event loop for each job; how it ends is how the job ends.
        left: Filled with what is kept of the attempts of each job that is taken, before it is run.
        poll_s: How often a queue that nobody rings for looks for jobs.
        keep_s: How long jobs that are done are remembered, so that what is handed over again is known.
        seal: Seals and opens what jobs say, where encryption is on.
    """

    def __init__(
        self,
        address: QueueAddress,
        *,
        flush: bool,
        alone: bool,
        executor_id: str,
        run: RunJob,
        left: dict[str, Tries],
        poll_s: float,
        keep_s: float,
        seal: JobSeal | None = None,
    ) -> None:
        if not _one.acquire(blocking=False):
            raise ConfigurationError("another queue is open in this process: close it first")
        self._run = run
        self._seal = seal
        self._left = left
        self._alone = alone
        self._executor_id = executor_id
        self._poll_s = poll_s
        self._keep_s = keep_s
        self._workers: dict[str, Worker] = {}
        self._serving = threading.Lock()
        self._ends = False
        self._running: set[str] = set()
        self._stranded: dict[str, float] = {}
        self._opened_s = time.monotonic()
        logger = logging.getLogger("dbos")
        # With a handler of ours DBOS adds none and leaves `propagate` alone: its warnings come out where others do.
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        if not any(isinstance(each, _Quiet) for each in logger.filters):
            logger.addFilter(_Quiet())
        # Set from the environment, and then it would connect to a service.
        GlobalParams.dbos_cloud = False
        # Delays and deadlines of DBOS are not used here: looking for them each second is half of its idle cost.
        _workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC = _SELDOM_S
        self._engines: list[sa.Engine] = []
        try:
            name = f"{APPLICATION}:{executor_id}"
            self._engines = [connect(address, flush=False, name=name), connect(address, flush=flush, name=name)]
            self._dbos = self._launch(self._engines[0])
            self.letters = Letters(self._engines[1], seal)
        except BaseException:
            self._destroy()
            raise
        self.rows = self.letters.rows

    def _launch(self, engine: sa.Engine) -> DBOS:
        dbos = DBOS(
            config={
                "name": APPLICATION,
                "system_database_engine": engine,
                "serializer": JobSerializer(self._seal),
                "application_version": VERSION,
                "executor_id": self._executor_id,
                "log_level": "WARNING",
                "enable_otlp": False,
                "max_executor_threads": THREADS,
                # Nothing here waits for what it would tell.
                "use_listen_notify": False,
                "notification_listener_polling_interval_sec": 0.25,
                "scheduler_polling_interval_sec": _SELDOM_S,
            }
        )
        dbos._registry.get_internal_queue()._polling_interval_sec = _SELDOM_S
        for name in (QUEUE_JOB, CRON_JOB):

            async def workflow(value: dict[str, Any]) -> None:
                await self._workflow(value)

            # How often a job may be taken is counted by legato.steps.attempts, which knows what ran and what did not.
            DBOS.workflow(name=name, max_recovery_attempts=None)(workflow)
        DBOS.launch()
        self._listen_to_claims(dbos._sys_db)
        return dbos

    def _listen_to_claims(self, database: SystemDatabase) -> None:
        claim, claim_ordered = database.start_queued_workflows, database.start_queued_partitioned_workflows
        read = database.get_workflow_statuses

        # Jobs have one version for ever, so it is the latest: asking for it would be a third of a claim's cost.
        def start(
            queue: Queue, executor: str, version: str, partition: str | None, running: int = 0, **how: Any
        ) -> Any:
            how |= {"is_latest_version": True}
            found: list[str]
            found, stopped_by = claimed_beside_others(
                database, lambda: claim(queue, executor, version, partition, running, **how), lambda: ([], None)
            )
            if worker := self._workers.get(queue.name):
                worker.claimed(len(found), running)
            return found, stopped_by

        def start_ordered(queue: Queue, executor: str, version: str, room: int, **how: Any) -> list[str]:
            found = claim_ordered(queue, executor, version, room, **how | {"is_latest_version": True})
            if worker := self._workers.get(queue.name):
                worker.claimed(len(found), (queue._worker_concurrency or 0) - room)
            return found

        # DBOS reads the rows of what it has claimed; what was tried before, here or elsewhere, stands in them.
        def read_claimed(ids: list[str]) -> Any:
            rows = read(ids)
            for row in rows:
                if row["attributes"] and row["status"] == TAKEN and row["executor_id"] == self._executor_id:
                    self._left[row["workflow_uuid"]] = Tries.from_json(row["attributes"])
            return rows

        for name, function in (
            ("start_queued_workflows", start),
            ("start_queued_partitioned_workflows", start_ordered),
            ("get_workflow_statuses", read_claimed),
        ):
            setattr(database, name, function)

    async def _workflow(self, value: dict[str, Any]) -> None:
        task = asyncio.current_task()
        job_id = DBOS.workflow_id
        assert task is not None
        assert job_id is not None
        try:
            work = read_work(value, self._seal)
        except (LookupError, TypeError, ValueError, SealBroken) as error:
            text = "its stored input cannot be read"
            raise JobDead("InvalidJob", text, attempts=0, first_ms=None, last_ms=0) from error
        worker = self._workers.get(queue_of(work.kind, work.step))
        self._running.add(job_id)
        # Behind the task, and not here, because the result is written after this function has returned.
        task.add_done_callback(partial(self._ended, job_id, worker))
        try:
            await self._run(job_id, work)
        except JobDead:
            raise
        except Exception as error:
            # A fault of this machinery is not one of the job: it stays taken, and is found stranded later.
            log.exception("job left for later", job=job_id)
            raise asyncio.CancelledError from error

    def _ended(self, job_id: str, worker: Worker | None, _task: asyncio.Task[Any]) -> None:
        self._running.discard(job_id)
        if worker is not None:
            worker.ended()

    def serve(self, queue: str, *, window: int = AHEAD, ordered: bool = False, most: int | None = None) -> None:
        """Begin to take jobs from a queue, at most `window` before one of them ends; all processes together `most`."""
        if ordered:
            # What was handed over while the step had no order yet.
            self.rows.give_partition(queue, "")
        worker = Worker(self._dbos, queue, window=window, ordered=ordered, poll_s=self._poll_s, most=most)
        with self._serving:
            if self._ends or queue in self._workers:
                # A look that began before the end, or beside another one, on another thread: nobody would stop what it
                # begins.
                return
            # Known before it claims: it has to be told what it did.
            self._workers[queue] = worker
            worker.start()

    def ring(self, queue: str) -> None:
        """Say that jobs were added to a queue."""
        if worker := self._workers.get(queue):
            worker.ring()

    def pausing(self, queue: str, change: int) -> None:
        """Say that one more job of a queue (or, with -1, one less) only waits for its next attempt."""
        if worker := self._workers.get(queue):
            worker.pausing(change)

    def holders(self) -> set[str]:
        """Return the ids of the other processes that have taken jobs."""
        return self.rows.holders() - {self._executor_id}

    def take_up(self, executors: Collection[str], now_ms: int) -> None:
        """Put back what processes that are dead had taken; whoever takes it next knows that it was under way."""
        dead = sorted(self.holders() & set(executors))
        if not dead:
            return
        left = self.rows.left_by(dead)
        self.rows.watch([job_id for job_id, tries in left.items() if tries is None])
        for job_id, tries in left.items():
            if tries is not None and tries.begun:
                note_cut(tries, now_ms)
                self.save(job_id, tries)
        DBOS._recover_pending_workflows(dead)

    def save(self, job_id: str, tries: Tries) -> None:
        """Keep what was tried with a job."""
        self.letters.client.update_workflow_attributes(job_id, tries.as_json())

    def look_after(self, now_ms: int) -> None:
        """Delete jobs that were done long ago, take up what was stranded, have jobs whose step is gone given up."""
        for queue in self._abandoned(now_ms):
            self.serve(queue)
        self._take_up_stranded()
        # What was handed over before a crash may be handed over again right after it.
        if time.monotonic() - self._opened_s >= self._keep_s:
            prune(self.letters.client, self.rows, now_ms - round(self._keep_s * 1000))

    def _abandoned(self, now_ms: int) -> set[str]:
        """Return the queues with jobs whose step is gone: served by this process, they are given up one by one."""
        counts = self.rows.counts()
        unknown = {queue for queue, status in counts if status != DEAD} - self._workers.keys()
        if self._alone or not unknown:
            return unknown
        # Another process, of an older or a newer version, may know the step.
        oldest = self.rows.oldest()
        return {
            queue
            for queue in unknown
            if (queue, TAKEN) not in counts and oldest.get(queue, now_ms) < now_ms - ABANDONED_MS
        }

    def _take_up_stranded(self) -> None:
        # A job whose result could not be written (a full disk) has no task any more, and would stay taken for ever.
        now_s = time.monotonic()
        stranded = self.rows.taken_by(self._executor_id) - self._running
        # Those that are just being taken or ended look the same, but not for long.
        self._stranded = {job_id: self._stranded.get(job_id, now_s) for job_id in stranded}
        for job_id, since_s in self._stranded.items():
            if now_s - since_s >= STRANDED_S:
                self._dbos._sys_db.reenqueue_for_recovery(job_id, [self._executor_id], "")

    def stop_taking(self) -> None:
        """Take no further job."""
        until = time.monotonic() + 1.0
        with self._serving:
            self._ends = True
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.join(max(0.0, until - time.monotonic()))

    def give_back(self) -> None:
        """Let go of what a rush has left: connections, and the statements that were compiled.

        A connection keeps a small object of each of its latest 200 statements; those lie wherever there was room
        during the rush, and hold a megabyte each.
        """
        for engine in self._engines:
            engine.clear_compiled_cache()
            engine.dispose()

    def close(self, within_s: float, put_back: bool = False) -> None:
        """Let results be written for `within_s` seconds, then end; what is unfinished stays for the next start.

        Args:
            put_back: Other processes may have at once what is unfinished.
        """
        until = time.monotonic() + within_s
        while self._running and time.monotonic() < until:
            time.sleep(0.005)
        if put_back:
            self._put_back()
        self.letters.close()
        self._destroy()

    def _put_back(self) -> None:
        try:
            count = self.rows.put_back(self._executor_id)
        except sa.exc.SQLAlchemyError as error:
            # Others find out that this process is gone.
            log.warning("jobs cannot be put back", error=str(getattr(error, "orig", error)))
        else:
            log.info("jobs put back", jobs=count)

    def _destroy(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        DBOS.destroy(destroy_registry=True)
        for engine in self._engines:
            disconnect(engine)
        _one.release()

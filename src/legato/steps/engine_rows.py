"""What is read and written in DBOS's own tables where its functions are too slow or not there.

Everything that knows a column of DBOS stands in this file; tests/integration/test_queue_engine.py guards it.
`SystemDatabase.init_workflows` makes the same rows as `Rows.add`, but builds one statement of thousands of parameters
each time: 0.35 ms of CPU a job, against 0.02.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from dbos._sys_db import SystemDatabase

from legato.steps.engine_database import APPLICATION, VERSION, JobSerializer
from legato.steps.jobs import Tries
from legato.storage import locks

WAITING: Final = "ENQUEUED"
TAKEN: Final = "PENDING"
DONE: Final = "SUCCESS"
DEAD: Final = "ERROR"
GONE: Final = "CANCELLED"

QUEUE_JOB: Final = "legato.job"
CRON_JOB: Final = "legato.cron"
"""Names of the two workflows."""

_SOME: Final = 500
"""Ids in one statement."""
_ONE_AT_A_TIME: Final = {
    "postgresql": sa.text(f"SELECT pg_advisory_xact_lock({locks.SPACE}, {locks.QUEUE})"),
    # The driver itself would begin with the first statement that writes.
    "sqlite": sa.text("BEGIN IMMEDIATE"),
}
"""Begins a transaction that adds jobs, by dialect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be added.

    Attributes:
        workflow: QUEUE_JOB or CRON_JOB.
        partition: Key of a queue with an order; None where there is none.
        done: It is only a mark and is never run.
    """

    id: str
    workflow: str
    queue: str
    input: str
    partition: str | None = None
    done: bool = False


class Rows:
    """The tables of one queue database."""

    def __init__(self, database: SystemDatabase) -> None:
        self._engine = database.engine
        self._jobs = database.tables.workflow_status
        self._inputs = database.tables.workflow_input
        self._insert = database.dialect.insert
        self._serialization = JobSerializer().name()
        self._one_at_a_time = _ONE_AT_A_TIME[database.engine.dialect.name]

    def add(self, jobs: Sequence[NewJob], now_ms: int) -> None:
        """Add jobs in one transaction; those that are there already are left as they are.

        Their order is the order of the queue, over all calls: the stamps that DBOS sorts by never repeat.
        """
        with self._engine.begin() as connection:
            connection.execute(self._one_at_a_time)
            last_ms = connection.execute(sa.select(sa.func.max(self._jobs.c.created_at))).scalar() or 0
            first_ms = max(now_ms, last_ms + 1)
            rows = [self._row(job, first_ms + place) for place, job in enumerate(jobs)]
            inputs = [{"workflow_uuid": job.id, "inputs": job.input, "retention_timestamp": now_ms} for job in jobs]
            for table, values in ((self._jobs, rows), (self._inputs, inputs)):
                statement = self._insert(table).on_conflict_do_nothing(index_elements=["workflow_uuid"])
                connection.execute(statement, values)

    def _row(self, job: NewJob, at_ms: int) -> dict[str, Any]:
        return {
            "workflow_uuid": job.id,
            "status": DONE if job.done else WAITING,
            "name": job.workflow,
            "queue_name": job.queue,
            "queue_partition_key": job.partition,
            "application_name": APPLICATION,
            "application_version": VERSION,
            "serialization": self._serialization,
            "priority": 0,
            "recovery_attempts": 0,
            "created_at": at_ms,
            "updated_at": at_ms,
            "completed_at": at_ms if job.done else None,
        }

    def is_waiting(self, queue: str, *, beside: str) -> bool:
        """Say whether a job of `queue` other than `beside` has not been taken yet."""
        jobs = self._jobs.c
        query = (
            sa.select(jobs.workflow_uuid)
            .where(jobs.queue_name == queue, jobs.status == WAITING, jobs.workflow_uuid != beside)
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many unfinished and dead jobs there are by queue and status."""
        jobs = self._jobs.c
        query = (
            sa.select(jobs.queue_name, jobs.status, sa.func.count())
            .where(jobs.status.in_([WAITING, TAKEN, DEAD]), jobs.queue_name.is_not(None))
            .group_by(jobs.queue_name, jobs.status)
        )
        with self._engine.connect() as connection:
            return {(queue, status): count for queue, status, count in connection.execute(query)}

    def oldest(self) -> dict[str, int]:
        """Return when the oldest job that nobody has taken was added, epoch milliseconds, by queue."""
        jobs = self._jobs.c
        query = (
            sa.select(jobs.queue_name, sa.func.min(jobs.created_at))
            .where(jobs.status == WAITING, jobs.queue_name.is_not(None))
            .group_by(jobs.queue_name)
        )
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def holders(self) -> set[str]:
        """Return the ids of the processes that have taken jobs."""
        jobs = self._jobs.c
        query = sa.select(jobs.executor_id).where(jobs.status == TAKEN, jobs.executor_id.is_not(None)).distinct()
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def taken_by(self, executor_id: str) -> set[str]:
        """Return the ids of the jobs that a process has taken."""
        jobs = self._jobs.c
        query = sa.select(jobs.workflow_uuid).where(jobs.status == TAKEN, jobs.executor_id == executor_id)
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def left_by(self, executors: Collection[str]) -> dict[str, Tries | None]:
        """Return the jobs that processes have taken, by id, with what is kept of their attempts."""
        jobs = self._jobs.c
        query = sa.select(jobs.workflow_uuid, jobs.attributes).where(
            jobs.status == TAKEN, jobs.executor_id.in_(executors)
        )
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
        return {id_: Tries.from_json(value) if value else None for id_, value in found}

    def watch(self, job_ids: Sequence[str]) -> None:
        """Have whoever takes these jobs next keep whether a process ends under them; nothing is kept of them yet."""
        jobs = self._jobs.c
        with self._engine.begin() as connection:
            for first in range(0, len(job_ids), _SOME):
                ids = job_ids[first : first + _SOME]
                change = sa.update(self._jobs).where(jobs.workflow_uuid.in_(ids), jobs.status == TAKEN)
                connection.execute(change.values(attributes=Tries().as_json()))

    def put_back(self, executor_id: str) -> int:
        """Let others have the jobs that a process has taken; return how many they were."""
        jobs = self._jobs.c
        change = sa.update(self._jobs).where(jobs.status == TAKEN, jobs.executor_id == executor_id)
        with self._engine.begin() as connection:
            done = connection.execute(change.values(status=WAITING, owner_xid=None, started_at_epoch_ms=None))
        return int(done.rowcount)

    def give_partition(self, queue: str, partition: str) -> None:
        """Put unfinished jobs without a partition into one: a queue with an order never looks at those without."""
        jobs = self._jobs.c
        change = (
            sa.update(self._jobs)
            .where(jobs.queue_name == queue, jobs.status.in_([WAITING, TAKEN]), jobs.queue_partition_key.is_(None))
            .values(queue_partition_key=partition)
        )
        with self._engine.begin() as connection:
            connection.execute(change)

    def give_up(self, job_id: str) -> bool:
        """Turn a dead letter into a job that was given up, with nothing left of its input; False if it is none."""
        jobs = self._jobs.c
        change = sa.update(self._jobs).where(jobs.workflow_uuid == job_id, jobs.status == DEAD).values(status=GONE)
        with self._engine.begin() as connection:
            if connection.execute(change).rowcount == 0:
                return False
            connection.execute(sa.delete(self._inputs).where(self._inputs.c.workflow_uuid == job_id))
        return True

    def finished(self, before_ms: int, limit: int) -> list[str]:
        """Return ids of queue jobs that were done or given up before a time, the oldest first."""
        jobs = self._jobs.c
        query = (
            sa.select(jobs.workflow_uuid)
            .where(jobs.status.in_([DONE, GONE]), jobs.completed_at < before_ms, jobs.name == QUEUE_JOB)
            .order_by(jobs.completed_at)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def ticks(self) -> list[tuple[str, str, int]]:
        """Return (id, status, when it ended or 0) of all cron jobs."""
        jobs = self._jobs.c
        query = sa.select(jobs.workflow_uuid, jobs.status, jobs.completed_at).where(jobs.name == CRON_JOB)
        with self._engine.connect() as connection:
            return [(id_, status, ended_ms or 0) for id_, status, ended_ms in connection.execute(query)]

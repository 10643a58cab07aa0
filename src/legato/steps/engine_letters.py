"""Dead letters: jobs that ended with an error stay in the queue until somebody redrives or discards them.

Works beside a running server, in another process, or without one: everything is read from and written to its database.
Calls block; the engine makes them in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus
from dbos import error as dbos_errors

from legato.core.errors import ConfigurationError, NotFound, SealBroken, StorageUnavailable
from legato.core.json_value import text_fault
from legato.steps.engine_database import APPLICATION, JobSerializer, connect, read_work
from legato.steps.engine_rows import DEAD, QUEUE_JOB, TAKEN, WAITING, Rows
from legato.steps.job_seal import JobSeal
from legato.steps.jobs import DeadKind, DeadLetter, JobCounts, JobDead, Work
from legato.steps.queue_address import QueueAddress, where_of

LIST_MOST: Final = 1000


def queue_of(kind: DeadKind, step: str) -> str:
    """Return the name of a step's queue."""
    return f"{kind}:{step}"


def step_of(queue: str) -> tuple[DeadKind, str]:
    """Return the kind and step of a queue."""
    kind, _, step = queue.partition(":")
    return cast(DeadKind, kind), step


class Letters:
    """The dead letters of one queue.

    Args:
        seal: Opens what they say, where encryption is on.
    """

    def __init__(self, engine: sa.Engine, seal: JobSeal | None = None) -> None:
        self._seal = seal
        self.client = DBOSClient(
            system_database_engine=engine,
            serializer=JobSerializer(seal),
            application_name=APPLICATION,
            lazy=True,
            # Whoever asks is told, and asks again: here it would wait for a minute and more.
            retry_connection_errors=False,
        )
        self.rows = Rows(self.client._sys_db)

    def list(self, step: str | None = None, *, limit: int = 50, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters in the order in which their jobs were handed over.

        Args:
            step: Only this step's.
            limit: At most LIST_MOST.
        """
        if step is not None and text_fault(step) is not None:
            return []
        queues = None if step is None else [queue_of("queue", step), queue_of("cron", step)]
        found = self.client.list_workflows(
            status=DEAD, queue_name=queues, limit=min(limit, LIST_MOST), offset=offset or None
        )
        return [_letter(row, self._seal) for row in found]

    def get(self, job_id: str) -> DeadLetter:
        """Return one.

        Raises:
            NotFound: There is none of this id.
        """
        _check_id(job_id)
        found = self.client.list_workflows(workflow_ids=[job_id], status=DEAD)
        if not found:
            raise NotFound(f"there is no dead letter {job_id!r}")
        return _letter(found[0], self._seal)

    def redrive(self, job_id: str) -> str:
        """Make it a job again, with all its attempts before it; a running server takes it within seconds.

        Returns:
            The queue that it is in now.

        Raises:
            NotFound: There is none of this id, or it was redriven or discarded just now.
        """
        _check_id(job_id)
        found = self.client.list_workflows(workflow_ids=[job_id], status=DEAD, load_input=False, load_output=False)
        if not found or found[0].queue_name is None:
            raise NotFound(f"there is no dead letter {job_id!r}")
        self.client.update_workflow_attributes(job_id, None)
        try:
            self.client.rewind_workflow(
                job_id, queue_name=found[0].queue_name, queue_partition_key=found[0].queue_partition_key
            )
        except dbos_errors.DBOSException as error:
            raise NotFound(f"there is no dead letter {job_id!r} any more") from error
        return found[0].queue_name

    def discard(self, job_id: str) -> None:
        """Delete it with its input.

        Raises:
            NotFound: There is none of this id, or it was redriven or discarded just now.
        """
        _check_id(job_id)
        found = self.client.list_workflows(workflow_ids=[job_id], status=DEAD, load_input=False, load_output=False)
        if not self.rows.give_up(job_id):
            raise NotFound(f"there is no dead letter {job_id!r}")
        # A tick stays for a while: it may be the one that tells when its step was run last.
        if found and found[0].name == QUEUE_JOB:
            self.client.delete_workflows([job_id])

    def counts(self) -> dict[str, JobCounts]:
        """Return how many jobs each step has; steps without any are left out."""
        sums: dict[str, dict[str, int]] = {}
        for (queue, status), count in self.rows.counts().items():
            _, step = step_of(queue)
            kinds = sums.setdefault(step, {WAITING: 0, TAKEN: 0, DEAD: 0})
            kinds[status] += count
        return {
            step: JobCounts(waiting=kinds[WAITING], taken=kinds[TAKEN], dead=kinds[DEAD])
            for step, kinds in sorted(sums.items())
        }

    def close(self) -> None:
        self.client.destroy()


def _check_id(job_id: str) -> None:
    # PostgreSQL does not even look for it.
    if text_fault(job_id) is not None:
        raise NotFound(f"there is no dead letter {job_id!r}")


def _letter(row: WorkflowStatus, seal: JobSeal | None) -> DeadLetter:
    kind, step = step_of(row.queue_name or "")
    work = Work(kind=kind, step=step)
    error = row.error
    if not isinstance(error, JobDead):
        error = JobDead("Unreadable", str(error), attempts=0, first_ms=None, last_ms=0)
    if isinstance(row.input, dict):
        try:
            work = read_work(row.input["args"][0], seal)
        except SealBroken as broken:
            error.text = f"[{broken.message}]"
    if error.about is not None and work.about not in (None, error.about):
        error.text = "[this is another job's error: it was moved here]"
    return DeadLetter(
        id=row.workflow_id,
        kind=kind,
        step=step,
        topic=work.events[0].topic if work.events else kind,
        events=work.events,
        tick=work.tick,
        error_type=error.error_type,
        error=error.text,
        attempts=error.attempts,
        first_ms=error.first_ms,
        last_ms=error.last_ms or row.completed_at or 0,
    )


@contextmanager
def open_letters(address: QueueAddress, seal: JobSeal | None = None) -> Iterator[Letters | None]:
    """Open the dead letters of a queue for a command; None where there is no queue yet.

    Raises:
        ConfigurationError: It was not made by this version's queue, or cannot be read.
        StorageUnavailable: It cannot be read or written at present.
    """
    if isinstance(address, Path) and not address.exists():
        yield None
        return
    where = where_of(address)
    engine = connect(address, flush=True)
    letters = Letters(engine, seal)
    try:
        try:
            there = isinstance(address, Path) or sa.inspect(engine).has_schema("dbos")
            if there:
                letters.client._sys_db.verify_migrations()
        except (dbos_errors.DBOSException, sa.exc.DatabaseError) as error:
            raise ConfigurationError(
                f"the queue {where} cannot be used: start the server once, so that it is brought up to date"
            ) from error
        try:
            yield letters if there else None
        except sa.exc.OperationalError as error:
            raise StorageUnavailable(f"the queue {where} cannot be used at present: {error.orig}") from error
    finally:
        letters.close()
        engine.dispose()

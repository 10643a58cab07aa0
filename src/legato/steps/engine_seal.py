"""Seals jobs that were handed over before encryption was turned on: their inputs, and what dead letters say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from legato.core.errors import SealBroken
from legato.steps.engine_database import JobSerializer, connect, read_work, write_input
from legato.steps.engine_letters import Letters
from legato.steps.job_seal import JobSeal
from legato.steps.jobs import JobDead
from legato.steps.queue_address import QueueAddress

PAGE: Final = 200
"""Jobs that are looked at in one statement."""


def seal_jobs(address: QueueAddress, seal: JobSeal) -> int:
    """Seal all jobs of a queue that are not; return how many they were. Jobs may be run meanwhile.

    Raises:
        SQLAlchemyError: The queue cannot be read or written.
    """
    if isinstance(address, Path) and not address.exists():
        return 0
    engine = connect(address, flush=True)
    try:
        if not isinstance(address, Path) and not sa.inspect(engine).has_schema("dbos"):
            return 0
        return _Sealer(engine, seal).seal_all()
    finally:
        engine.dispose()


class _Sealer:
    def __init__(self, engine: sa.Engine, seal: JobSeal) -> None:
        tables = Letters(engine, seal).client._sys_db.tables
        self._engine = engine
        self._jobs = tables.workflow_status
        self._inputs = tables.workflow_input
        self._outputs = tables.workflow_output
        self._seal = seal
        self._serializer = JobSerializer(seal)

    def seal_all(self) -> int:
        count = 0
        after = ""
        while page := self._page(after):
            after = page[-1].workflow_uuid
            for row in page:
                count += self._seal_job(row)
        return count

    def _page(self, after: str) -> Sequence[Any]:
        jobs = self._jobs.c
        query = (
            sa.select(
                jobs.workflow_uuid,
                self._inputs.c.inputs,
                jobs.error.label("job_error"),
                self._outputs.c.error.label("output_error"),
            )
            .select_from(
                self._jobs.outerjoin(self._inputs, jobs.workflow_uuid == self._inputs.c.workflow_uuid).outerjoin(
                    self._outputs, jobs.workflow_uuid == self._outputs.c.workflow_uuid
                )
            )
            .where(jobs.workflow_uuid > after)
            .order_by(jobs.workflow_uuid)
            .limit(PAGE)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def _seal_job(self, row: Any) -> int:
        try:
            work = read_work(self._serializer.deserialize(row.inputs)["args"][0], self._seal)
        except (LookupError, TypeError, ValueError, SealBroken):
            # Not one of ours, or nothing that could be read before either.
            return 0
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(self._inputs)
                .where(self._inputs.c.workflow_uuid == row.workflow_uuid, self._inputs.c.inputs == row.inputs)
                .values(inputs=write_input(work, self._seal))
            )
            for table, error in ((self._jobs, row.job_error), (self._outputs, row.output_error)):
                found = None if error is None else self._serializer.deserialize(error)
                if isinstance(found, JobDead) and found.about is None and work.about is not None:
                    found.about = work.about
                    connection.execute(
                        sa.update(table)
                        .where(table.c.workflow_uuid == row.workflow_uuid, table.c.error == error)
                        .values(error=self._serializer.serialize(found))
                    )
        return 1

"""Takes out of the queue what it knows of somebody: events in jobs that wait or are done, and dead letters.

A job of several events keeps those of others. One that is being run now is looked at again when it has ended: its
process has read it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from dbos import DBOSClient
from dbos._sys_db import SystemDatabase
from sqlalchemy.exc import IntegrityError

from legato.core.errors import SealBroken
from legato.steps.engine_database import JobSerializer, read_work, write_input
from legato.steps.engine_rows import DEAD, TAKEN
from legato.steps.job_groups import job_id_of
from legato.steps.job_seal import JobSeal
from legato.steps.jobs import JobDead, JobEvent, Work
from legato.storage.erasures import Erased
from legato.storage.residue import has_residue, may_be_written_anew

PAGE: Final = 200
"""Jobs that are looked at in one statement."""
NOT_SAID: Final = "what it said was erased"


class QueueEraser:
    """The queue's tables, read from their beginning to their end in pages.

    Args:
        database: DBOS's.
        client: Deletes jobs with all that DBOS keeps of them.
        seal: Opens and seals what jobs say, where encryption is on.
    """

    def __init__(self, database: SystemDatabase, client: DBOSClient, seal: JobSeal | None = None) -> None:
        self._seal = seal
        self._engine = database.engine
        self._jobs = database.tables.workflow_status
        self._inputs = database.tables.workflow_input
        self._outputs = database.tables.workflow_output
        self._client = client
        self._serializer = JobSerializer(seal)

    def erase(self, erased: Erased) -> bool:
        """Erase what is of them; return whether nothing is left, not even in a job that is being run."""
        clean = True
        after = ""
        while page := self._page(after):
            after = page[-1].workflow_uuid
            gone: list[str] = []
            for row in page:
                work = self._work(row)
                if work is None or not any(_is_of(erased, event) for event in work.events):
                    continue
                if row.status == TAKEN:
                    clean = False
                    continue
                kept = tuple(event for event in work.events if not _is_of(erased, event))
                try:
                    if kept and not self._rewrite(row, work, kept):
                        clean = False
                except IntegrityError:
                    # There is a job of just those that are kept: this one is not needed.
                    kept = ()
                if not kept:
                    gone.append(row.workflow_uuid)
            if gone:
                self._client.delete_workflows(gone)
        return clean and self._empty_log()

    def _page(self, after: str) -> Sequence[Any]:
        jobs, inputs = self._jobs.c, self._inputs.c
        query = (
            sa.select(jobs.workflow_uuid, jobs.status, sa.func.coalesce(inputs.inputs, jobs.inputs).label("input"))
            .select_from(self._jobs.outerjoin(self._inputs, jobs.workflow_uuid == inputs.workflow_uuid))
            .where(jobs.workflow_uuid > after)
            .order_by(jobs.workflow_uuid)
            .limit(PAGE)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def _work(self, row: Any) -> Work | None:
        try:
            return read_work(self._serializer.deserialize(row.input)["args"][0], self._seal)
        except (LookupError, TypeError, ValueError, SealBroken):
            # Another's, or nothing that could be read.
            return None

    def _rewrite(self, row: Any, work: Work, kept: tuple[JobEvent, ...]) -> bool:
        """Leave only some of a job's events; its id was made of all of them.

        Returns:
            False where it was taken meanwhile: the next look finds it.

        Raises:
            IntegrityError: There is a job with the id of those that are kept.
        """
        old, new = row.workflow_uuid, job_id_of(work.step, kept)
        with self._engine.begin() as connection:
            found = connection.execute(
                sa.update(self._jobs)
                .where(self._jobs.c.workflow_uuid == old, self._jobs.c.status == row.status)
                .values(workflow_uuid=new)
            )
            if found.rowcount != 1:
                return False
            said = {"inputs": write_input(replace(work, events=kept), self._seal), "workflow_uuid": new}
            connection.execute(sa.update(self._inputs).where(self._inputs.c.workflow_uuid == old).values(said))
            for table in (self._outputs, self._jobs):
                of_job = table.c.workflow_uuid == (old if table is self._outputs else new)
                error = connection.execute(sa.select(table.c.error).where(of_job)).scalar()
                values: dict[str, Any] = {"workflow_uuid": new}
                if error is not None and row.status == DEAD:
                    values["error"] = self._without_text(error, kept)
                connection.execute(sa.update(table).where(of_job).values(values))
        return True

    def _without_text(self, error: str, kept: tuple[JobEvent, ...]) -> str:
        """Return a dead letter's error without its words: they may be of any of its events."""
        found = self._serializer.deserialize(error)
        if not isinstance(found, JobDead):
            found = JobDead("Unreadable", "", attempts=0, first_ms=None, last_ms=0)
        found.text, found.about = NOT_SAID, (kept[0].owner, kept[0].id)
        return self._serializer.serialize(found)

    def _empty_log(self) -> bool:
        """Empty the write-ahead log of a file: it has what the pages held before."""
        if self._engine.dialect.name != "sqlite":
            return True
        path = Path(self._engine.url.database or "")
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            busy, left, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy and left == 0 and has_residue(path) and may_be_written_anew(path):
                cursor.execute("VACUUM")
                busy, left, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
        return not busy and left == 0


def _is_of(erased: Erased, event: JobEvent) -> bool:
    return erased.names(event.owner, event.topic, event.payload, event.at_ms)

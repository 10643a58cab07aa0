"""Where the queue is kept, its connections, and the form in which jobs and errors are kept in it.

Beside SQLite it is a file of its own, because the queue's commits would disturb those of replies that are being
streamed. In PostgreSQL it is DBOS's schema in the server's database: many processes take jobs from it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from dbos import Serializer
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from legato.core.errors import ConfigurationError, SealBroken, StorageUnavailable
from legato.steps.job_seal import JobSeal
from legato.steps.jobs import CronTick, JobDead, JobEvent, Work
from legato.steps.queue_address import QueueAddress, where_of
from legato.storage.postgres import PATIENCE
from legato.storage.postgres_faults import refused

APPLICATION: Final = "legato"
"""Owner of all rows."""
VERSION: Final = "1"
"""What DBOS takes for the application's version. It recovers jobs of its own version only, so this is the same for
ever: a deploy goes on with what the one before it left."""

SEALED: Final = 1
"""Stands behind the fields of an event whose payload is sealed."""

POOL: Final = 4
OVERFLOW: Final = 8
"""Connections to a file that are kept and that may be added under load."""
SERVER_POOL: Final = 2
SERVER_OVERFLOW: Final = 1
"""The same of PostgreSQL, where each is a process of its own. A process has two such pools."""
IDLE_TRANSACTION_MS: Final = 5000
"""So long a process that was stopped inside a transaction keeps what it has locked."""


def connect(address: QueueAddress, *, flush: bool, name: str = APPLICATION) -> sa.Engine:
    """Return an engine on the queue's database. A file is made if absent, readable by its owner alone.

    Args:
        flush: Commits are flushed to the disk; otherwise the last ones may be missing after a power cut.
        name: What PostgreSQL knows the connections by.

    Raises:
        ConfigurationError: The file cannot be made, or the address is none.
    """
    if isinstance(address, Path):
        return _connect_file(address, flush=flush)
    return _connect_server(address, flush=flush, name=name)


def unopened(address: QueueAddress, error: Exception) -> ConfigurationError | StorageUnavailable:
    """Return the error that says why a queue could not be opened: what may pass by itself is no ConfigurationError."""
    said = error.orig if isinstance(error, sa.exc.DatabaseError) else error
    what = f"the queue {where_of(address)}"
    if isinstance(said, psycopg.Error):
        return refused(what, said)
    return ConfigurationError(f"{what} cannot be used: {said}")


def disconnect(engine: sa.Engine) -> None:
    """Close all connections of an engine, those in use as soon as they are given back."""

    @sa.event.listens_for(engine, "checkin")
    def close(_connection: Any, record: Any) -> None:
        record.invalidate()

    engine.dispose()


def _connect_server(url: str, *, flush: bool, name: str) -> sa.Engine:
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise unopened(url, error) from None
    options = [str(given.get("options") or ""), f"-c idle_in_transaction_session_timeout={IDLE_TRANSACTION_MS}"]
    if not flush:
        options.append("-c synchronous_commit=off")
    named = {"application_name": name, "options": " ".join(options).strip()}
    return sa.create_engine(
        # The address goes past SQLAlchemy: libpq reads more forms of it.
        "postgresql+psycopg://",
        connect_args=PATIENCE | given | named,
        pool_size=SERVER_POOL,
        max_overflow=SERVER_OVERFLOW,
        # After a restart of the database a job would fail for each connection that is kept.
        pool_pre_ping=True,
    )


def _connect_file(path: Path, *, flush: bool) -> sa.Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(f"the queue's file {path} cannot be used: {error.strerror}") from error
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), pool_size=POOL, max_overflow=OVERFLOW)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # A transaction that writes takes the lock when it begins: it could not be had later without starting over.
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={'FULL' if flush else 'NORMAL'}",
            "busy_timeout=30000",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "journal_size_limit=16777216",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


class JobSerializer(Serializer):
    """JSON, and nothing that runs code when it is read.

    DBOS hands over three things: inputs, `{"args": …, "kwargs": …}`; results, always None here; and errors.

    Args:
        seal: Seals what errors say, where encryption is on.
    """

    def __init__(self, seal: JobSeal | None = None) -> None:
        self._seal = seal

    def name(self) -> str:
        return "legato-json"

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            fields = _error_fields(data)
            if self._seal is not None and isinstance(data, JobDead) and data.about is not None:
                owner, job = data.about
                fields |= {"text": self._seal.seal(owner, "job.error", job, data.text), "about": [owner, job]}
            data = {"error": fields}
        return _encode(data)

    def deserialize(self, serialized_data: str) -> Any:
        value = json.loads(serialized_data)
        if isinstance(value, dict) and isinstance(value.get("error"), dict):
            fields = value["error"]
            if "about" in fields:
                fields["about"] = owner, job = tuple(fields["about"])
                fields["text"] = self._opened(owner, job, fields["text"])
            return JobDead(fields.pop("type"), fields.pop("text"), **fields)
        return value

    def _opened(self, owner: str, job: str, text: str) -> str:
        try:
            return text if self._seal is None else self._seal.open(owner, "job.error", job, text)
        except SealBroken as error:
            # Dead letters are listed all the same.
            return f"[{error.message}]"


def _encode(value: Any) -> str:
    # ASCII, because a payload may hold half a surrogate pair, which no UTF-8 has.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _error_fields(error: BaseException) -> dict[str, Any]:
    if isinstance(error, JobDead):
        return {
            "type": error.error_type,
            "text": error.text,
            "attempts": error.attempts,
            "first_ms": error.first_ms,
            "last_ms": error.last_ms,
        }
    return {"type": type(error).__name__, "text": str(error), "attempts": 0, "first_ms": None, "last_ms": 0}


def write_input(work: Work, seal: JobSeal | None = None) -> str:
    """Return the stored form of a job's input: the arguments of its workflow."""
    value: dict[str, Any] = {"kind": work.kind, "step": work.step}
    if work.events:
        value["events"] = [_event_fields(event, seal) for event in work.events]
    if work.tick is not None:
        value["tick"] = [work.tick.id, work.tick.at_ms]
    if work.fault is not None:
        value["fault"] = work.fault
        if seal is not None and work.about is not None:
            owner, job = work.about
            value["fault"] = {"sealed": seal.seal(owner, "job.fault", job, work.fault)}
    return _encode({"args": [value], "kwargs": {}})


def _event_fields(event: JobEvent, seal: JobSeal | None) -> list[Any]:
    payload, rest = event.payload, [event.trace_id, event.at_ms]
    if seal is not None:
        payload = seal.seal(event.owner, "job.payload", event.id, _encode(payload))
        rest.append(SEALED)
    return [event.id, event.topic, event.owner, payload, *rest]


def read_work(value: dict[str, Any], seal: JobSeal | None = None) -> Work:
    """Return a job's input, from the argument that write_input made.

    Raises:
        SealBroken: What it says does not open, is not sealed and should be, or is and there are no keys.
    """
    tick = value.get("tick")
    work = Work(
        kind=value["kind"],
        step=value["step"],
        events=tuple(_event_of(fields, seal) for fields in value.get("events", ())),
        tick=CronTick(id=tick[0], at_ms=tick[1]) if tick else None,
    )
    fault = value.get("fault")
    if isinstance(fault, dict) and work.about is not None:
        owner, job = work.about
        fault = _with_keys(seal).open(owner, "job.fault", job, fault["sealed"])
    return work if fault is None else replace(work, fault=fault)


def _event_of(fields: list[Any], seal: JobSeal | None) -> JobEvent:
    id_, topic, owner, payload, trace_id, at_ms, *sealed = fields
    if sealed:
        payload = json.loads(_with_keys(seal).open(owner, "job.payload", id_, payload))
    elif seal is not None and not seal.takes_plain:
        raise SealBroken("a job is not sealed, and was not there before encryption was turned on")
    return JobEvent(id=id_, topic=topic, owner=owner, payload=payload, trace_id=trace_id, at_ms=at_ms)


def _with_keys(seal: JobSeal | None) -> JobSeal:
    if seal is None:
        raise SealBroken("the jobs of this queue are encrypted: set LEGATO_ENCRYPTION_KEYS")
    return seal

"""What `legato doctor` looks at where the database is PostgreSQL."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import psycopg

from legato.cli.check import Check, State
from legato.cli.check_file import can_use_newer
from legato.core.errors import ConfigurationError, StorageUnavailable
from legato.storage.migrate import HEAD
from legato.storage.postgres import CONNECTIONS, PostgresDatabase
from legato.storage.postgres_faults import refused

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.postgres_transaction import Session

CLOCK_NOTE_S: Final = 2.0

_ABOUT: Final = b"SELECT current_setting('server_version'), current_setting('fsync'), pg_is_in_recovery()"
_RIGHTS: Final = b"""
SELECT has_schema_privilege(current_schema(), 'CREATE'),
       to_regnamespace('dbos') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE')
"""
_ROOM: Final = b"""
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""
_NODES: Final = b"""
SELECT count(*), count(*) FILTER (WHERE host = $h$%s$h$)
FROM node WHERE fenced_at IS NULL AND until > clock_timestamp()
"""
_LIMIT: Final = b"SELECT current_setting('idle_in_transaction_session_timeout')"
_PID: Final = b"SELECT pg_backend_pid()"


def check_postgres(settings: Settings, database: PostgresDatabase) -> Iterator[Check]:
    """Yield what was found of the server, its settings, and the way to it."""
    try:
        session = database.connect()
    except (psycopg.Error, ConfigurationError) as error:
        said = refused(f"the database {database.where}", error) if isinstance(error, psycopg.Error) else error
        yield Check(name="database", state="wrong", found=said.message)
        return
    try:
        yield _database(database, session)
        yield _rights(session)
        yield _way(database, session)
        yield _connections(settings, session)
        yield _clock(session)
    except (psycopg.Error, ConfigurationError, StorageUnavailable) as error:
        yield Check(name="database", state="wrong", found=f"{database.where}: {' '.join(str(error).split())}")
    finally:
        database.close()


def is_served_here(database: PostgresDatabase) -> bool:
    """Whether a node of this machine runs on the database."""
    try:
        session = database.connect()
        return _nodes(session)[1] > 0
    except (psycopg.Error, ConfigurationError, StorageUnavailable):
        return False
    finally:
        database.close()


def _database(database: PostgresDatabase, session: Session) -> Check:
    version, fsync, in_recovery = _row(session, _ABOUT)
    found = f"PostgreSQL {version.partition(' ')[0]}, UTF8, {database.where}"
    if in_recovery == "t":
        mend = "name the primary in LEGATO_DATABASE_URL, or add target_session_attrs=read-write to it"
        return Check(name="database", state="wrong", found=f"{found}: a standby, which takes no writes", mend=mend)
    revision = database.revision()
    if revision is not None and revision > HEAD:
        found = f"{found}, revision {revision}; this version knows {HEAD}"
        state: State = "note" if can_use_newer(database) else "wrong"
        return Check(name="database", state=state, found=found, mend="install the newer Legato that wrote it")
    if revision is None:
        found += ", empty: tables are made at the first start"
    elif revision == HEAD:
        found += f", revision {revision}"
    else:
        found += f", revision {revision}, brought to {HEAD} at the next start"
    if fsync != "on":
        mend = "set fsync=on in postgresql.conf"
        return Check(name="database", state="note", found=f"{found}; a power cut may spoil it", mend=mend)
    return Check(name="database", state="ok" if revision in (None, HEAD) else "note", found=found)


def _rights(session: Session) -> Check:
    here, queue = (value == "t" for value in _row(session, _RIGHTS))
    if here and queue:
        return Check(name="rights", state="ok", found="tables can be made, and the queue's schema dbos")
    missing = "tables cannot be made" if not here else "the queue's schema dbos cannot be made"
    mend = "make the user the database's owner: ALTER DATABASE … OWNER TO …"
    return Check(name="rights", state="wrong", found=missing, mend=mend)


def _way(database: PostgresDatabase, session: Session) -> Check:
    """Look for a pooler that gives each transaction another session.

    What a second client is given while the first holds no transaction is then the first one's own.
    """
    name = "connection"
    first = _row(session, _PID)
    other = database.connect()
    other.ask(b"BEGIN")
    shared = _row(other, _PID) == first or _row(session, _PID) != first
    other.roll_back()
    database.release(other)
    if shared:
        return Check(
            name=name,
            state="wrong",
            found="a pooler gives each transaction another session: prepared statements, locks and LISTEN are lost",
            mend="name PostgreSQL itself in LEGATO_DATABASE_URL, or set pool_mode=session",
        )
    if _row(session, _LIMIT) == ["0"]:
        return Check(
            name=name,
            state="note",
            found="a pooler leaves out the time limits of sessions: a node that hangs holds its locks",
            mend="name PostgreSQL itself, or ALTER ROLE … SET idle_in_transaction_session_timeout = '2s'",
        )
    return Check(name=name, state="ok", found="direct, or through a pooler that keeps sessions")


def _connections(settings: Settings, session: Session) -> Check:
    room, taken = (int(value) for value in _row(session, _ROOM))
    each = settings.database_pool + CONNECTIONS
    nodes = _nodes(session)[0]
    needed = each * max(settings.workers, nodes)
    found = f"{room} allowed, {taken} in use; a node takes {each}, so there is room for {room // each} nodes"
    if nodes:
        found += f", and {nodes} {'is' if nodes == 1 else 'are'} there"
    if needed <= room:
        return Check(name="connections", state="ok", found=found)
    return Check(
        name="connections",
        state="note" if nodes >= settings.workers else "wrong",
        found=f"{found}: {needed} are needed",
        mend=f"set max_connections to {needed + 20} in postgresql.conf, or run fewer nodes",
    )


def _nodes(session: Session) -> tuple[int, int]:
    """Return how many nodes live, and how many of them on this machine."""
    if _row(session, b"SELECT to_regclass('node') IS NOT NULL") != ["t"]:
        return 0, 0
    found = _row(session, _NODES % socket.gethostname().replace("$", "").encode())
    return int(found[0]), int(found[1])


def _clock(session: Session) -> Check:
    before_s = time.time()
    theirs_s = float(_row(session, b"SELECT extract(epoch FROM clock_timestamp())")[0])
    apart_s = theirs_s - (before_s + time.time()) / 2
    if abs(apart_s) < CLOCK_NOTE_S:
        return Check(name="clock", state="ok", found=f"{abs(apart_s):.1f} s from the database's")
    found = (
        f"{abs(apart_s):.0f} s {'behind' if apart_s > 0 else 'ahead of'} the database's: times of messages are so too"
    )
    return Check(
        name="clock", state="note", found=found, mend="have both machines keep time (chrony, systemd-timesyncd)"
    )


def _row(session: Session, sql: bytes) -> list[str]:
    """Return the one row of a query, each value as its text."""
    result = session.ask(sql)
    return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]

"""PostgreSQL: connections for a few threads that read, and for the writers of each lane.

Connections are direct, or of a pooler that keeps sessions: prepared statements, advisory locks and LISTEN live in one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from legato.core.errors import ConfigurationError, StorageUnavailable
from legato.storage.database import Database
from legato.storage.encryption import admit, hold_roots, is_taken, keep_roots, take
from legato.storage.migrate import HEAD, upgrade
from legato.storage.nodes import fence_all
from legato.storage.postgres_faults import STALE, Meaning, failed, meaning_of, refused
from legato.storage.postgres_transaction import PostgresTransaction, Session
from legato.storage.postgres_writer import PostgresWriter, run_again
from legato.storage.statement import Transaction
from legato.storage.writer import Lane

if TYPE_CHECKING:
    from legato.storage.sealing import Sealing

T = TypeVar("T")

LEAST_VERSION: Final = 140000
CONNECTIONS: Final = 12
"""What a server needs beside its readers: writers of two lanes, lease, hints, limits, followed replies, and up to six
for the queue."""
STATEMENT_S: Final = 10.0
"""How long one statement may take."""
MOST_READS: Final = 2000
"""That wait or are being done at once: past it a server that answers slowly would only gather more."""
LOCK_S: Final = 4.0
"""How long a statement may wait for a lock: longer than a stopped process may keep one."""
IDLE_S: Final = 2.0
"""How long a transaction may stand still. It bounds how long a process that was stopped inside one holds its locks."""
MARGIN_S: Final = 1.0
"""How much later than the server's own limit a silent connection is given up."""
PATIENCE: Final = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
}
"""How soon libpq gives a silent server up: s, s, s, times, ms. The address may say otherwise."""


class PostgresDatabase(Database):
    """One database of a PostgreSQL server, which any number of processes share.

    Args:
        url: postgresql://…, as libpq reads it.
        pool: Connections that read.
        lease_s: How long a node lives without a sign of life: no transaction stands still for half as long.
    """

    kind = "postgresql"
    lanes = (Lane.APPEND, Lane.COMMAND)

    def __init__(self, url: str, *, pool: int = 4, lease_s: float = 2 * IDLE_S) -> None:
        self.url = url
        self._pool = pool
        self._idle_s = min(IDLE_S, lease_s / 2)
        self._readers: ThreadPoolExecutor | None = None
        self._reading = 0
        self._local = threading.local()
        self._sessions: list[Session] = []

    @property
    def where(self) -> str:
        try:
            given = conninfo_to_dict(self.url)
        except psycopg.Error:
            return "PostgreSQL"
        host = f"{given.get('host') or given.get('hostaddr') or 'localhost'}:{given.get('port') or 5432}"
        if "@" in host:
            # Of a password, which should have %40 there.
            return "PostgreSQL"
        return f"{host}/{given.get('dbname') or given.get('user') or ''}"

    def open(self) -> None:
        """Check that it can carry a server, and migrate."""
        self._check_room()
        self.migrate()
        self.encrypt()

    def revision(self) -> str | None:
        session = self._reached()
        try:
            if session.ask(b"SELECT to_regclass('alembic_version')").get_value(0, 0) is None:
                return None
            found = session.ask(b"SELECT version_num FROM alembic_version")
            value = found.get_value(0, 0) if found.ntuples else None
            return None if value is None else value.decode()
        except psycopg.Error as error:
            raise failed(self.where, error, writes=False) from error
        finally:
            session.close()

    def migrate(self) -> None:
        if self.revision() != HEAD:
            upgrade(self.url, where=self.where)

    async def read(self, query: Callable[[Transaction], T]) -> T:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(self._pool, thread_name_prefix="legato-read")
        if self._reading >= MOST_READS:
            raise StorageUnavailable("the database answers too slowly at present: try again")
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)
        finally:
            self._reading -= 1

    def transact(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        self.migrate()
        if writes and self.sealing is not None and not self._transact(self._is_encrypted, writes=False):
            self.encrypt()
        return self._transact(work, writes=writes)

    def transaction(self, session: Session) -> PostgresTransaction:
        """Return what storage code is given to use a session."""
        if self.sealing is None:
            return PostgresTransaction(session)
        from legato.storage.sealed_postgres import SealedPostgresTransaction

        return SealedPostgresTransaction(session, self.sealing)

    def _is_encrypted(self, tx: Transaction) -> bool:
        return admit(tx, self.sealing)

    def encrypt(self) -> None:
        sealing = self.sealing
        if sealing is None:
            self._transact(self._is_encrypted, writes=False)
        elif not self._transact(lambda tx: is_taken(tx, sealing), writes=False):
            self._run(lambda tx: self._take(tx, sealing), writes=True)

    def _take(self, tx: Transaction, sealing: Sealing) -> None:
        """Take the database for keys; who has none and was away meanwhile is fenced, and refused when it is back."""
        hold_roots(tx)
        if not admit(tx, sealing) and not fence_all(tx):
            raise ConfigurationError(
                f"servers without encryption use the database {self.where}: stop them, so that encryption can be "
                "turned on; one that was killed counts until its lease has run out"
            )
        take(tx, sealing, time.time_ns() // 1_000_000)

    def _transact(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        def admitted(tx: Transaction) -> T:
            if writes:
                keep_roots(tx)
            admit(tx, self.sealing)
            return work(tx)

        return self._run(admitted, writes=writes)

    def _run(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        session = self._reached()
        try:
            begin = b"BEGIN" if writes else b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            return run_again(lambda: _transact(self.transaction(session), begin, work))
        except psycopg.Error as error:
            raise failed(self.where, error, writes=writes) from error
        finally:
            session.close()

    def writer(self, lane: Lane) -> PostgresWriter:
        return PostgresWriter(self, lane)

    def close(self) -> None:
        if self._readers is not None:
            self._readers.shutdown()
            self._readers = None
        while self._sessions:
            self._sessions.pop().close()
        self._local = threading.local()

    def connect(self, *, statement_s: float = STATEMENT_S) -> Session:
        """Connect; what is connected is closed with the database, or before by `release`.

        Args:
            statement_s: How long one statement may take.

        Raises:
            psycopg.Error: It cannot be reached, or refuses.
            ConfigurationError: It is older than PostgreSQL 14, or its encoding is not UTF8.
        """
        given = conninfo_to_dict(self.url)
        limits = {
            "idle_in_transaction_session_timeout": self._idle_s,
            "statement_timeout": statement_s,
            "lock_timeout": LOCK_S,
        }
        options = [f"-c {name}={round(value_s * 1000)}" for name, value_s in limits.items()]
        own = {
            **PATIENCE,
            **given,
            "application_name": self.application_name,
            "client_encoding": "utf8",
            "options": " ".join([str(given.get("options") or ""), *options, *_OPTIONS]).strip(),
        }
        connection = psycopg.connect(make_conninfo("", **own), autocommit=True)
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        session = Session(connection, answer_s=statement_s + MARGIN_S)
        self._sessions.append(session)
        return session

    def release(self, session: Session) -> None:
        """Close a connection."""
        session.close()
        if session in self._sessions:
            self._sessions.remove(session)

    def _reached(self) -> Session:
        """Connect for a moment, or say in words why that is not possible."""
        try:
            session = self.connect()
        except psycopg.Error as error:
            raise refused(f"the database {self.where}", error) from None
        self._sessions.remove(session)
        return session

    def _check(self, connection: psycopg.Connection) -> None:
        version = connection.pgconn.server_version
        if version < LEAST_VERSION:
            raise ConfigurationError(
                f"the database {self.where} is PostgreSQL {version // 10000}: 14 or later is needed"
            )
        encoding = (connection.pgconn.parameter_status(b"server_encoding") or b"").decode()
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the database {self.where} keeps text as {encoding}: make one with createdb --encoding=UTF8"
            )

    def _check_room(self) -> None:
        session = self._reached()
        try:
            row = session.ask(_ROOM)
            room = int(row.get_value(0, 0) or b"0")
        finally:
            session.close()
        if room < self._pool + CONNECTIONS:
            raise ConfigurationError(
                f"the database {self.where} allows {room} connections, and this server needs "
                f"{self._pool + CONNECTIONS}: raise its max_connections or the limit of its user, "
                "or lower LEGATO_DATABASE_POOL"
            )

    def _read(self, query: Callable[[Transaction], T]) -> T:
        try:
            tx = self._snapshot()
            try:
                return query(tx)
            finally:
                tx.session.roll_back()
                tx.settled(True)
        except psycopg.Error as error:
            if meaning_of(error) not in (Meaning.AWAY, Meaning.AGAIN):
                raise
            if error.sqlstate in STALE:
                self._forget()
            raise StorageUnavailable("the database cannot be read at present: try again") from error

    def _snapshot(self) -> PostgresTransaction:
        """Begin a transaction on this thread's connection, on a new one where it was lost while it was idle."""
        tx: PostgresTransaction | None = getattr(self._local, "tx", None)
        if tx is not None and not tx.session.lost:
            try:
                tx.session.ask(_SNAPSHOT)
                return tx
            except psycopg.Error:
                if not tx.session.lost:
                    raise
        self._forget()
        tx = self._local.tx = self.transaction(self.connect())
        tx.session.ask(_SNAPSHOT)
        return tx

    def _forget(self) -> None:
        tx: PostgresTransaction | None = getattr(self._local, "tx", None)
        if tx is not None:
            self._local.tx = None
            self.release(tx.session)


_SNAPSHOT: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Whatever the server or the role says otherwise. Compiling pays for no statement here.
_OPTIONS: Final = ("-c synchronous_commit=on", "-c default_transaction_isolation=read\\ committed", "-c jit=off")
_ROOM: Final = b"""
SELECT least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))
"""


def _transact(tx: PostgresTransaction, begin: bytes, work: Callable[[Transaction], T]) -> T:
    tx.session.ask(begin)
    try:
        result = work(tx)
        tx.session.commit()
        tx.settled(True)
        return result
    finally:
        tx.session.roll_back()

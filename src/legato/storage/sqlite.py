"""SQLite: one connection that writes, a few that read, and the lock that makes this process the only server.

No other file of the server knows the driver, a pragma, or that there is a file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from legato.core.errors import ConfigurationError, LegatoError, StorageUnavailable
from legato.core.event import SCHEMA_VERSION
from legato.storage.codec import FLUSH_FORMAT, SegmentPiece, encode_flush
from legato.storage.database import Database
from legato.storage.encryption import admit, take
from legato.storage.migrate import HEAD, upgrade
from legato.storage.residue import has_residue, may_be_written_anew
from legato.storage.segments import INSERT_SEGMENT
from legato.storage.statement import Prepared, Transaction, Values
from legato.storage.writer import Lane, Unit, Writer

if TYPE_CHECKING:
    from legato.storage.sealing import Sealing

T = TypeVar("T")
Durability = Literal["power", "process"]

READERS = 2
"""Threads that read. SQLite reads rarely wait; more would only contend for the interpreter."""
SCRUB_WAIT_MS = 200
"""How long cleaning the file may hold up who writes, where somebody reads for long; it is tried again."""


class SqliteTransaction(Transaction):
    """Statements on one cursor: the driver would make one for each, and remember it for a while."""

    __slots__ = ("_cursor",)

    database = "sqlite"

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        super().__init__()
        self._cursor = cursor

    def run(self, statement: Prepared, **values: Any) -> int:
        to = statement.sqlite
        count = self._cursor.execute(to.sql, to.pick(to.constants | values if to.constants else values)).rowcount
        if count > 0:
            self.wrote += count
        return count

    def insert(self, statement: Prepared, **values: Any) -> int:
        to = statement.sqlite
        cursor = self._cursor.execute(to.sql, to.pick(to.constants | values if to.constants else values))
        self.wrote += cursor.rowcount
        key = cursor.lastrowid
        assert key is not None
        return key

    def many(self, statement: Prepared, rows: Sequence[Values]) -> None:
        to = statement.sqlite
        self._cursor.executemany(to.sql, [to.pick({**to.constants, **row}) for row in rows])
        self.wrote += max(0, self._cursor.rowcount)

    def one(self, statement: Prepared, **values: Any) -> Any:
        to = statement.sqlite
        row = self._cursor.execute(to.sql, to.pick(to.constants | values if to.constants else values)).fetchone()
        if row is None:
            return None
        if statement.writes:
            self.wrote += 1
        return statement.row(row)

    def all(self, statement: Prepared, **values: Any) -> list[Any]:
        rows = self.tuples(statement, **values)
        if statement.writes:
            self.wrote += len(rows)
        return list(map(statement.row, rows))

    def tuples(self, statement: Prepared, **values: Any) -> list[tuple[Any, ...]]:
        to = statement.sqlite
        return self._cursor.execute(to.sql, to.pick(to.constants | values if to.constants else values)).fetchall()


class SqliteWriter(Writer):
    """The connection that writes."""

    def __init__(self, connection: sqlite3.Connection, sealing: Sealing | None = None) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self.tx = _transaction(self._cursor, sealing)

    def append(self, pieces: Sequence[SegmentPiece]) -> None:
        """Write what all runs of a batch brought as one row, however many they are."""
        # One statement is a transaction of its own: the interpreter's lock is given up, and fought for, at each.
        if self.tx.sealing is not None:
            self._append_sealed(pieces)
            return
        values = (0, 0, len(pieces), 0, SCHEMA_VERSION, FLUSH_FORMAT, encode_flush(pieces))
        self._cursor.execute(INSERT_SEGMENT.sqlite.sql, values)

    def _append_sealed(self, pieces: Sequence[SegmentPiece]) -> None:
        from legato.storage.sealed_logs import SEALED_FLUSH_FORMAT, seal_flush

        data = seal_flush(self.tx, pieces)
        values = (0, 0, len(pieces), 0, SCHEMA_VERSION, SEALED_FLUSH_FORMAT, data)
        self._cursor.execute(INSERT_SEGMENT.sqlite.sql, values)
        if not self._connection.in_transaction:
            self.tx.settled(True)

    def both(self, pieces: Sequence[SegmentPiece], units: Sequence[Unit]) -> None:
        tx = self.tx
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            if pieces:
                self.append(pieces)
            for unit in units:
                wrote = tx.wrote
                unit.error = None
                try:
                    unit.value = unit.apply(tx)
                except LegatoError as refusal:
                    if tx.wrote != wrote:
                        raise
                    unit.error = refusal
            self._cursor.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
            tx.settled(False)
            raise
        tx.settled(True)

    def is_away(self, error: Exception) -> bool:
        # Extended codes carry the primary one in their low byte.
        return isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _AWAY


_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


class SqliteDatabase(Database):
    """One SQLite file and the folder that it lives in.

    Args:
        path: The database file; its folder is made if absent.
        durability: `power`: each commit is flushed to the disk. `process`: commits survive `kill -9`, but the
            last ones may be missing after a power cut.
    """

    kind = "sqlite"
    lanes = (Lane.COMMAND,)

    def __init__(self, path: Path, *, durability: Durability = "power") -> None:
        self._path = path
        self._durability = durability
        self._lock_fd: int | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    @property
    def where(self) -> str:
        return str(self._path)

    def open(self) -> None:
        """Make this process the only server on the folder, and migrate."""
        self._lock()
        self.migrate()
        self.encrypt()

    def revision(self) -> str | None:
        try:
            return read_revision(self._path)
        except sqlite3.Error as error:
            raise ConfigurationError(f"the database {self._path} cannot be used: {error}") from error

    def migrate(self) -> None:
        if self.revision() != HEAD:
            self._connect(writes=True).close()
            upgrade(f"sqlite:///{self._path}", where=self.where)

    async def read(self, query: Callable[[Transaction], T]) -> T:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="legato-read")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def transact(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        if self.revision() != HEAD:
            # Never below a running server of another version.
            self._lock()
            try:
                self.migrate()
            finally:
                self._unlock()
        if writes and self.sealing is not None and not self._transact(self._is_encrypted, writes=False):
            # Never below a running server, which would go on without.
            self._lock()
            try:
                self.encrypt()
            finally:
                self._unlock()
        return self._transact(work, writes=writes)

    def _is_encrypted(self, tx: Transaction) -> bool:
        return admit(tx, self.sealing)

    def encrypt(self) -> None:
        # A command that turns it on holds the lock: no server runs then.
        sealing = self.sealing
        if sealing is None:
            self._transact(self._is_encrypted, writes=False)
        else:
            self._transact(lambda tx: take(tx, sealing, time.time_ns() // 1_000_000), writes=True)

    def _transact(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        with closing(self._connect(writes=writes)) as connection:
            cursor = connection.cursor()
            tx = _transaction(cursor, self.sealing)
            try:
                cursor.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                admit(tx, self.sealing)
                result = work(tx)
                cursor.execute("COMMIT")
                tx.settled(True)
            except sqlite3.Error as error:
                raise ConfigurationError(
                    f"the database {self._path} cannot be {'written' if writes else 'read'}: {error}"
                ) from error
            return result

    async def scrub(self) -> bool:
        return await asyncio.get_running_loop().run_in_executor(None, self._scrub)

    def _scrub(self) -> bool:
        # What is deleted is written over with zeros (secure_delete), in the write-ahead log first: the pages that are
        # in that log from before go when it is emptied.
        try:
            with closing(self._connect(writes=True)) as connection:
                # It waits for whoever reads, and whoever writes waits for it meanwhile.
                connection.execute(f"PRAGMA busy_timeout={SCRUB_WAIT_MS}")
                busy, left, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy and left == 0 and has_residue(self._path) and may_be_written_anew(self._path):
                    connection.execute("VACUUM")
                    busy, left, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (sqlite3.Error, ConfigurationError) as error:
            raise StorageUnavailable("the database's file cannot be cleaned at present: try again") from error
        return not busy and left == 0

    def give_back(self) -> None:
        # Threads that use them may be at work: SQLite is asked, as it is built nearly everywhere, to keep them apart.
        if sqlite3.threadsafety == 3:
            for connection in tuple(self._connections):
                connection.execute("PRAGMA shrink_memory")

    def writer(self, lane: Lane) -> SqliteWriter:
        connection = self._connect(writes=True)
        self._connections.append(connection)
        return SqliteWriter(connection, self.sealing)

    def close(self) -> None:
        if self._readers is not None:
            self._readers.shutdown()
            self._readers = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()
        self._unlock()

    def _lock(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its other files the rights of this one.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self._path.parent} cannot be used ({error.strerror}): "
                "give another one with --data-dir"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise ConfigurationError(
                f"another legato server uses the data folder {self._path.parent}: "
                "stop it, or give another folder with --data-dir"
            ) from error
        self._lock_fd = fd

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _connect(self, *, writes: bool) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, cached_statements=256, check_same_thread=False
            )
            # FULL flushes the write-ahead log at each commit, NORMAL only at checkpoints.
            synchronous = "FULL" if self._durability == "power" else "NORMAL"
            for pragma in (
                "journal_mode=WAL",
                f"synchronous={synchronous}",
                "busy_timeout=5000",
                "foreign_keys=ON",
                "temp_store=MEMORY",
                "wal_autocheckpoint=2000",
                "journal_size_limit=67108864",
                # Some builds of SQLite leave what was deleted in the file.
                "secure_delete=ON",
                f"query_only={'OFF' if writes else 'ON'}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise ConfigurationError(f"the database {self._path} cannot be opened: {error}") from error
        return connection

    def _read(self, query: Callable[[Transaction], T]) -> T:
        local = self._local
        if not hasattr(local, "tx"):
            connection = self._connect(writes=False)
            self._connections.append(connection)
            local.cursor = connection.cursor()
            local.tx = _transaction(local.cursor, self.sealing)
        try:
            local.cursor.execute("BEGIN")
            try:
                return query(local.tx)
            finally:
                local.cursor.execute("ROLLBACK")
                local.tx.settled(True)
        except sqlite3.OperationalError as error:
            raise StorageUnavailable("the database cannot be read at present: try again") from error


def _transaction(cursor: sqlite3.Cursor, sealing: Sealing | None) -> SqliteTransaction:
    if sealing is None:
        return SqliteTransaction(cursor)
    from legato.storage.sealed_sqlite import SealedSqliteTransaction

    return SealedSqliteTransaction(cursor, sealing)


def write_anew(path: Path) -> bool:
    """Write a file anew and empty its write-ahead log; return False where somebody uses it.

    Raises:
        sqlite3.Error: The disk is full, or the file is damaged.
    """
    with closing(sqlite3.connect(path, isolation_level=None, timeout=1)) as connection:
        try:
            # The log holds what pages were, until it has been written into the file and cut off.
            connection.execute("VACUUM")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise
    return not busy


def read_revision(path: Path) -> str | None:
    """Return the revision of a file's schema, or None where there is no database yet.

    Raises:
        sqlite3.Error: It cannot be read, or is no database.
    """
    if not path.exists():
        return None
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
        return found[0] if found else None

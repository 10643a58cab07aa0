"""SQLite: one connection that writes, a few that read, and the lock that makes this process the only server.

Everything that is written goes through the Committer's thread (storage.committer), so writers never meet. Reads run
in their own threads, on snapshots.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from legato.core.errors import ConfigurationError, StorageUnavailable
from legato.storage.statement import Transaction

T = TypeVar("T")
Durability = Literal["power", "process"]

READERS = 2
"""Threads that read. SQLite reads rarely wait; more would only contend for the interpreter."""


class Database:
    """One SQLite file and the folder that it lives in.

    Args:
        path: The database file; its folder is made if absent.
        durability: `power`: each commit is flushed to the disk. `process`: commits survive `kill -9`, but the
            last ones may be missing after a power cut.
    """

    def __init__(self, path: Path, *, durability: Durability = "power") -> None:
        self.path = path
        self._durability = durability
        self._lock_fd: int | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def lock(self) -> None:
        """Make this process the only server on the folder, until `close`.

        Raises:
            ConfigurationError: Another process has it, or the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its other files the rights of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self.path.parent} cannot be used ({error.strerror}): "
                "give another one with --data-dir"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise ConfigurationError(
                f"another legato server uses the data folder {self.path.parent}: "
                "stop it, or give another folder with --data-dir"
            ) from error
        self._lock_fd = fd

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """Open a connection for the calling thread.

        Raises:
            ConfigurationError: The file cannot be opened or is no database.
        """
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, cached_statements=256, check_same_thread=False
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
                f"query_only={'OFF' if writes else 'ON'}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise ConfigurationError(f"the database {self.path} cannot be opened: {error}") from error
        self._connections.append(connection)
        return connection

    async def read(self, query: Callable[[Transaction], T]) -> T:
        """Run `query` on a snapshot, in a reader's thread.

        Raises:
            StorageUnavailable: The database could not be read.
        """
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="legato-read")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def _read(self, query: Callable[[Transaction], T]) -> T:
        tx: Transaction | None = getattr(self._local, "tx", None)
        if tx is None:
            tx = self._local.tx = Transaction(self.connect(writes=False))
        try:
            tx.cursor.execute("BEGIN")
            try:
                return query(tx)
            finally:
                tx.cursor.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise StorageUnavailable("the database cannot be read at present: try again") from error

    def close(self) -> None:
        """Close all connections and give up the lock."""
        if self._readers is not None:
            self._readers.shutdown()
            self._readers = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

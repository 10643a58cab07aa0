"""A connection beside those that read and write, with a thread of its own: nothing that the server does holds it up.

What is written on it asks for no node: it is for what a node does as a member of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from legato.core.errors import StorageUnavailable
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_faults import Meaning, meaning_of
from legato.storage.postgres_transaction import PostgresTransaction
from legato.storage.statement import Transaction

T = TypeVar("T")


class Aside:
    """Made when it is first used, and again when it was lost.

    Args:
        statement_s: How long one statement may take; a silent server is given up a second later.
        wait_s: How long a caller waits in all, those before it included; None waits for ever.

    Attributes:
        connections: How often it has connected: what a session keeps (advisory locks) is gone with it.
    """

    def __init__(self, database: PostgresDatabase, *, statement_s: float, wait_s: float | None = None) -> None:
        self.connections = 0
        self._database = database
        self._statement_s = statement_s
        self._wait_s = wait_s
        self._tx: PostgresTransaction | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="legato-aside")

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction of its own, behind what was asked before.

        It may have been committed although an error says otherwise: `work` must be such that this does no harm.

        Raises:
            StorageUnavailable: The database is away.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        except TimeoutError as error:
            raise StorageUnavailable("the database does not answer at present") from error

    def close(self) -> None:
        """Let go of the connection, once what is under way is done; waits for nothing."""
        self._thread.submit(self._drop)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Transaction], T]) -> T:
        try:
            tx = self._begun()
            try:
                result = work(tx)
                tx.session.commit()
                return result
            finally:
                tx.session.roll_back()
                tx.settled(True)
        except psycopg.Error as error:
            if meaning_of(error) not in (Meaning.AWAY, Meaning.AGAIN):
                raise
            self._drop()
            raise StorageUnavailable("the database does not answer at present") from error

    def _begun(self) -> PostgresTransaction:
        """Begin a transaction; on a new connection where the old one was lost while nothing was asked."""
        known = self._tx
        tx = self._connected()
        try:
            tx.session.ask(b"BEGIN")
        except psycopg.Error:
            if tx is not known or not tx.session.lost:
                raise
            tx = self._connected()
            tx.session.ask(b"BEGIN")
        return tx

    def _connected(self) -> PostgresTransaction:
        if self._tx is None or self._tx.session.lost:
            self._drop()
            self._tx = self._database.transaction(self._database.connect(statement_s=self._statement_s))
            self.connections += 1
        return self._tx

    def _drop(self) -> None:
        tx, self._tx = self._tx, None
        if tx is not None:
            self._database.release(tx.session)

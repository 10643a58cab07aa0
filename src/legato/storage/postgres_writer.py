"""The connection that writes on PostgreSQL: pieces on one lane, commands on the other, each a transaction of its own.

A transaction that met another's is run again. A COMMIT whose answer was lost is looked up: a command of a node counts
up that node's mark in its own transaction, and pieces are there or not. (`pg_xact_status` would not do: a crash may
give the number of a lost transaction to another one.)
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from legato.core.errors import StorageUnavailable
from legato.storage.codec import SegmentPiece
from legato.storage.pieces import append_pieces, are_written
from legato.storage.postgres_faults import STALE, WAITED, Meaning, meaning_of
from legato.storage.postgres_transaction import PostgresTransaction, Session
from legato.storage.writer import Batch, Lane, NodeFenced, Unit, Writer

if TYPE_CHECKING:
    from legato.storage.postgres import PostgresDatabase

T = TypeVar("T")

RERUNS: Final = 5
"""How often a transaction is run again because it met another's."""
LIMITS_S: Final = {Lane.APPEND: 5.0, Lane.COMMAND: 10.0}
"""How long one statement may take. While pieces are being written nothing is shown, and nothing is held back."""
PAUSE_S: Final = 0.01
"""Before the first rerun; twice as long before each further one, and by chance shorter."""


@dataclass(slots=True, kw_only=True)
class _Unknown:
    """A command whose COMMIT was not answered."""

    unit: Unit
    value: Any
    node_key: int
    serial: int


class PostgresWriter(Writer):
    """The connection of one lane; made when there is something to write, and again when it was lost."""

    tx: PostgresTransaction

    def __init__(self, database: PostgresDatabase, lane: Lane) -> None:
        self._database = database
        self._lane = lane
        self._session: Session | None = None
        self._unknown: _Unknown | None = None
        self._node_key: int | None = None
        self._marked: int | None = None
        self._serial = 0

    def write(self, batch: Batch[Any]) -> None:
        self._node_key = batch.node_key
        self.settle()
        if batch.units:
            self._write_pieces(batch)
        else:
            super().write(batch)

    def append(self, pieces: Sequence[SegmentPiece]) -> None:
        """Write a row for each run's piece, in one statement.

        Raises:
            NodeFenced: This node must not write any more.
        """
        # A run that was let go has no key.
        mine = [piece for piece in pieces if piece[0]]
        if not mine:
            return
        try:
            count = append_pieces(self.tx, mine, node_key=self._node_key)
        except psycopg.errors.UniqueViolation:
            # It was tried before, and its answer was lost.
            if are_written(self.tx, mine):
                return
            raise
        except psycopg.Error as error:
            if error.sqlstate in STALE:
                self.tx.session.close()
            raise
        finally:
            # Each statement here is a transaction of its own.
            self.tx.settled(True)
        if count != len(mine):
            raise NodeFenced

    def both(self, pieces: Sequence[SegmentPiece], units: Sequence[Unit]) -> None:
        """Write them one after another: nothing here is shared by several commands."""
        if pieces:
            self.append(pieces)
        for unit in units:
            self.command(unit)

    def command(self, unit: Unit) -> None:
        """Write one command in a transaction of its own; run it again where it met another's.

        Raises:
            NodeFenced: This node must not write any more.
            StorageUnavailable: It met others too often; or it may have been written, and cannot be looked up.
        """
        if not unit.wanted:
            raise StorageUnavailable("nobody waits for this command any more")
        try:
            run_again(lambda: self._try(unit))
        except psycopg.Error as error:
            if meaning_of(error) is Meaning.AGAIN and not isinstance(error, psycopg.errors.UniqueViolation):
                raise StorageUnavailable("the database is busy with what this would change: try again") from error
            raise

    def is_away(self, error: Exception) -> bool:
        if isinstance(error, psycopg.Error):
            meaning = meaning_of(error)
            waited = meaning is Meaning.AGAIN and self._lane is Lane.APPEND
            return meaning is Meaning.AWAY or (waited and not isinstance(error, psycopg.errors.UniqueViolation))
        return isinstance(error, NodeFenced)

    def settle(self) -> None:
        """Connect where there is no connection, and find out what became of the last commit.

        Raises:
            psycopg.Error: The database is away.
        """
        session = self._session
        if session is None or session.lost:
            if session is not None:
                self._session = None
                self._database.release(session)
            session = self._session = self._database.connect(statement_s=LIMITS_S[self._lane])
            self.tx = self._database.transaction(session)
        self.tx.node_key = self._node_key
        if (unknown := self._unknown) is not None:
            # Waits for the old session, if that is still at it.
            order = f"SELECT serial FROM command_mark WHERE node_key = {unknown.node_key} FOR UPDATE"
            found = session.ask(order.encode())
            self._unknown = None
            unknown.unit.unsure = False
            if found.ntuples and int(found.get_value(0, 0) or 0) == unknown.serial:
                unknown.unit.value, unknown.unit.error, unknown.unit.done = unknown.value, None, True

    def _try(self, unit: Unit) -> None:
        """Run a command once."""
        self.settle()
        session, tx, node_key = self.tx.session, self.tx, self._node_key
        self._begin(session, node_key)
        committed = False
        try:
            value = unit.apply(tx)
            try:
                session.commit()
            except psycopg.Error as error:
                if not session.lost:
                    raise
                if node_key is None:
                    raise StorageUnavailable(
                        "the connection broke off while this was being saved: look whether it was"
                    ) from error
                unit.unsure = True
                self._unknown = _Unknown(unit=unit, value=value, node_key=node_key, serial=self._serial)
                raise
            committed = True
        except psycopg.Error as error:
            if error.sqlstate in STALE:
                session.close()
            raise
        finally:
            session.roll_back()
            tx.settled(committed)
        unit.value = value

    def _begin(self, session: Session, node_key: int | None) -> None:
        """Begin a transaction; a node's holds its row until the end, so that it cannot be fenced meanwhile."""
        if node_key is None:
            session.ask(b"BEGIN")
            return
        if self._marked != node_key:
            found = session.ask(_MARK % node_key)
            self._marked, self._serial = node_key, int(found.get_value(0, 0) or 0) if found.ntuples else 0
        self._serial += 1
        found = session.ask(_BEGIN % {b"node_key": node_key, b"serial": self._serial})
        if found.command_tuples != 1:
            session.roll_back()
            raise NodeFenced


_MARK: Final = b"""INSERT INTO command_mark AS mark SELECT key, 0 FROM node WHERE key = %d
ON CONFLICT (node_key) DO UPDATE SET serial = mark.serial RETURNING serial"""
_BEGIN: Final = b"""BEGIN;
WITH mine AS MATERIALIZED (SELECT FROM node WHERE key = %(node_key)d AND fenced_at IS NULL FOR KEY SHARE)
UPDATE command_mark SET serial = %(serial)d WHERE node_key = %(node_key)d AND EXISTS (SELECT FROM mine)"""


def run_again(transaction: Callable[[], T]) -> T:
    """Run a transaction, and again where it met another's, RERUNS times at most; once where it has waited for that.

    Raises:
        psycopg.Error: The last error.
    """
    for attempt in range(RERUNS):
        try:
            return transaction()
        except psycopg.Error as error:
            if meaning_of(error) is not Meaning.AGAIN or (error.sqlstate in WAITED and attempt):
                raise
        time.sleep(PAUSE_S * 2**attempt * random.random())
    return transaction()

"""A transaction on SQLite over sealed columns; loaded where encryption is on."""

from __future__ import annotations

from typing import Any

from legato.storage.sealed_transaction import SealedTransaction
from legato.storage.sealing import Sealing
from legato.storage.sqlite import SqliteTransaction


class SealedSqliteTransaction(SealedTransaction, SqliteTransaction):
    """Statements on one cursor, sealed and opened."""

    def __init__(self, cursor: Any, sealing: Sealing) -> None:
        super().__init__(cursor)
        self.begin_sealing(sealing)

"""A transaction on PostgreSQL over sealed columns; loaded where encryption is on."""

from __future__ import annotations

from legato.storage.postgres_transaction import PostgresTransaction, Session
from legato.storage.sealed_transaction import SealedTransaction
from legato.storage.sealing import Sealing


class SealedPostgresTransaction(SealedTransaction, PostgresTransaction):
    """Statements on one session, sealed and opened."""

    def __init__(self, session: Session, sealing: Sealing) -> None:
        super().__init__(session)
        self.begin_sealing(sealing)

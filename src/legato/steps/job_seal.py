"""Sealing what jobs carry: payloads, faults and error texts, under the data key of the owner that they are about.

The queue's tables are DBOS's own. What stands there is sealed before it is handed over and opened where it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from legato.core.errors import SealBroken
from legato.storage.database import Database
from legato.storage.encryption import QUEUE

if TYPE_CHECKING:
    from legato.storage.sealed_transaction import SealedTransaction
    from legato.storage.sealing import DataKey
    from legato.storage.statement import Transaction


class JobSeal:
    """Seals and opens texts of jobs; used in the queue's threads, where it may wait for the database.

    Another node may erase an owner, who has another data key when he comes back. What is sealed here comes of an event
    or a job that this process has opened just before, and with that it has learnt of the new key.

    Args:
        database: Of the server, with encryption on.
    """

    def __init__(self, database: Database) -> None:
        assert database.sealing is not None
        self._database = database
        self._sealing = database.sealing

    @property
    def takes_plain(self) -> bool:
        """Whether jobs may have been handed over before encryption was turned on."""
        return self._sealing.may_be_plain(QUEUE, 1)

    def seal(self, owner: str, column: str, job: str, text: str) -> str:
        """Return a text, sealed.

        Args:
            column: What it is of the job.
            job: Id of the event, or the tick, that the job is about.
        """
        from legato.storage.sealing import place_of

        key = self._sealing.known(owner) or self._look(owner, make=True)
        if key is None:
            raise SealBroken("there is no data key for what a job says")
        return key.seal_text(place_of(column, job), text)

    def open(self, owner: str, column: str, job: str, sealed: str) -> str:
        """Return what `seal` was given.

        Raises:
            SealBroken: It does not open, or its key was deleted.
        """
        from legato.storage.sealing import TAG, place_of

        if not sealed.startswith(TAG):
            raise SealBroken("what a job says is not sealed")
        place = place_of(column, job)
        if (key := self._sealing.known(owner)) is not None:
            try:
                return key.open_text(place, sealed)
            except SealBroken:
                # Another process may have made the owner's key anew.
                pass
        if (key := self._look(owner, make=False)) is None:
            raise SealBroken("the key of what a job says is gone: it was deleted for good")
        return key.open_text(place, sealed)

    def _look(self, owner: str, *, make: bool) -> DataKey | None:
        def look(tx: Transaction) -> DataKey | None:
            return cast("SealedTransaction", tx).data_key(owner, make=make, fresh=True)

        return self._database.transact(look, writes=make)


def seal_of(database: Database) -> JobSeal | None:
    """Return what seals the jobs of a server; None where encryption is off."""
    return None if database.sealing is None else JobSeal(database)

"""Shredding: with its data key gone, nothing that was sealed under it can be read again, wherever copies of it are."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import bindparam, update

from legato.storage.encryption_tables import WRAPPED_BYTES, data_key
from legato.storage.statement import Prepared, Transaction

if TYPE_CHECKING:
    from legato.storage.sealed_transaction import SealedTransaction
    from legato.storage.sealing import Scope

# Written over before it is deleted: a file keeps what is deleted for a while.
_BLANK_CONVERSATION = Prepared(
    update(data_key).where(data_key.c.conversation_key == bindparam("scope")).values(wrapped=bindparam("blank"))
)
_BLANK_OWNER = Prepared(
    update(data_key).where(data_key.c.owner == bindparam("scope")).values(wrapped=bindparam("blank"))
)
_DELETE_CONVERSATION = Prepared(data_key.delete().where(data_key.c.conversation_key == bindparam("scope")))
_DELETE_OWNER = Prepared(data_key.delete().where(data_key.c.owner == bindparam("scope")))


def shred(tx: Transaction, scope: Scope) -> None:
    """Delete the data key of a conversation or an owner, where encryption is on; beside what it sealed, or before."""
    if tx.sealing is None:
        return
    blank, delete = (
        (_BLANK_CONVERSATION, _DELETE_CONVERSATION) if isinstance(scope, int) else (_BLANK_OWNER, _DELETE_OWNER)
    )
    tx.run(blank, scope=scope, blank=bytes(WRAPPED_BYTES))
    tx.run(delete, scope=scope)
    cast("SealedTransaction", tx).drop_data_key(scope)

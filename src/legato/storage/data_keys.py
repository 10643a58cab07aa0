"""Data keys as rows: one for each conversation, and one for what an owner has outside of conversations."""

from __future__ import annotations

from sqlalchemy import bindparam, select

# Of the two spellings this one compiles for SQLite too.
from sqlalchemy.dialects.postgresql import insert as insert_or_pass

from legato.storage.encryption import current_root
from legato.storage.encryption_tables import data_key, encryption_root
from legato.storage.sealing import DataKey, Scope, Sealing, scope_bytes
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation

_columns = (data_key.c.root_id, data_key.c.wrapped)
_OF_CONVERSATION = Prepared(select(*_columns).where(data_key.c.conversation_key == bindparam("scope")))
_of_owner = select(*_columns).where(data_key.c.owner == bindparam("scope"))
_OF_OWNER = Prepared(_of_owner)
# Until the end of the transaction nobody deletes it: what is sealed under it would be lost.
_OF_OWNER_KEPT = Prepared(_of_owner.with_for_update(read=True, key_share=True))
_names = [column.name for column in data_key.columns if column.name not in ("key", "root_id")]
# Nothing where the root key is not the current one any more: who forgets it waits for what is wrapped under it.
_INSERT = Prepared(
    insert_or_pass(data_key)
    .from_select(
        ["root_id", *_names],
        select(encryption_root.c.id, *(bindparam(name, type_=data_key.c[name].type) for name in _names))
        .where(encryption_root.c.id == bindparam("of_root"), encryption_root.c.current)
        .with_for_update(read=True, key_share=True),
        include_defaults=False,
    )
    .on_conflict_do_nothing()
)
_IS_THERE = Prepared(select(conversation.c.key).where(conversation.c.key == bindparam("conversation_key")))


def find_data_key(tx: Transaction, scope: Scope, sealing: Sealing, *, keep: bool = False) -> DataKey | None:
    """Return a data key as this transaction sees it; None where there is none.

    Args:
        keep: Something is written under it: it stays until the transaction ends.

    Raises:
        EncryptionKeyMissing: Its root key is not known here.
        SealBroken: It was changed, or is another scope's.
    """
    if isinstance(scope, int):
        row = tx.one(_OF_CONVERSATION, scope=scope)
    else:
        row = tx.one(_OF_OWNER_KEPT if keep else _OF_OWNER, scope=scope)
    return None if row is None else sealing.unwrap(row.root_id, row.wrapped, scope)


def insert_data_key(tx: Transaction, scope: Scope, secret: bytes, sealing: Sealing, *, now_ms: int) -> bool:
    """Write a new data key, wrapped under the current root key; return False where there is one already."""
    root = current_root(tx, sealing)
    while not tx.run(
        _INSERT,
        conversation_key=scope if isinstance(scope, int) else None,
        owner=scope if isinstance(scope, str) else None,
        of_root=root.id,
        wrapped=root.wrap(secret, scope_bytes(scope)),
        created_at_ms=now_ms,
    ):
        if (now := current_root(tx, sealing)) is root:
            return False
        root = now
    return True


def is_there(tx: Transaction, conversation_key: int) -> bool:
    """Return whether a conversation is there, so that it may have a data key."""
    return tx.one(_IS_THERE, conversation_key=conversation_key) is not None

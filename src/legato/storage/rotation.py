"""Rotation: every data key is wrapped anew under the current root key, a page a transaction, beside servers at work.

What is sealed stays as it is. A page that was wrapped anew is not found again, so whoever was cut goes on where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, select, update

from legato.storage.encryption import current_root, root_ids
from legato.storage.encryption_tables import data_key
from legato.storage.statement import Prepared, Transaction

if TYPE_CHECKING:
    from legato.storage.sealing import Sealing

PAGE: Final = 500
"""Data keys wrapped anew in one transaction: a few milliseconds."""

_NEXT = Prepared(
    select(data_key.c.key, data_key.c.conversation_key, data_key.c.owner, data_key.c.wrapped)
    .where(data_key.c.root_id == bindparam("root_id"))
    .order_by(data_key.c.key)
    .limit(bindparam("most"))
    # Another process may rotate too, or delete.
    .with_for_update(skip_locked=True, key_share=True)
)
_REWRAP = Prepared(
    update(data_key)
    .where(data_key.c.key == bindparam("of_key"), data_key.c.root_id == bindparam("old_root"))
    .values(root_id=bindparam("new_root"), wrapped=bindparam("new_wrapped"))
)
_COUNT = Prepared(select(func.count().label("number")).where(data_key.c.root_id == bindparam("root_id")))


def rewrap_page(tx: Transaction, sealing: Sealing, *, most: int = PAGE) -> int:
    """Wrap the next data keys anew; return how many they were, 0 when none is left but those that others hold.

    Raises:
        EncryptionKeyMissing: A root key that wraps some of them is not known here.
        SealBroken: One was changed.
    """
    from legato.storage.sealing import scope_bytes

    current = current_root(tx, sealing, keep=True)
    for old in root_ids(tx):
        if old == current.id:
            continue
        rows = tx.all(_NEXT, root_id=old, most=most)
        root = sealing.roots.named(old)
        changes = []
        for row in rows:
            scope = scope_bytes(row.owner if row.conversation_key is None else row.conversation_key)
            wrapped = current.wrap(root.unwrap(row.wrapped, scope), scope)
            changes.append({"of_key": row.key, "old_root": old, "new_root": current.id, "new_wrapped": wrapped})
        tx.many(_REWRAP, changes)
        if rows:
            return len(rows)
    return 0


def count_by_root(tx: Transaction) -> dict[str, int]:
    """Return how many data keys are wrapped under each root key."""
    return {root_id: tx.one(_COUNT, root_id=root_id).number for root_id in root_ids(tx)}

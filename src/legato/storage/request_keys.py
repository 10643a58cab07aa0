"""Idempotency keys: which run a key began, for as long as it is known.

A key outlives its run: a repeat is answered, be it with the news that the reply is gone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, select, tuple_

from legato.core.errors import Gone, KeyReused
from legato.storage.runs import find_run
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import request_key

REQUEST_KEY_MS: Final = 24 * 3600 * 1000
"""How long an idempotency key is known."""


_SELECT_KEY = Prepared(
    select(request_key.c.body_hash, request_key.c.run_id).where(
        request_key.c.owner == bindparam("owner"),
        request_key.c.key == bindparam("key"),
        request_key.c.created_at_ms > bindparam("since_ms"),
    )
)
_INSERT_KEY = insert_into(request_key)
_DELETE_KEY = Prepared(
    request_key.delete().where(
        request_key.c.owner == bindparam("owner"),
        request_key.c.key == bindparam("key"),
        request_key.c.created_at_ms <= bindparam("before_ms"),
    )
)
_DELETE_KEYS = Prepared(
    request_key.delete().where(
        tuple_(request_key.c.owner, request_key.c.key).in_(
            select(request_key.c.owner, request_key.c.key)
            .where(request_key.c.created_at_ms <= bindparam("before_ms"))
            .order_by(request_key.c.created_at_ms)
            .limit(500)
            .with_for_update(skip_locked=True)
        ),
        request_key.c.created_at_ms <= bindparam("before_ms"),
    )
)


def knows_key(tx: Transaction, owner: str, key: str, now_ms: int) -> bool:
    """Whether an idempotency key was used within the last 24 hours."""
    return tx.one(_SELECT_KEY, owner=owner, key=key, since_ms=now_ms - REQUEST_KEY_MS) is not None


def find_repeated(tx: Transaction, owner: str, key: str, body_hash: bytes, now_ms: int) -> str | None:
    """Return the id of the run that a key began within the last 24 hours, or None.

    Raises:
        KeyReused: It began one with another body.
        Gone: Its run has been deleted.
    """
    known = tx.one(_SELECT_KEY, owner=owner, key=key, since_ms=now_ms - REQUEST_KEY_MS)
    if known is None:
        return None
    if known.body_hash != body_hash:
        raise KeyReused.of("Idempotency-Key", "was used before with another body: use a new key for a new message")
    if find_run(tx, owner, known.run_id) is None:
        raise Gone("the reply that this key began has been deleted")
    return str(known.run_id)


def keep_key(tx: Transaction, owner: str, key: str, *, body_hash: bytes, run_id: str, now_ms: int) -> None:
    """Keep a key with the run that it begins, and forget some that are old.

    Another node that keeps the same key at this moment is waited for: the second of them finds it taken, and is done
    again by its writer.
    """
    # The same key may be among those that are old. It goes first: whoever waited for it with others in hand could be
    # waited for.
    before_ms = now_ms - REQUEST_KEY_MS
    tx.run(_DELETE_KEY, owner=owner, key=key, before_ms=before_ms)
    tx.run(_DELETE_KEYS, before_ms=before_ms)
    tx.run(_INSERT_KEY, owner=owner, key=key, body_hash=body_hash, run_id=run_id, created_at_ms=now_ms)


def prune_keys(tx: Transaction, now_ms: int) -> int:
    """Forget some of the keys that are old, where nobody keeps new ones; return how many."""
    return tx.run(_DELETE_KEYS, before_ms=now_ms - REQUEST_KEY_MS)

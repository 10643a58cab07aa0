"""API keys: shown once, stored as a hash, compared in constant time.

A key is `lk_<id>_<secret>`: the id finds the row, the secret (256 random bits) proves the holder. A hash without salt
or stretching is right for a secret that nobody can guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from legato.core.principal import Principal, Role
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import api_key

_INSERT = Prepared(insert(api_key).values({column.name: bindparam(column.name) for column in api_key.columns}))
_FIND = Prepared(select(*api_key.columns).where(api_key.c.id == bindparam("id")))
_LIST = Prepared(select(*api_key.columns).order_by(api_key.c.created_at_ms, api_key.c.id))
_REVOKE = Prepared(
    update(api_key)
    .where(api_key.c.id == bindparam("key_id"), api_key.c.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("now_ms"))
)
PREFIX = "lk_"


def create_key(tx: Transaction, *, owner: str, role: Role, name: str, now_ms: int) -> str:
    """Make a key for an owner and return it; it cannot be read again."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    tx.insert(
        _INSERT,
        id=key_id,
        owner=owner,
        role=role,
        name=name,
        hash=_hash(secret),
        created_at_ms=now_ms,
        revoked_at_ms=None,
    )
    return f"{PREFIX}{key_id}_{secret}"


def find_principal(tx: Transaction, key: str) -> Principal | None:
    """Return whose key this is, or None where it is nobody's (any more)."""
    key_id, _, secret = key.removeprefix(PREFIX).partition("_")
    row = tx.one(_FIND, id=key_id)
    # The hash is compared for an unknown id too, so that time does not tell which ids exist.
    right = hmac.compare_digest(row.hash if row else bytes(32), _hash(secret))
    if not right or row is None or row.revoked_at_ms is not None or not key.startswith(PREFIX):
        return None
    return Principal(id=row.owner, role=row.role)


def list_keys(tx: Transaction) -> list[Any]:
    """Return all keys' rows, oldest first."""
    return tx.all(_LIST)


def revoke_key(tx: Transaction, key_id: str, now_ms: int) -> bool:
    """Make a key worthless; return whether it was good until now."""
    return tx.run(_REVOKE, key_id=key_id, now_ms=now_ms) == 1


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

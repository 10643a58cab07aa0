"""API keys: shown once, stored as a hash, compared in constant time.

A secret key is `lk_<id>_<secret>`, a publishable one `lp_<id>_<secret>`: the id finds the row, the secret (256 random
bits) proves the holder. A hash without salt or stretching is right for a secret that nobody can guess. A publishable
key stands in web pages and is no secret; it is tied to their origins, and has a secret of the server's own that signs
the tokens of its visitors.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import bindparam, delete, insert, select, update

from legato.core.principal import VISITOR, Principal, Role
from legato.storage.erasures import check_not_being_erased
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import api_key, sign_in

_INSERT = Prepared(insert(api_key).values({column.name: bindparam(column.name) for column in api_key.columns}))
_FIND = Prepared(select(*api_key.columns).where(api_key.c.id == bindparam("id")))
_LIST = Prepared(select(*api_key.columns).order_by(api_key.c.created_at_ms, api_key.c.id))
_ORIGINS = Prepared(
    select(api_key.c.origins).where(api_key.c.origins.is_not(None), api_key.c.revoked_at_ms.is_(None)).distinct()
)
_REVOKE = Prepared(
    update(api_key)
    .where(api_key.c.id == bindparam("key_id"), api_key.c.revoked_at_ms.is_(None))
    .values(revoked_at_ms=bindparam("now_ms"))
)
_SIGN_OUT = Prepared(delete(sign_in).where(sign_in.c.key_id == bindparam("key_id")))
PREFIX: Final = "lk_"
PUBLISHABLE: Final = "lp_"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodKey:
    """A key that was made and not revoked.

    Attributes:
        origins: Of a publishable key: whose pages may use it. Empty of a secret one.
        signing_secret: What signs the tokens of a publishable key's visitors; empty of a secret one.
    """

    id: str
    owner: str
    name: str
    role: Role | Literal["visitor"]
    origins: frozenset[str]
    signing_secret: bytes


def create_key(tx: Transaction, *, owner: str, role: Role, name: str, now_ms: int) -> str:
    """Make a secret key for an owner and return it; it cannot be read again.

    Raises:
        BeingErased: All that the owner had is being erased.
    """
    check_not_being_erased(tx, owner)
    return _create(tx, PREFIX, secrets.token_hex(6), owner=owner, role=role, name=name, now_ms=now_ms)


def create_publishable_key(tx: Transaction, *, name: str, origins: Sequence[str], now_ms: int) -> str:
    """Make a publishable key and return it; it cannot be read again.

    Args:
        origins: At least one, each as core.origins.parse_origin returns it.
    """
    key_id = secrets.token_hex(6)
    return _create(
        tx,
        PUBLISHABLE,
        key_id,
        owner=f"{VISITOR}{key_id}",
        role="visitor",
        name=name,
        now_ms=now_ms,
        origins=json.dumps(sorted(set(origins))),
        signing_secret=secrets.token_bytes(32),
    )


def find_principal(tx: Transaction, key: str) -> Principal | None:
    """Return whose secret key this is, or None where it is nobody's (any more)."""
    found = find_key(tx, key)
    if found is None or found.origins:
        return None
    return Principal(id=found.owner, role=found.role)


def find_key(tx: Transaction, key: str) -> GoodKey | None:
    """Return a secret or publishable key, or None where there is no such one (any more)."""
    kind, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    row = tx.one(_FIND, id=key_id)
    # The hash is compared for an unknown id too, so that time does not tell which ids exist.
    right = hmac.compare_digest(row.hash if row else bytes(32), _hash(secret))
    if not right or row is None:
        return None
    # A publishable key's words under the other prefix are no secret key.
    return _good(row) if f"{kind}_" == (PREFIX if row.origins is None else PUBLISHABLE) else None


def find_publishable_key(tx: Transaction, key_id: str) -> GoodKey | None:
    """Return the publishable key with an id, whose visitors' tokens name it; None where there is none (any more)."""
    row = tx.one(_FIND, id=key_id)
    return _good(row) if row is not None and row.origins is not None else None


def find_origins(tx: Transaction) -> frozenset[str]:
    """Return the origins of all publishable keys."""
    return frozenset(origin for row in tx.all(_ORIGINS) for origin in json.loads(row.origins))


def list_keys(tx: Transaction) -> list[Any]:
    """Return all keys' rows, oldest first."""
    return tx.all(_LIST)


def revoke_key(tx: Transaction, key_id: str, now_ms: int) -> bool:
    """Make a key worthless, and sign out who came by it; return whether it was good until now."""
    tx.run(_SIGN_OUT, key_id=key_id)
    return tx.run(_REVOKE, key_id=key_id, now_ms=now_ms) == 1


def _create(
    tx: Transaction,
    prefix: str,
    key_id: str,
    *,
    owner: str,
    role: str,
    name: str,
    now_ms: int,
    origins: str | None = None,
    signing_secret: bytes | None = None,
) -> str:
    secret = secrets.token_urlsafe(32)
    tx.insert(
        _INSERT,
        id=key_id,
        owner=owner,
        role=role,
        name=name,
        hash=_hash(secret),
        created_at_ms=now_ms,
        revoked_at_ms=None,
        origins=origins,
        signing_secret=signing_secret,
    )
    return f"{prefix}{key_id}_{secret}"


def _good(row: Any) -> GoodKey | None:
    if row.revoked_at_ms is not None:
        return None
    origins = frozenset(json.loads(row.origins)) if row.origins is not None else frozenset()
    return GoodKey(
        id=row.id,
        owner=row.owner,
        name=row.name,
        role=row.role,
        origins=origins,
        signing_secret=row.signing_secret or b"",
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

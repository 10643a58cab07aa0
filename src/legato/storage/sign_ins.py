"""Pages that are signed in: a random token in a cookie, stored as a hash, bound to the key that it was given for.

A sign-in is over when it was not used for IDLE_MS, at the latest MOST_MS after its beginning, and with its key.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from legato.core.principal import Role
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import api_key, sign_in

DAY_MS: Final = 86_400_000
IDLE_MS: Final = 14 * DAY_MS
MOST_MS: Final = 90 * DAY_MS
RENEW_MS: Final = 3_600_000
"""A sign-in that is used is put off so often at most."""
MOST_OF_A_KEY: Final = 100
"""Past it the oldest are over."""

_INSERT = insert_into(sign_in)
_FIND = Prepared(
    select(api_key.c.id, api_key.c.owner, api_key.c.role, sign_in.c.created_at_ms, sign_in.c.expires_at_ms)
    .select_from(sign_in)
    .join(api_key, api_key.c.id == sign_in.c.key_id)
    .where(
        sign_in.c.hash == bindparam("hash"),
        sign_in.c.expires_at_ms > bindparam("now_ms"),
        api_key.c.revoked_at_ms.is_(None),
        api_key.c.origins.is_(None),
    )
)
_RENEW = Prepared(
    update(sign_in)
    .where(sign_in.c.hash == bindparam("of_hash"), sign_in.c.expires_at_ms < bindparam("until_ms"))
    .values(expires_at_ms=bindparam("until_ms"))
)
_END = Prepared(delete(sign_in).where(sign_in.c.hash == bindparam("hash")))
# What another page's sign-in is deleting at this moment is left to it.
_over = (
    select(sign_in.c.hash)
    .where(sign_in.c.expires_at_ms <= bindparam("now_ms"))
    .order_by(sign_in.c.expires_at_ms)
    .limit(500)
    .with_for_update(skip_locked=True)
)
_FORGET = Prepared(delete(sign_in).where(sign_in.c.hash.in_(_over)))
_LATEST = (
    select(sign_in.c.hash)
    .where(sign_in.c.key_id == bindparam("key_id"))
    .order_by(sign_in.c.created_at_ms.desc())
    .limit(MOST_OF_A_KEY)
)
_crowded = (
    select(sign_in.c.hash)
    .where(sign_in.c.key_id == bindparam("key_id"), sign_in.c.hash.not_in(_LATEST))
    .with_for_update(skip_locked=True)
)
_CROWD_OUT = Prepared(delete(sign_in).where(sign_in.c.hash.in_(_crowded)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Who is signed in, and until when (epoch milliseconds).

    Attributes:
        renewal_ms: Until when it is good if it is put off now; None where that is not due.
    """

    key_id: str
    owner: str
    role: Role
    expires_at_ms: int
    renewal_ms: int | None


def create_sign_in(tx: Transaction, key_id: str, now_ms: int) -> str:
    """Sign in whoever holds a key; return the token, which cannot be read again."""
    token = secrets.token_urlsafe(32)
    tx.run(_FORGET, now_ms=now_ms)
    tx.insert(_INSERT, hash=_hash(token), key_id=key_id, created_at_ms=now_ms, expires_at_ms=now_ms + IDLE_MS)
    tx.run(_CROWD_OUT, key_id=key_id)
    return token


def find_sign_in(tx: Transaction, token: str, now_ms: int) -> SignIn | None:
    """Return whose token this is, or None where it is nobody's (any more)."""
    row = tx.one(_FIND, hash=_hash(token), now_ms=now_ms)
    if row is None:
        return None
    until_ms = min(now_ms + IDLE_MS, row.created_at_ms + MOST_MS)
    return SignIn(
        key_id=row.id,
        owner=row.owner,
        role=row.role,
        expires_at_ms=row.expires_at_ms,
        renewal_ms=until_ms if until_ms - row.expires_at_ms >= RENEW_MS else None,
    )


def renew_sign_in(tx: Transaction, token: str, until_ms: int) -> None:
    """Put the end of a sign-in off."""
    tx.run(_RENEW, of_hash=_hash(token), until_ms=until_ms)


def end_sign_in(tx: Transaction, token: str) -> bool:
    """Sign out; return whether this token was signed in until now."""
    return tx.run(_END, hash=_hash(token)) == 1


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

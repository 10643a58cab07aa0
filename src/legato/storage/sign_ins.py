"""Pages that are signed in: a random token in a cookie, stored as a hash, bound to a key or to an account.

A sign-in is over when it was not used for its idle time, at the latest so long after its beginning, and with its key or
account. Its token is exchanged now and then. The new one is `next_hash` until a request brings it: a browser that
never got the answer it came with goes on with the one it has. From then on the former one is good for GRACE_MS, for
what was on its way.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from sqlalchemy import bindparam, delete, null, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from legato.core.ids import new_id
from legato.core.principal import Role, SignedInBy
from legato.storage.account_tables import account
from legato.storage.statement import Prepared, Transaction, insert_into
from legato.storage.tables import api_key, sign_in

DAY_MS: Final = 86_400_000
IDLE_MS: Final = 14 * DAY_MS
MOST_MS: Final = 90 * DAY_MS
ROTATE_MS: Final = DAY_MS
RENEW_MS: Final = 3_600_000
"""A sign-in that is used is put off so often at most."""
GRACE_MS: Final = 60_000
"""How long a former token is good, and how long a new one that no request has brought yet is waited for."""
MOST_OF_A_KEY: Final = 100
"""Past it the oldest are over; of an account too."""
MAX_AGENT_CHARS: Final = 200

_INSERT = insert_into(sign_in)
_COLUMNS = (
    *sign_in.columns,
    api_key.c.owner.label("key_owner"),
    api_key.c.role.label("key_role"),
    api_key.c.name.label("key_name"),
    api_key.c.revoked_at_ms,
    api_key.c.origins,
    account.c.owner.label("account_owner"),
    account.c.role.label("account_role"),
    account.c.label,
    account.c.disabled_at_ms,
)


def _find(condition: ColumnElement[bool]) -> Prepared:
    return Prepared(
        select(*_COLUMNS)
        .select_from(sign_in)
        .outerjoin(api_key, api_key.c.id == sign_in.c.key_id)
        .outerjoin(account, account.c.id == sign_in.c.account_id)
        .where(condition, sign_in.c.expires_at_ms > bindparam("now_ms"))
    )


_FIND = _find(sign_in.c.hash == bindparam("hash"))
_FIND_NEXT = _find(sign_in.c.next_hash == bindparam("hash"))
_FIND_FORMER = _find((sign_in.c.former_hash == bindparam("hash")) & (sign_in.c.rotated_at_ms > bindparam("since_ms")))
_RENEW = Prepared(
    update(sign_in)
    .where(sign_in.c.hash == bindparam("of_hash"), sign_in.c.expires_at_ms < bindparam("until_ms"))
    .values(expires_at_ms=bindparam("until_ms"), used_at_ms=bindparam("now_ms"))
)
_OFFER = Prepared(
    update(sign_in)
    .where(
        sign_in.c.hash == bindparam("of_hash"),
        or_(sign_in.c.next_hash.is_(None), sign_in.c.next_at_ms <= bindparam("since_ms")),
    )
    .values(next_hash=bindparam("new_hash"), next_at_ms=bindparam("now_ms"))
)
_TAKE_NEXT = Prepared(
    update(sign_in)
    .where(sign_in.c.next_hash == bindparam("of_hash"))
    .values(
        former_hash=sign_in.c.hash,
        hash=sign_in.c.next_hash,
        next_hash=null(),
        next_at_ms=null(),
        rotated_at_ms=bindparam("now_ms"),
    )
)
_by_token = or_(
    sign_in.c.hash == bindparam("hash"),
    sign_in.c.next_hash == bindparam("hash"),
    sign_in.c.former_hash == bindparam("hash"),
)
_END = Prepared(delete(sign_in).where(_by_token))
_LIST = Prepared(
    select(*sign_in.columns)
    .where(sign_in.c.owner == bindparam("owner"), sign_in.c.expires_at_ms > bindparam("now_ms"))
    .order_by(sign_in.c.created_at_ms.desc())
)
_END_ONE = Prepared(delete(sign_in).where(sign_in.c.owner == bindparam("owner"), sign_in.c.id == bindparam("id")))
_keys_of = select(api_key.c.id).where(api_key.c.owner == bindparam("owner"))
_END_ALL = Prepared(delete(sign_in).where(or_(sign_in.c.owner == bindparam("owner"), sign_in.c.key_id.in_(_keys_of))))
_END_OF_ACCOUNT = Prepared(delete(sign_in).where(sign_in.c.account_id == bindparam("account_id")))
_END_OTHERS = Prepared(
    delete(sign_in).where(sign_in.c.account_id == bindparam("account_id"), sign_in.c.id != bindparam("keep_id"))
)
# What another page's sign-in is deleting at this moment is left to it.
_over = (
    select(sign_in.c.hash)
    .where(sign_in.c.expires_at_ms <= bindparam("now_ms"))
    .order_by(sign_in.c.expires_at_ms)
    .limit(500)
    .with_for_update(skip_locked=True)
)
_FORGET = Prepared(delete(sign_in).where(sign_in.c.hash.in_(_over)))


def _crowd_out(column: ColumnElement[Any], value: str) -> Prepared:
    latest = (
        select(sign_in.c.hash)
        .where(column == bindparam(value))
        .order_by(sign_in.c.created_at_ms.desc())
        .limit(MOST_OF_A_KEY)
    )
    crowded = (
        select(sign_in.c.hash)
        .where(column == bindparam(value), sign_in.c.hash.not_in(latest))
        .with_for_update(skip_locked=True)
    )
    return Prepared(delete(sign_in).where(sign_in.c.hash.in_(crowded)))


_CROWD_OUT = _crowd_out(sign_in.c.key_id, "key_id")
_CROWD_OUT_OF_ACCOUNT = _crowd_out(sign_in.c.account_id, "account_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """How long sign-ins last, in milliseconds: without use, at the most, and between two tokens."""

    idle_ms: int = IDLE_MS
    most_ms: int = MOST_MS
    rotate_ms: int = ROTATE_MS


LIVES: Final = Lives()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Who is signed in, and until when (epoch milliseconds).

    Attributes:
        id: What its owner knows it by; empty of one that an older version has made.
        key_id: Of the key that it came by; None where it came by an account.
        name: How people call who is signed in: the account's, or the key's.
        hash: Of its row.
        renewal_ms: Until when it is good if it is put off now; None where that is not due.
        stage: Of the token: `now` is what the row is kept under; `next` the one that the browser was given last and
            has brought just now; `former` one that was exchanged a moment ago.
        rotates: Whether a new token is due.
    """

    id: str
    key_id: str | None
    account_id: str | None
    owner: str
    role: Role
    name: str
    way: SignedInBy
    hash: bytes
    expires_at_ms: int
    renewal_ms: int | None
    stage: Literal["now", "next", "former"]
    rotates: bool


def create_sign_in(
    tx: Transaction,
    now_ms: int,
    *,
    owner: str,
    key_id: str | None = None,
    account_id: str | None = None,
    way: SignedInBy = "key",
    agent: str = "",
    lives: Lives = LIVES,
) -> str:
    """Sign in whoever holds a key, or has an account; return the token, which cannot be read again.

    Args:
        agent: What the browser calls itself.
    """
    token = secrets.token_urlsafe(32)
    tx.run(_FORGET, now_ms=now_ms)
    tx.insert(
        _INSERT,
        hash=_hash(token),
        id=new_id("i", now_ms),
        key_id=key_id or "",
        account_id=account_id,
        owner=owner,
        way=way,
        agent=agent[:MAX_AGENT_CHARS],
        created_at_ms=now_ms,
        used_at_ms=now_ms,
        rotated_at_ms=now_ms,
        expires_at_ms=now_ms + lives.idle_ms,
        next_hash=None,
        next_at_ms=None,
        former_hash=None,
    )
    if account_id is not None:
        tx.run(_CROWD_OUT_OF_ACCOUNT, account_id=account_id)
    else:
        tx.run(_CROWD_OUT, key_id=key_id)
    return token


def find_sign_in(tx: Transaction, token: str, now_ms: int, lives: Lives = LIVES) -> SignIn | None:
    """Return whose token this is, or None where it is nobody's (any more)."""
    digest = _hash(token)
    stage: Literal["now", "next", "former"] = "now"
    row = tx.one(_FIND, hash=digest, now_ms=now_ms)
    if row is None:
        stage, row = "next", tx.one(_FIND_NEXT, hash=digest, now_ms=now_ms)
    if row is None:
        stage, row = "former", tx.one(_FIND_FORMER, hash=digest, now_ms=now_ms, since_ms=now_ms - GRACE_MS)
    if row is None:
        return None
    if row.account_id is not None:
        owner, role, name = row.account_owner, row.account_role, row.label
        good = owner is not None and row.disabled_at_ms is None
    else:
        owner, role, name = row.key_owner, row.key_role, row.key_name
        good = owner is not None and row.revoked_at_ms is None and row.origins is None
    if not good:
        return None
    until_ms = min(now_ms + lives.idle_ms, row.created_at_ms + lives.most_ms)
    since_ms = row.created_at_ms if row.rotated_at_ms is None else row.rotated_at_ms
    offered = row.next_at_ms is not None and row.next_at_ms > now_ms - GRACE_MS
    return SignIn(
        id=row.id or "",
        key_id=row.key_id or None,
        account_id=row.account_id,
        owner=owner,
        role=role,
        name=name,
        way=cast(SignedInBy, row.way or "key"),
        hash=row.hash,
        expires_at_ms=row.expires_at_ms,
        renewal_ms=until_ms if until_ms - row.expires_at_ms >= RENEW_MS else None,
        stage=stage,
        rotates=stage == "now" and not offered and now_ms - since_ms >= lives.rotate_ms,
    )


def renew_sign_in(tx: Transaction, row_hash: bytes, until_ms: int, now_ms: int) -> None:
    """Put the end of a sign-in off."""
    tx.run(_RENEW, of_hash=row_hash, until_ms=until_ms, now_ms=now_ms)


def offer_token(tx: Transaction, row_hash: bytes, now_ms: int) -> str | None:
    """Return a new token for a sign-in, which counts beside the present one until it is used; None where another
    request has been given one just now."""
    token = secrets.token_urlsafe(32)
    offered = tx.run(_OFFER, of_hash=row_hash, new_hash=_hash(token), now_ms=now_ms, since_ms=now_ms - GRACE_MS)
    return token if offered == 1 else None


def take_next_token(tx: Transaction, token: str, now_ms: int) -> None:
    """Make the token that was offered the sign-in's own: its browser has it."""
    tx.run(_TAKE_NEXT, of_hash=_hash(token), now_ms=now_ms)


def end_sign_in(tx: Transaction, token: str) -> bool:
    """Sign out; return whether this token was signed in until now."""
    return tx.run(_END, hash=_hash(token)) == 1


def list_sign_ins(tx: Transaction, owner: str, now_ms: int) -> list[Any]:
    """Return the rows of an owner's sign-ins, the newest first."""
    return tx.all(_LIST, owner=owner, now_ms=now_ms)


def end_one(tx: Transaction, owner: str, sign_in_id: str) -> bool:
    """End one sign-in of an owner; return whether there was such a one."""
    return tx.run(_END_ONE, owner=owner, id=sign_in_id) == 1


def end_all(tx: Transaction, owner: str) -> int:
    """End all sign-ins of an owner, by whatever key or account; return how many there were."""
    return tx.run(_END_ALL, owner=owner)


def end_all_of_account(tx: Transaction, account_id: str, *, but: str | None = None) -> int:
    """End all sign-ins of an account, or all but one; return how many there were."""
    if but is None:
        return tx.run(_END_OF_ACCOUNT, account_id=account_id)
    return tx.run(_END_OTHERS, account_id=account_id, keep_id=but)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

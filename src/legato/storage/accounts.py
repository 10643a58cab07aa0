"""Accounts: of a person who signs in with a name and a password, at an issuer, or either way.

An account that an issuer's person has is found by (issuer, subject) alone. It owns rows under its own random id, which
nobody can choose; a local one owns them under its name unless it was made for another owner, as keys do.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, null, select, update
from sqlalchemy.dialects.postgresql import insert

from legato.core.ids import id_fault
from legato.core.principal import Role
from legato.storage.account_tables import account
from legato.storage.erasures import check_not_being_erased
from legato.storage.sign_ins import end_all_of_account
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import sign_in

_INSERT = Prepared(
    insert(account).values({column.name: bindparam(column.name) for column in account.columns}).on_conflict_do_nothing()
)
_BY_NAME = Prepared(select(*account.columns).where(account.c.name == bindparam("name")))
_BY_ID = Prepared(select(*account.columns).where(account.c.id == bindparam("id")))
_BY_SUBJECT = Prepared(
    select(*account.columns).where(account.c.issuer == bindparam("issuer"), account.c.subject == bindparam("subject"))
)
_LIST = Prepared(select(*account.columns).order_by(account.c.created_at_ms, account.c.id))
_SET_PASSWORD = Prepared(
    update(account)
    .where(account.c.id == bindparam("account_id"))
    .values(password_hash=bindparam("new_hash"), password_at_ms=bindparam("now_ms"))
)
_REHASH = Prepared(
    update(account)
    .where(account.c.id == bindparam("account_id"), account.c.password_hash == bindparam("old_hash"))
    .values(password_hash=bindparam("new_hash"))
)
# Locked until the sign-in is there: who changes the password, or disables the account, ends that one too.
_STANDS = Prepared(
    select(account.c.password_hash)
    .where(account.c.id == bindparam("account_id"), account.c.disabled_at_ms.is_(None))
    .with_for_update(read=True)
)
_SET_ROLE = Prepared(
    update(account)
    .where(account.c.id == bindparam("account_id"))
    .values(role=bindparam("new_role"), label=bindparam("new_label"))
)
_DISABLE = Prepared(
    update(account)
    .where(account.c.id == bindparam("account_id"), account.c.disabled_at_ms.is_(None))
    .values(disabled_at_ms=bindparam("now_ms"))
)
_ENABLE = Prepared(
    update(account)
    .where(account.c.id == bindparam("account_id"), account.c.disabled_at_ms.is_not(None))
    .values(disabled_at_ms=null())
)
_REMOVE = Prepared(delete(account).where(account.c.id == bindparam("account_id")))
_OF_OWNER = Prepared(select(account.c.id).where(account.c.owner == bindparam("owner")).limit(bindparam("most")))
_of_owner = select(sign_in.c.hash).where(sign_in.c.owner == bindparam("owner")).limit(bindparam("most"))
_END_OF_OWNER = Prepared(delete(sign_in).where(sign_in.c.hash.in_(_of_owner)))
ID_PREFIX: Final = "account:"
"""Begins the ids of accounts, which own rows; no account has such a name."""
MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as it stands.

    Attributes:
        name: What is typed to sign in with a password; None of who comes from an issuer alone.
        label: How people call it.
        password_hash: In argon2's own form; None where there is no password.
    """

    id: str
    name: str | None
    label: str
    owner: str
    role: Role
    password_hash: str | None
    issuer: str | None
    subject: str | None
    created_at_ms: int
    disabled_at_ms: int | None


def fold_name(name: str) -> str:
    """Return a name as it is looked up: Ann, ann and ａｎｎ are one person."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()


def name_fault(name: str) -> str | None:
    """Return what is wrong with the name of an account, or None."""
    if not fold_name(name):
        return "is blank"
    if name.startswith(ID_PREFIX):
        return f"begins with {ID_PREFIX!r}, as the ids of accounts do: take another name"
    return id_fault(name)


def create_account(
    tx: Transaction,
    *,
    now_ms: int,
    label: str,
    role: Role,
    name: str | None = None,
    owner: str | None = None,
    password_hash: str | None = None,
    issuer: str | None = None,
    subject: str | None = None,
) -> Account | None:
    """Make an account; None where there is one already of that name, or of that issuer's person.

    Args:
        owner: Of its conversations; by default the account itself.

    Raises:
        BeingErased: All that the owner had is being erased.
    """
    if owner is not None:
        check_not_being_erased(tx, owner)
    account_id = ID_PREFIX + secrets.token_hex(10)
    made = Account(
        id=account_id,
        name=None if name is None else fold_name(name),
        label=label[:MAX_NAME_CHARS],
        owner=owner or account_id,
        role=role,
        password_hash=password_hash,
        issuer=issuer,
        subject=subject,
        created_at_ms=now_ms,
        disabled_at_ms=None,
    )
    values = {name: getattr(made, name) for name in Account.__slots__}
    password_at_ms = now_ms if password_hash is not None else None
    return made if tx.run(_INSERT, password_at_ms=password_at_ms, **values) == 1 else None


def find_by_name(tx: Transaction, name: str) -> Account | None:
    """Return the account that signs in by a name, in whatever case it is written."""
    return _account(tx.one(_BY_NAME, name=fold_name(name)))


def find_by_id(tx: Transaction, account_id: str) -> Account | None:
    """Return the account with an id."""
    return _account(tx.one(_BY_ID, id=account_id))


def find_by_subject(tx: Transaction, issuer: str, subject: str) -> Account | None:
    """Return the account of an issuer's person."""
    return _account(tx.one(_BY_SUBJECT, issuer=issuer, subject=subject))


def list_accounts(tx: Transaction) -> list[Any]:
    """Return all accounts' rows, oldest first."""
    return tx.all(_LIST)


def set_password(tx: Transaction, account_id: str, password_hash: str, now_ms: int, *, keep: str | None = None) -> None:
    """Give an account another password, and end its sign-ins, or all but the one that is kept."""
    tx.run(_SET_PASSWORD, account_id=account_id, new_hash=password_hash, now_ms=now_ms)
    end_all_of_account(tx, account_id, but=keep)


def still_stands(tx: Transaction, account_id: str, password_hash: str | None) -> bool:
    """Whether an account lets its person in, with the same password as when that was looked at.

    Args:
        password_hash: None where no password was.
    """
    found = tx.one(_STANDS, account_id=account_id)
    return found is not None and password_hash in (None, found.password_hash)


def rehash_password(tx: Transaction, account_id: str, old_hash: str, new_hash: str) -> None:
    """Keep the same password under newer parameters."""
    tx.run(_REHASH, account_id=account_id, old_hash=old_hash, new_hash=new_hash)


def follow_issuer(tx: Transaction, account_id: str, *, role: Role, label: str) -> None:
    """Note what the issuer says of its person now."""
    tx.run(_SET_ROLE, account_id=account_id, new_role=role, new_label=label[:MAX_NAME_CHARS])


def disable_account(tx: Transaction, account_id: str, now_ms: int) -> bool:
    """Let nobody in by an account, and sign out who is in; return whether it was good until now."""
    was_good = tx.run(_DISABLE, account_id=account_id, now_ms=now_ms) == 1
    end_all_of_account(tx, account_id)
    return was_good


def enable_account(tx: Transaction, account_id: str) -> bool:
    """Take a disabling back; return whether the account was disabled."""
    return tx.run(_ENABLE, account_id=account_id) == 1


def remove_account(tx: Transaction, account_id: str) -> bool:
    """Delete an account with its sign-ins, not what it owns; return whether it was there."""
    end_all_of_account(tx, account_id)
    return tx.run(_REMOVE, account_id=account_id) == 1


def forget_owner(tx: Transaction, owner: str, limit: int) -> int:
    """Delete the accounts of an owner and the pages that are signed in as it; return how many rows there were.

    Args:
        limit: Of each kind, at most so many in one call.
    """
    found = tx.all(_OF_OWNER, owner=owner, most=limit)
    for row in found:
        remove_account(tx, row.id)
    return len(found) + tx.run(_END_OF_OWNER, owner=owner, most=limit)


def _account(row: Any) -> Account | None:
    if row is None:
        return None
    return Account(**{name: getattr(row, name) for name in Account.__slots__})

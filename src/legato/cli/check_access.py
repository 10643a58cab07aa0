"""What `legato doctor` looks at of who may come in: keys, accounts, the issuer, and names that are served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from legato.cli.check import Check
from legato.core.errors import ConfigurationError, IssuerUnavailable, StorageUnavailable

if TYPE_CHECKING:
    from legato.settings import Settings
    from legato.storage.database import Database
    from legato.storage.statement import Transaction


def check_comers(settings: Settings, database: Database, *, offline: bool) -> Iterator[Check]:
    """Yield whether anybody can come in, and by what."""
    if settings.auth == "none":
        yield Check(name="keys", state="skipped", found="not asked for")
        return
    yield _keys(settings, database)
    if settings.auth == "accounts":
        yield _issuer(settings, offline=offline)
    if settings.auth == "accounts" and not settings.allowed_hosts:
        yield Check(
            name="host names",
            state="note",
            found="the server answers to any",
            mend="behind a proxy, or for many: LEGATO_ALLOWED_HOSTS=chat.example.com",
        )


def _keys(settings: Settings, database: Database) -> Check:
    from legato.storage.accounts import list_accounts
    from legato.storage.keys import list_keys
    from legato.storage.migrate import HEAD

    def count(tx: Transaction) -> tuple[int, int]:
        keys = sum(row.revoked_at_ms is None for row in list_keys(tx))
        return keys, sum(row.disabled_at_ms is None for row in list_accounts(tx))

    accounts = settings.auth == "accounts"
    name = "keys, accounts" if accounts else "keys"
    try:
        # One of an older version would be brought to this one's.
        revision = database.revision()
        current = revision is not None and revision >= HEAD
        good, people = database.transact(count, writes=False) if current else (0, 0)
    except (ConfigurationError, StorageUnavailable):
        return Check(name=name, state="wrong", found="they cannot be read")
    found = f"{good} good {'key' if good == 1 else 'keys'}"
    if accounts:
        found += f", {people} {'account' if people == 1 else 'accounts'}"
    if good or (accounts and (people or settings.oidc is not None)):
        return Check(name=name, state="ok", found=found)
    mend = "legato accounts add NAME" if accounts else "legato keys create --name me"
    return Check(name=name, state="wrong", found="there is none: nobody could call", mend=mend)


def _issuer(settings: Settings, *, offline: bool) -> Check:
    import asyncio

    from legato.core.clock import SystemClock
    from legato.http.oidc_issuer import Issuer

    name = "issuer"
    if settings.oidc is None:
        return Check(name=name, state="skipped", found="none: passwords and keys sign in")
    try:
        issuer = Issuer(settings.oidc, SystemClock())
        if offline:
            return Check(name=name, state="skipped", found=f"{issuer.label}, not asked")
        asyncio.run(issuer.check())
    except ConfigurationError as error:
        return Check(name=name, state="wrong", found=error.message)
    except IssuerUnavailable as error:
        mend = "until then keys and passwords alone sign in; see [oidc] in legato.toml"
        return Check(name=name, state="note", found=error.message, mend=mend)
    return Check(name=name, state="ok", found=f"{issuer.label} answers, and its keys can be read")

"""Accounts with a password, and who signs in by them."""

from __future__ import annotations

from typing import Any

from legato.policies.password_hashes import hash_password
from legato.storage.accounts import create_account
from tests.asgi import AsgiAnswer
from tests.page_world import OWN, Site, cookie_of

RIGHT = "bergamot lantern uphill"
OTHER = "seven quiet kettles hum"
_STORED: dict[str, str] = {}


def stored(password: str) -> str:
    """Hashed once for all tests: a hash is dear on purpose."""
    if password not in _STORED:
        _STORED[password] = hash_password(password)
    return _STORED[password]


def forget_stored() -> None:
    """Have the next hashes made anew: what they cost has changed."""
    _STORED.clear()


async def make(site: Site, name: str, *, role: Any = "member", password: str | None = RIGHT) -> str:
    """Make an account; return its id."""
    password_hash = None if password is None else stored(password)
    made = await site.node.committer.write(
        lambda tx: create_account(
            tx, now_ms=1, label=name, name=name, owner=name, role=role, password_hash=password_hash
        )
    )
    assert made is not None
    return made.id


async def enter(site: Site, name: str, password: str, **headers: str) -> AsgiAnswer:
    return await site.ask("POST", "/sign-in", {"name": name, "password": password}, origin=OWN, **headers)


async def cookie_for(site: Site, name: str = "Ann", password: str = RIGHT, **headers: str) -> str:
    answer = await enter(site, name, password, **headers)
    assert answer.status == 200, answer.body
    return cookie_of(answer)


async def status_of(site: Site, cookie: str) -> int:
    return (await site.ask("GET", "/me", cookie=cookie)).status

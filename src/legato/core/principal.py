"""Who calls, and what proves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["admin", "member"]
"""What a secret key can be given."""
Via = Literal["local", "key", "session", "widget", "visitor"]
"""What proves who calls: nothing on a server without keys, a secret key, a page that is signed in (with a key, or by an
account), a publishable key (which may only make visitors), a visitor's token."""

SignedInBy = Literal["key", "password", "issuer"]
"""What a page was signed in with."""

VISITOR: Final = "visitor:"
"""Begins the id of every visitor: `visitor:<key>:<visitor>`. No secret key is made for such an owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The owner of rows: every query names its id.

    Attributes:
        role: `visitor` is an unknown person in a widget, who may chat and nothing else. `app` is the server itself,
            which alone may look after the rows of all owners; no key has it.
    """

    id: str
    role: Role | Literal["visitor", "app"]


LOCAL: Final = Principal(id="local", role="admin")
"""The one principal of a server without authentication, which serves loopback only."""
APP: Final = Principal(id="app", role="app")
"""The server itself, in what it does on nobody's behalf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A principal, and what proves that it is the one.

    Attributes:
        key_id: Of the key that it comes from; None on a server without keys, and where it comes from an account.
        origins: Of a publishable key and its visitors: whose pages alone may call, beside this server's own.
        account_id: Of the account that a signed-in page came by.
        sign_in_id: Of the sign-in of a signed-in page.
        signed_in_by: What that page was signed in with.
        name: How people call who calls; empty where nobody has said.
    """

    principal: Principal
    via: Via
    key_id: str | None = None
    origins: frozenset[str] = frozenset()
    account_id: str | None = None
    sign_in_id: str | None = None
    signed_in_by: SignedInBy | None = None
    name: str = ""


LOCAL_CALLER: Final = Caller(principal=LOCAL, via="local")


def visitor_of(key_id: str, name: str) -> Principal:
    """Return a visitor of a publishable key."""
    return Principal(id=f"{VISITOR}{key_id}:{name}", role="visitor")


def key_of_visitor(owner: str) -> str:
    """Return the id of the publishable key that a visitor came by."""
    return owner.removeprefix(VISITOR).partition(":")[0]

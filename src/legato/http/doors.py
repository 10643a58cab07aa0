"""What the doors of a server have in common: how often they are tried, and the page that comes in by one."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from legato.core.errors import Unauthenticated
from legato.core.principal import Caller, Principal, Role, SignedInBy
from legato.http.cookies import SESSION, read_cookie, session_cookie
from legato.http.credentials import Credentials
from legato.http.oidc_issuer import Issuer
from legato.http.password_throttle import PasswordThrottle
from legato.http.throttle import FLOWS, SIGN_INS, Throttle
from legato.policies.password_hashes import PasswordHashes
from legato.runs.audit import Actor, actor_of, audit
from legato.runs.node import Node
from legato.storage.accounts import still_stands
from legato.storage.sign_ins import create_sign_in, end_sign_in, find_sign_in
from legato.storage.statement import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """How people come in.

    Attributes:
        hashes: Of passwords; None where there are no accounts.
        issuer: Where people sign in; None where there is none.
        wrong: Counts wrong keys and passwords of an address.
        tries: Counts wrong passwords, of an address and for a name.
        flows: Counts sign-ins at the issuer from an address.
    """

    hashes: PasswordHashes | None
    issuer: Issuer | None
    wrong: Throttle
    tries: PasswordThrottle
    flows: Throttle


@dataclass(frozen=True, slots=True, kw_only=True)
class Comer:
    """Who has proved to be somebody, by a key or an account."""

    owner: str
    role: Role
    name: str
    way: SignedInBy
    key_id: str | None = None
    account_id: str | None = None
    password_hash: str | None = None
    """That the password was compared with, where it came by one."""


def create_doors(node: Node) -> Doors:
    """Return the doors of a server as it is configured.

    Raises:
        ConfigurationError: The issuer's secret is not in the environment.
    """
    settings = node.settings
    accounts = settings.auth == "accounts"
    wrong = Throttle(node, "sign-in", SIGN_INS, "wrong keys or passwords")
    return Doors(
        hashes=PasswordHashes() if accounts and settings.accounts.passwords else None,
        issuer=Issuer(settings.oidc, node.clock) if accounts and settings.oidc is not None else None,
        wrong=wrong,
        tries=PasswordThrottle(node, wrong),
        flows=Throttle(node, "sign-in-issuer", FLOWS, "sign-ins at the issuer"),
    )


async def come_in(request: Request, comer: Comer) -> tuple[Caller, str]:
    """Sign a page in, ending the sign-in that its browser had; return who it is now, and the cookie's field.

    Raises:
        Unauthenticated: What it came by is good no longer.
    """
    node: Node = request.app.state.node
    credentials: Credentials = request.app.state.credentials
    now_ms = node.clock.now_ms()
    agent = request.headers.get("user-agent", "")
    caller = Caller(
        principal=Principal(id=comer.owner, role=comer.role),
        via="session",
        key_id=comer.key_id,
        account_id=comer.account_id,
        signed_in_by=comer.way,
        name=comer.name,
    )

    def sign_in(tx: Transaction) -> str:
        if comer.account_id is not None and not still_stands(tx, comer.account_id, comer.password_hash):
            # It was disabled, or has another password, since that was looked at.
            raise Unauthenticated("this account has changed just now: sign in again")
        token = create_sign_in(
            tx,
            now_ms,
            owner=comer.owner,
            key_id=comer.key_id,
            account_id=comer.account_id,
            way=comer.way,
            agent=agent,
            lives=credentials.lives,
        )
        subject = comer.account_id or comer.key_id or comer.owner
        audit(
            tx,
            actor=actor_of(caller),
            action="sign-in",
            subject=subject,
            at_ms=now_ms,
            owner=comer.owner,
            detail={"by": comer.way},
        )
        return token

    token = await node.committer.write(sign_in, wait_s=node.settings.storage_wait_s)
    await go_out(request)
    return caller, session_cookie(request.scope, token, credentials.lives.most_ms)


async def go_out(request: Request, *, told: bool = False) -> None:
    """End the sign-in that the request's cookie is of, if it has one.

    Args:
        told: Whether somebody wants to, which the audit log keeps.
    """
    node: Node = request.app.state.node
    credentials: Credentials | None = request.app.state.credentials
    token = read_cookie(request.scope, request.headers, SESSION)
    if credentials is None or not token:
        return
    now_ms = node.clock.now_ms()

    def end(tx: Transaction) -> bool:
        found = find_sign_in(tx, token, now_ms) if told else None
        ended = end_sign_in(tx, token)
        if ended and found is not None:
            subject = found.account_id or found.key_id or found.owner
            actor = Actor(id=found.owner, via="session", key_id=found.key_id)
            audit(tx, actor=actor, action="sign-out", subject=subject, at_ms=now_ms, owner=found.owner)
        return ended

    if await node.committer.write(end, wait_s=node.settings.storage_wait_s):
        credentials.forget(token)


def without_cookie(request: Request, response: Response) -> Response:
    """Have a browser forget its cookie."""
    response.headers.append("Set-Cookie", session_cookie(request.scope, '""', 0))
    return response

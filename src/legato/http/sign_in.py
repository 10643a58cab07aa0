"""Who am I, and how a page signs in: a key, or an account's password, becomes a cookie that no script can read."""

from __future__ import annotations

import asyncio
from typing import Literal

import structlog
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.errors import Conflict, InvalidRequest, LegatoError, Unauthenticated
from legato.core.principal import Caller, Role, SignedInBy
from legato.http.bodies import Body, Text, read_body
from legato.http.cookies import SESSION
from legato.http.credentials import Credentials
from legato.http.documents import json_body, problems
from legato.http.doors import Comer, Doors, come_in, go_out, without_cookie
from legato.http.own_page import check_own_page
from legato.http.resources import Resource, respond
from legato.policies.passwords import MOST_CHARS
from legato.runs.audit import NOBODY, audit
from legato.runs.node import Node
from legato.storage.accounts import Account, find_by_name, fold_name, rehash_password
from legato.storage.keys import PUBLISHABLE
from legato.storage.statement import Transaction
from legato.version import __version__

log = structlog.get_logger(__name__)

router = APIRouter(tags=["callers"])


class SignInBody(Body):
    """A key, or the name and the password of an account."""

    key: Text | None = Field(None, max_length=500, description="A secret key: `lk_…`.")
    name: Text | None = Field(None, max_length=200, description="Of an account, with LEGATO_AUTH=accounts.")
    password: Text | None = Field(None, max_length=MOST_CHARS * 4, description="Of that account.")


class IssuerOut(Resource):
    label: str = Field(description="What its button says.")


class WaysOut(Resource):
    auth: Literal["none", "keys", "accounts"] = Field(description="As `LEGATO_AUTH`.")
    password: bool = Field(description="Whether a name and a password sign in.")
    issuer: IssuerOut | None = Field(description="Where else one can sign in: `POST /sign-in/issuer`.")


class MeOut(Resource):
    id: str = Field(description="The owner of what the caller sees.")
    role: Literal["admin", "member", "visitor"]
    auth: Literal["none", "keys", "accounts"] = Field(description="As `LEGATO_AUTH`.")
    via: Literal["local", "key", "session", "visitor"] = Field(
        description="What proves it: nothing (a server without keys), a key, a signed-in page's cookie, "
        "a visitor's token."
    )
    signed_in_by: SignedInBy | None = Field(description="What a signed-in page was signed in with.")
    name: str | None = Field(description="How people call who calls, where somebody has said.")
    version: str = Field(description="The server's.")


@router.get("/me", response_model=MeOut, responses=problems(401, 403, 503))
async def get_me(request: Request) -> Response:
    """Say who calls, and by what."""
    return _me(request, request.scope["state"]["caller"])


@router.get("/sign-in", response_model=WaysOut, responses=problems(401, 403, 503))
async def get_ways(request: Request) -> Response:
    """Say how one can sign in here; everybody may ask."""
    node: Node = request.app.state.node
    doors: Doors = request.app.state.doors
    issuer = None if doors.issuer is None else {"label": doors.issuer.label}
    ways = {"auth": node.settings.auth, "password": doors.hashes is not None, "issuer": issuer}
    return respond(WaysOut, ways)


@router.post(
    "/sign-in",
    response_model=MeOut,
    responses={
        200: {
            "description": "Signed in; the cookie is sent along from now on.",
            "headers": {"Set-Cookie": {"schema": {"type": "string"}, "description": f"`{SESSION}`, HttpOnly."}},
        },
        **problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(SignInBody),
)
async def sign_in(request: Request) -> Response:
    """Sign a page of this server in with a key, or with an account's name and password.

    The sign-in ends with the key or the account, and when it was not used for long.
    """
    credentials: Credentials | None = request.app.state.credentials
    doors: Doors = request.app.state.doors
    check_own_page(request.scope, request.headers)
    body = await read_body(request, SignInBody)
    if credentials is None:
        raise Conflict("this server needs no sign-in: it has LEGATO_AUTH=none")
    if body.key is not None and body.name is None and body.password is None:
        comer = await _by_key(request, doors, credentials, body.key)
    elif body.key is None and body.name is not None and body.password is not None:
        comer = await _by_password(request, doors, body.name, body.password)
    else:
        raise InvalidRequest.of("body", "is neither a key nor a name with a password: give one of the two")
    caller, cookie = await come_in(request, comer)
    response = _me(request, caller)
    response.headers.append("Set-Cookie", cookie)
    return response


@router.post(
    "/sign-out",
    status_code=204,
    responses={204: {"description": "Signed out, or was before."}, **problems(401, 403, 503)},
)
async def sign_out(request: Request) -> Response:
    """Sign a page of this server out."""
    check_own_page(request.scope, request.headers)
    await go_out(request, told=True)
    return without_cookie(request, Response(status_code=204, headers={"Cache-Control": "no-store"}))


async def _by_key(request: Request, doors: Doors, credentials: Credentials, key: str) -> Comer:
    mark = await doors.wrong.take(request)
    caller = await credentials.of_key(key)
    if (
        caller is None
        or caller.via != "key"
        or caller.key_id is None
        or caller.principal.role not in ("admin", "member")
    ):
        kind = "a publishable key is for widgets" if key.startswith(PUBLISHABLE) else "this key is not known"
        raise Unauthenticated(f"{kind}: sign in with a secret key, lk_…")
    await doors.wrong.give_back(mark)
    principal = caller.principal
    role: Role = "admin" if principal.role == "admin" else "member"
    return Comer(owner=principal.id, role=role, name=caller.name, way="key", key_id=caller.key_id)


async def _by_password(request: Request, doors: Doors, name: str, password: str) -> Comer:
    node: Node = request.app.state.node
    if doors.hashes is None:
        raise Conflict("nobody signs in with a password here: that takes LEGATO_AUTH=accounts")
    folded = fold_name(name)
    tries = await doors.tries.take(request, folded)
    try:
        found = await node.database.read(lambda tx: find_by_name(tx, name))
        # As long for a name that is not there, or has no password; whether an account is disabled is told to nobody.
        right, newer = await doors.hashes.verify(password, None if found is None else found.password_hash)
    except LegatoError:
        # Nothing was compared, so nothing is known of it.
        await doors.tries.give_back(tries)
        raise
    if found is None or not right or found.disabled_at_ms is not None:
        if found is not None:
            # Nobody waits for it: how long an answer takes does not tell which names are there.
            node.keep(asyncio.get_running_loop().create_task(_note_failure(node, found)))
        raise Unauthenticated("this name and this password do not belong together")
    await doors.tries.give_back(tries)
    await doors.tries.know(request, folded)
    if newer is not None and found.password_hash is not None:
        account_id, old, new = found.id, found.password_hash, newer
        await node.committer.write(
            lambda tx: rehash_password(tx, account_id, old, new), wait_s=node.settings.storage_wait_s
        )
    return Comer(
        owner=found.owner,
        role=found.role,
        name=found.label,
        way="password",
        account_id=found.id,
        password_hash=newer or found.password_hash,
    )


async def _note_failure(node: Node, found: Account) -> None:
    """Keep in the audit log that somebody tried; names that are not there are not kept."""
    now_ms = node.clock.now_ms()

    def note(tx: Transaction) -> None:
        audit(tx, actor=NOBODY, action="sign-in.failed", subject=found.id, at_ms=now_ms, owner=found.owner)

    try:
        await node.committer.write(note, wait_s=node.settings.storage_wait_s)
    except LegatoError as error:
        log.warning("a wrong password could not be noted", account=found.id, error=error.code)


def _me(request: Request, caller: Caller) -> Response:
    node: Node = request.app.state.node
    principal = caller.principal
    shown: dict[str, object] = {"id": principal.id, "role": principal.role, "via": caller.via}
    shown |= {"signed_in_by": caller.signed_in_by, "name": caller.name or None}
    return respond(MeOut, shown | {"auth": node.settings.auth, "version": __version__})

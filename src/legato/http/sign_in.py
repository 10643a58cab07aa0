"""Who am I, and how a page signs in: a key becomes a cookie that no script can read."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.requests import cookie_parser
from starlette.responses import Response

from legato.core.errors import Conflict, Unauthenticated
from legato.core.principal import Caller
from legato.http.bodies import Body, Text, read_body
from legato.http.credentials import COOKIE, Credentials
from legato.http.documents import json_body, problems
from legato.http.guard import check_own_page, is_own
from legato.http.resources import Resource, respond
from legato.http.throttle import Throttle
from legato.runs.node import Node
from legato.storage.keys import PUBLISHABLE
from legato.storage.sign_ins import MOST_MS, create_sign_in, end_sign_in
from legato.version import __version__

router = APIRouter(tags=["callers"])


class SignInBody(Body):
    """A key."""

    key: Text = Field(max_length=500, description="A secret key: `lk_…`.")


class MeOut(Resource):
    id: str = Field(description="The owner of what the caller sees.")
    role: Literal["admin", "member", "visitor"]
    auth: Literal["none", "keys"] = Field(description="As `LEGATO_AUTH`.")
    via: Literal["local", "key", "session", "visitor"] = Field(
        description="What proves it: nothing (a server without keys), a key, a signed-in page's cookie, "
        "a visitor's token."
    )
    version: str = Field(description="The server's.")


@router.get("/me", response_model=MeOut, responses=problems(401, 403, 503))
async def get_me(request: Request) -> Response:
    """Say who calls, and by what."""
    return _me(request, request.scope["state"]["caller"])


@router.post(
    "/sign-in",
    response_model=MeOut,
    responses={
        200: {
            "description": "Signed in; the cookie is sent along from now on.",
            "headers": {"Set-Cookie": {"schema": {"type": "string"}, "description": f"`{COOKIE}`, HttpOnly."}},
        },
        **problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(SignInBody),
)
async def sign_in(request: Request) -> Response:
    """Sign a page of this server in with a key. The sign-in ends with the key, and when it was not used for long."""
    node: Node = request.app.state.node
    credentials: Credentials | None = request.app.state.credentials
    check_own_page(request.method, request.headers)
    body = await read_body(request, SignInBody)
    if credentials is None:
        raise Conflict("this server needs no sign-in: it has LEGATO_AUTH=none")
    throttle: Throttle = request.app.state.sign_in_throttle
    mark = await throttle.take(request)
    caller = await credentials.of_key(body.key)
    if caller is None or caller.via != "key" or caller.key_id is None:
        kind = "a publishable key is for widgets" if body.key.startswith(PUBLISHABLE) else "this key is not known"
        raise Unauthenticated(f"{kind}: sign in with a secret key, lk_…")
    key_id, now_ms = caller.key_id, node.clock.now_ms()
    token = await node.committer.write(
        lambda tx: create_sign_in(tx, key_id, now_ms), wait_s=node.settings.storage_wait_s
    )
    await throttle.give_back(mark)
    await _end(request, credentials, beside=token)
    response = _me(request, Caller(principal=caller.principal, via="session", key_id=key_id))
    response.set_cookie(
        COOKIE, token, max_age=MOST_MS // 1000, path="/", secure=_is_secure(request), httponly=True, samesite="strict"
    )
    return response


@router.post(
    "/sign-out",
    status_code=204,
    responses={204: {"description": "Signed out, or was before."}, **problems(401, 403, 503)},
)
async def sign_out(request: Request) -> Response:
    """Sign a page of this server out."""
    check_own_page(request.method, request.headers)
    credentials: Credentials | None = request.app.state.credentials
    if credentials is not None:
        await _end(request, credentials)
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    response.delete_cookie(COOKIE, path="/", secure=_is_secure(request), httponly=True, samesite="strict")
    return response


async def _end(request: Request, credentials: Credentials, beside: str | None = None) -> None:
    """End the sign-in that the request's cookie is of."""
    node: Node = request.app.state.node
    token = cookie_parser(request.headers.get("cookie", "")).get(COOKIE)
    if not token or token == beside:
        return
    if await node.committer.write(lambda tx: end_sign_in(tx, token), wait_s=node.settings.storage_wait_s):
        credentials.forget(token)


def _me(request: Request, caller: Caller) -> Response:
    node: Node = request.app.state.node
    principal = caller.principal
    shown = {"id": principal.id, "role": principal.role, "via": caller.via}
    return respond(MeOut, shown | {"auth": node.settings.auth, "version": __version__})


def _is_secure(request: Request) -> bool:
    """Whether the browser sees https: this server may have a proxy before it that ends TLS."""
    origin = request.headers.get("origin", "")
    own = is_own(request.headers, origin) and origin.lower().startswith("https://")
    return own or request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"

"""What somebody does with an account and the pages that are signed in: a new password, a list, an end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.errors import Conflict, Forbidden, InvalidRequest, LegatoError, NotFound
from legato.core.principal import Caller, SignedInBy
from legato.http.bodies import Body, Text, read_body
from legato.http.credentials import Credentials
from legato.http.documents import json_body, problems
from legato.http.doors import Comer, Doors, come_in, without_cookie
from legato.http.resources import Resource, respond
from legato.policies.passwords import MOST_CHARS, password_fault
from legato.runs.audit import actor_of, audit
from legato.runs.node import Node
from legato.storage.accounts import Account, find_by_id, set_password, still_stands
from legato.storage.sign_ins import end_all, end_one, list_sign_ins
from legato.storage.statement import Transaction

router = APIRouter(prefix="/me", tags=["callers"])


class PasswordBody(Body):
    """A new password, and the present one."""

    current: Text = Field(max_length=MOST_CHARS * 4, description="The present password.")
    password: Text = Field(max_length=MOST_CHARS * 4, description="The new one: long, and nothing that others guess.")


class SessionOut(Resource):
    id: str
    current: bool = Field(description="Whether it is the page that asks.")
    signed_in_by: SignedInBy
    agent: str = Field(description="What the browser called itself.")
    created_at_ms: int
    last_used_at_ms: int = Field(description="To within an hour.")
    expires_at_ms: int


class SessionList(Resource):
    sessions: list[SessionOut]


@router.put(
    "/password",
    status_code=204,
    responses={
        204: {"description": "Changed; all other pages of the account are signed out."},
        **problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(PasswordBody),
)
async def put_password(request: Request) -> Response:
    """Change the password of the account that this page is signed in with; its other pages are signed out."""
    node: Node = request.app.state.node
    doors: Doors = request.app.state.doors
    caller: Caller = request.scope["state"]["caller"]
    body = await read_body(request, PasswordBody)
    found = await _own_account(node, doors, caller)
    assert doors.hashes is not None
    tries = await doors.tries.take_on_page(found.id)
    try:
        right, _ = await doors.hashes.verify(body.current, found.password_hash)
    except LegatoError:
        await doors.tries.give_back(tries)
        raise
    if not right:
        raise Forbidden("the present password is another one")
    await doors.tries.give_back(tries)
    least = node.settings.accounts.min_password_chars
    fault = password_fault(body.password, name=f"{found.name} {found.label}", least_chars=least)
    if fault is not None:
        raise InvalidRequest.of("password", fault)
    stored = await doors.hashes.hash(body.password)
    now_ms = node.clock.now_ms()

    def change(tx: Transaction) -> None:
        if not still_stands(tx, found.id, found.password_hash):
            raise Forbidden("the present password is another one")
        set_password(tx, found.id, stored, now_ms)
        audit(
            tx,
            actor=actor_of(caller),
            action="account.change",
            subject=found.id,
            at_ms=now_ms,
            owner=found.owner,
            detail={"what": "password"},
        )

    await node.committer.write(change, wait_s=node.settings.storage_wait_s)
    # Its own sign-in ended too: whoever had a copy of the cookie has nothing any more.
    _, cookie = await come_in(
        request,
        Comer(
            owner=found.owner,
            role=found.role,
            name=found.label,
            way="password",
            account_id=found.id,
            password_hash=stored,
        ),
    )
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    response.headers.append("Set-Cookie", cookie)
    return response


@router.get("/sessions", response_model=SessionList, responses=problems(401, 403, 503))
async def get_sessions(request: Request) -> Response:
    """List the pages that are signed in as the caller, by whichever key or account, the newest first."""
    node: Node = request.app.state.node
    caller: Caller = request.scope["state"]["caller"]
    owner, now_ms = caller.principal.id, node.clock.now_ms()
    rows = await node.database.read(lambda tx: list_sign_ins(tx, owner, now_ms))
    shown = [
        {
            "id": row.id,
            "current": row.id == caller.sign_in_id,
            "signed_in_by": row.way,
            "agent": row.agent or "",
            "created_at_ms": row.created_at_ms,
            "last_used_at_ms": row.used_at_ms,
            "expires_at_ms": row.expires_at_ms,
        }
        for row in rows
        if row.id
    ]
    return respond(SessionList, {"sessions": shown})


@router.delete(
    "/sessions",
    status_code=204,
    responses={204: {"description": "No page is signed in any more."}, **problems(401, 403, 503)},
)
async def delete_sessions(request: Request) -> Response:
    """Sign out everywhere, this page too. Keys stay good."""
    node: Node = request.app.state.node
    caller: Caller = request.scope["state"]["caller"]
    owner, now_ms = caller.principal.id, node.clock.now_ms()

    def end(tx: Transaction) -> None:
        count = end_all(tx, owner)
        audit(
            tx,
            actor=actor_of(caller),
            action="sign-out.everywhere",
            subject=owner,
            at_ms=now_ms,
            owner=owner,
            detail={"pages": count},
        )

    await node.committer.write(end, wait_s=node.settings.storage_wait_s)
    _forget(request)
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    return without_cookie(request, response) if caller.via == "session" else response


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    responses={204: {"description": "That page is signed out."}, **problems(401, 403, 404, 422, 503)},
)
async def delete_session(
    request: Request,
    session_id: Annotated[str, Path(max_length=200, description="Of a signed-in page, from the list.")],
) -> Response:
    """Sign one page out, wherever it is."""
    node: Node = request.app.state.node
    caller: Caller = request.scope["state"]["caller"]
    owner, now_ms = caller.principal.id, node.clock.now_ms()

    def end(tx: Transaction) -> bool:
        ended = end_one(tx, owner, session_id)
        if ended:
            audit(tx, actor=actor_of(caller), action="sign-out", subject=session_id, at_ms=now_ms, owner=owner)
        return ended

    found = await node.committer.write(end, wait_s=node.settings.storage_wait_s)
    if not found:
        raise NotFound("there is no such signed-in page")
    _forget(request)
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


async def _own_account(node: Node, doors: Doors, caller: Caller) -> Account:
    """Return the account with a password that a page is signed in with.

    Raises:
        Conflict: There is none.
    """
    account_id = caller.account_id
    found = None
    if account_id is not None and doors.hashes is not None:
        found = await node.database.read(lambda tx: find_by_id(tx, account_id))
    if found is None or found.password_hash is None:
        raise Conflict("this page is not signed in with a password: there is none to change")
    return found


def _forget(request: Request) -> None:
    credentials: Credentials | None = request.app.state.credentials
    if credentials is not None:
        credentials.forget_all()

"""What an admin does with the data of a principal: how long it is kept, holds, an archive of it, and erasing it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AfterValidator
from starlette.responses import Response

from legato.core.errors import InvalidRequest
from legato.core.ids import id_fault
from legato.http.admin import admin_only
from legato.http.bodies import read_body
from legato.http.chat import context
from legato.http.conversations import ConversationId
from legato.http.documents import json_body, problems
from legato.http.guard import SLASH
from legato.http.me import ARCHIVE, ErasureOut, KeepingOut, RetentionBody, erase, give_archive
from legato.http.resources import Resource, respond
from legato.runs.audit import actor_of
from legato.runs.keeping import find_keeping, hold, hold_one, set_retention
from legato.storage.erasures import list_erasures

router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(admin_only)])


def _checked(value: str) -> str:
    name = value.replace(SLASH, "/")
    if (fault := id_fault(name)) is not None:
        raise InvalidRequest.of("owner", fault)
    return name


Owner = Annotated[str, Path(description="Id of a principal: the owner of a key."), AfterValidator(_checked)]


class ErasuresOut(Resource):
    erasures: list[ErasureOut]


@router.get("/principals/{owner}", response_model=KeepingOut, responses=problems(401, 403, 422, 503))
async def get_principal(request: Request, owner: Owner) -> Response:
    """Say how long a principal's conversations are kept, and what is held."""
    return respond(KeepingOut, await find_keeping(context(request)[0], owner))


@router.put(
    "/principals/{owner}/retention",
    response_model=KeepingOut,
    responses=problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra=json_body(RetentionBody),
)
async def put_retention(request: Request, owner: Owner) -> Response:
    """Set how long those of a principal's conversations are kept that say nothing of their own."""
    body = await read_body(request, RetentionBody)
    actor = actor_of(request.scope["state"]["caller"])
    return respond(KeepingOut, await set_retention(context(request)[0], actor, owner, body.retention))


@router.put("/principals/{owner}/hold", response_model=KeepingOut, responses=problems(401, 403, 422, 503))
async def put_hold(request: Request, owner: Owner) -> Response:
    """Hold all that a principal has: nobody deletes it, by hand or by time, until it is let go."""
    return await _hold(request, owner, True)


@router.delete("/principals/{owner}/hold", response_model=KeepingOut, responses=problems(401, 403, 422, 503))
async def delete_hold(request: Request, owner: Owner) -> Response:
    """Let go what a principal has: it may be deleted again."""
    return await _hold(request, owner, False)


@router.put(
    "/principals/{owner}/conversations/{conversation_id}/hold",
    response_model=KeepingOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def put_conversation_hold(request: Request, owner: Owner, conversation_id: ConversationId) -> Response:
    """Hold one conversation."""
    return await _hold_one(request, owner, conversation_id, True)


@router.delete(
    "/principals/{owner}/conversations/{conversation_id}/hold",
    response_model=KeepingOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def delete_conversation_hold(request: Request, owner: Owner, conversation_id: ConversationId) -> Response:
    """Let one conversation go."""
    return await _hold_one(request, owner, conversation_id, False)


@router.get(
    "/principals/{owner}/export",
    response_class=Response,
    responses={**ARCHIVE, **problems(401, 403, 422, 503)},
)
async def get_export(request: Request, owner: Owner) -> Response:
    """Give out all that the server has of a principal, for whom asks what is known of them; it is audited."""
    return await give_archive(context(request)[0], actor_of(request.scope["state"]["caller"]), owner)


@router.delete(
    "/principals/{owner}", status_code=202, response_model=ErasureOut, responses=problems(401, 403, 409, 422, 503)
)
async def delete_principal(
    request: Request,
    owner: Owner,
    confirm: Annotated[str, Query(max_length=500, description="The principal's id once more.")],
) -> Response:
    """Erase all that the server has of a principal."""
    actor = actor_of(request.scope["state"]["caller"])
    return await erase(request, actor, owner, confirm)


@router.get("/erasures", response_model=ErasuresOut, responses=problems(401, 403, 422, 503))
async def get_erasures(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000, description="Most entries.")] = 100
) -> Response:
    """List the principals that are being erased, the oldest first."""
    rows = await context(request)[0].database.read(lambda tx: list_erasures(tx, limit))
    shown = [{"owner": row.owner, "erasure": row.id} for row in rows if row.conversation_id is None]
    return respond(ErasuresOut, {"erasures": shown})


async def _hold(request: Request, owner: str, held: bool) -> Response:
    node, principal = context(request)
    actor = actor_of(request.scope["state"]["caller"])
    return respond(KeepingOut, await hold(node, principal, actor, owner, held))


async def _hold_one(request: Request, owner: str, conversation_id: str, held: bool) -> Response:
    node, principal = context(request)
    actor = actor_of(request.scope["state"]["caller"])
    return respond(KeepingOut, await hold_one(node, principal, actor, owner, conversation_id, held))

"""What anybody may ask of their own data: how long it is kept, all of it, and that it goes."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from legato.core.resources import Retention
from legato.http.archive import Archive
from legato.http.bodies import Body, read_body
from legato.http.chat import context
from legato.http.documents import json_body, problems
from legato.http.resources import Resource, respond
from legato.runs.audit import Actor, actor_of, audit
from legato.runs.erase import erase_principal
from legato.runs.keeping import find_keeping, set_retention
from legato.runs.node import Node

router = APIRouter(prefix="/me", tags=["data"])

ARCHIVE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A zip archive, sent while it is made: conversations (all branches as JSON, the active one as "
        "Markdown), usage, feedback, state, and who did what to them.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class RetentionBody(Body):
    """How long conversations are kept."""

    retention: Retention = Field(
        description="`default`: as the server's settings say; `keep`: for ever; or hours or days without a message, "
        "as `36h` or `90d`. For conversations whose own retention is `default`."
    )


class KeepingOut(Resource):
    owner: str
    retention: Retention
    default_hours: float | None = Field(description="What `default` is here, in hours; null: for ever.")
    held_at_ms: int | None = Field(description="Since when nothing may be deleted; null: it may.")
    held_conversations: list[str] = Field(description="Ids of conversations that are held by themselves.")


class ErasureOut(Resource):
    owner: str
    erasure: int = Field(description="Number of the erasure, while it goes on.")


@router.get("/retention", response_model=KeepingOut, responses=problems(401, 403, 503))
async def get_retention(request: Request) -> Response:
    """Say how long the caller's conversations are kept, and whether they are held."""
    node, principal = context(request)
    return respond(KeepingOut, await find_keeping(node, principal.id))


@router.put(
    "/retention",
    response_model=KeepingOut,
    responses=problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra=json_body(RetentionBody),
)
async def put_retention(request: Request) -> Response:
    """Set how long those of the caller's conversations are kept that say nothing of their own."""
    node, principal = context(request)
    body = await read_body(request, RetentionBody)
    actor = actor_of(request.scope["state"]["caller"])
    return respond(KeepingOut, await set_retention(node, actor, principal.id, body.retention))


@router.get("/export", response_class=Response, responses={**ARCHIVE, **problems(401, 403, 503)})
async def get_export(request: Request) -> Response:
    """Give out all that the server has of the caller, as one archive."""
    node, principal = context(request)
    return await give_archive(node, actor_of(request.scope["state"]["caller"]), principal.id)


@router.delete("", status_code=202, response_model=ErasureOut, responses=problems(401, 403, 409, 422, 503))
async def delete_me(
    request: Request,
    confirm: Annotated[str, Query(max_length=500, description="The caller's id, as `GET /me` says it.")],
) -> Response:
    """Erase all that the server has of the caller: keys and sign-ins at once, everything else within minutes.

    What was begun goes on after a crash; asking again changes nothing.
    """
    _, principal = context(request)
    actor = actor_of(request.scope["state"]["caller"])
    return await erase(request, actor, principal.id, confirm)


async def erase(request: Request, actor: Actor, owner: str, confirm: str) -> Response:
    """Begin to erase a principal; no key of it is taken for good any more, not even for a moment."""
    node, credentials = request.app.state.node, request.app.state.credentials
    found = await erase_principal(node, actor, owner, confirm)
    if credentials is not None:
        credentials.forget_all()
    return respond(ErasureOut, {"owner": owner, "erasure": found}, status=202)


async def give_archive(node: Node, actor: Actor, owner: str) -> Response:
    """Return a principal's archive as it is made, and note in the audit log that it was given out."""
    await node.committer.write(
        lambda tx: audit(
            tx, actor=actor, action="principal.export", subject=owner, owner=owner, at_ms=node.clock.now_ms()
        ),
        wait_s=node.settings.storage_wait_s,
    )
    headers = {"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="legato-export.zip"'}
    return StreamingResponse(Archive(node, owner).pieces(), 200, headers, "application/zip")

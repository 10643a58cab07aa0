"""The review queue, for admins: texts that policies have flagged, and what was decided about them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.errors import Conflict, NotFound
from legato.http.admin import admin_only
from legato.http.bodies import Body, Text, read_body
from legato.http.chat import context
from legato.http.documents import json_body, problems
from legato.http.resources import Resource, respond
from legato.runs.audit import Actor, actor_of, audit
from legato.runs.reviews import decide_review
from legato.storage.reviews import Decision, State, count_open, find_review, list_reviews
from legato.storage.statement import Transaction

router = APIRouter(prefix="/admin/review", tags=["admin"], dependencies=[Depends(admin_only)])

MOST: Final = 2**53


class ReviewOut(Resource):
    """A flagged text, without the text."""

    id: str
    owner: str
    conversation_id: str
    run_id: str
    at_ms: int = Field(serialization_alias="at", description="Epoch milliseconds.")
    stage: Literal["request", "reply"]
    source: str = Field(description="What it is: `message`, `system_prompt`, `tool`, `reply`, `reasoning`, …")
    policy: str
    reason: str
    decision: Decision | None
    note: str | None
    decided_by: str | None
    decided_at_ms: int | None = Field(serialization_alias="decidedAt")


class ReviewWithText(ReviewOut):
    text: str = Field(description="As it was kept and shown; the beginning of a long one.")


class ReviewsOut(Resource):
    open: int = Field(description="How many wait for a decision.")
    reviews: list[ReviewOut]
    next_cursor: int | None


class Decided(Body):
    """What an admin thinks of a flagged text."""

    decision: Decision = Field(description="`fine`: nothing is wrong with it. `violation`: the policy was right.")
    note: Text | None = Field(None, max_length=2000, description="Why; kept with the decision.")


ReviewId = Annotated[str, Path(description="Id of a flagged text.", max_length=200)]


@router.get("", response_model=ReviewsOut, responses=problems(401, 403, 422, 503))
async def get_reviews(
    request: Request,
    state: Annotated[State, Query(description="`open`, the oldest first, or `decided`, the latest first.")] = "open",
    limit: Annotated[int, Query(ge=1, le=500, description="Most entries of a page.")] = 50,
    cursor: Annotated[int | None, Query(ge=0, le=MOST, description="`nextCursor` of the page before.")] = None,
) -> Response:
    """List flagged texts of all owners, without the texts."""
    node, _ = context(request)

    def look(tx: Transaction) -> tuple[int, list[Any]]:
        return count_open(tx), list_reviews(tx, state, limit=limit + 1, after=cursor)

    count, rows = await node.database.read(look)
    page = rows[:limit]
    following = page[-1].key if len(rows) > limit else None
    return respond(ReviewsOut, {"open": count, "reviews": [_shown(row) for row in page], "next_cursor": following})


@router.get("/{review_id}", response_model=ReviewWithText, responses=problems(401, 403, 404, 422, 503))
async def get_review(request: Request, review_id: ReviewId) -> Response:
    """Return a flagged text; that somebody has read it is noted in the audit log."""
    node, _ = context(request)
    actor: Actor = actor_of(request.scope["state"]["caller"])
    now_ms = node.clock.now_ms()

    def look(tx: Transaction) -> Any | None:
        row = find_review(tx, review_id)
        if row is not None:
            audit(tx, actor=actor, action="admin.read", subject=row.id, at_ms=now_ms, owner=row.owner)
        return row

    row = await node.committer.write(look, wait_s=node.settings.storage_wait_s)
    if row is None:
        raise NotFound("there is no flagged text with this id")
    return respond(ReviewWithText, _shown(row) | {"text": row.text})


@router.post(
    "/{review_id}",
    response_model=ReviewOut,
    openapi_extra=json_body(Decided),
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def post_decision(request: Request, review_id: ReviewId) -> Response:
    """Decide about a flagged text, once."""
    node, principal = context(request)
    body = await read_body(request, Decided)
    actor: Actor = actor_of(request.scope["state"]["caller"])
    now_ms = node.clock.now_ms()

    def write(tx: Transaction) -> tuple[bool, Any | None]:
        return decide_review(tx, review_id, body.decision, note=body.note, by=principal.id, actor=actor, now_ms=now_ms)

    done, row = await node.committer.write(write, wait_s=node.settings.storage_wait_s)
    if row is None:
        raise NotFound("there is no flagged text with this id")
    if not done:
        raise Conflict(f"{row.decided_by} has decided about it already: {row.decision}")
    return respond(ReviewOut, _shown(row))


def _shown(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ReviewOut.model_fields}

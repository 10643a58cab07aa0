"""Search over one's own conversations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from legato.http.chat import context
from legato.http.conversations import Limit
from legato.http.documents import problems
from legato.http.resources import FoundPage, respond
from legato.runs.search import MAX_QUERY_CHARS, Search

router = APIRouter()


@router.get("/search", tags=["conversations"], response_model=FoundPage, responses=problems(401, 403, 422, 503))
async def search(
    request: Request,
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=MAX_QUERY_CHARS,
            description="Beginnings of words, all of which must stand in a text; phrases in double quotes.",
        ),
    ],
    cursor: Annotated[str | None, Query(description="`nextCursor` of the page before.")] = None,
    limit: Limit = 20,
) -> Response:
    """Find titles and messages, the latest first. Case, accents and width of letters make no difference."""
    return respond(FoundPage, await Search(*context(request)).find(q, cursor=cursor, limit=limit))

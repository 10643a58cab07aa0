"""The widget's visitors: a publishable key makes them, and they prove themselves with a signed token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.errors import Conflict, Forbidden, Unauthenticated
from legato.core.principal import Caller
from legato.http import visitor_tokens
from legato.http.bodies import Body, Text, read_body
from legato.http.documents import json_body, problems
from legato.http.resources import Resource, respond
from legato.http.throttle import Throttle
from legato.runs.node import Node
from legato.storage.keys import find_publishable_key

router = APIRouter(tags=["widget"])


class VisitorBody(Body):
    """The visitor who comes back, if it is one."""

    token: Text | None = Field(
        None, max_length=500, description="The token that the visitor has; a good one is renewed, any other replaced."
    )


class VisitorOut(Resource):
    token: str = Field(description="`lv_…`, to be sent as `Authorization: Bearer`.")
    expires_at_ms: int = Field(description="Until when it is good; ask anew before.")


@router.post(
    "/widget/visitors",
    response_model=VisitorOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
    openapi_extra=json_body(VisitorBody, required=False),
)
async def post_visitor(request: Request) -> Response:
    """Make a visitor of a widget, or renew the token of one; with a publishable key, from a page of its origins."""
    node: Node = request.app.state.node
    caller: Caller = request.scope["state"]["caller"]
    body = await read_body(request, VisitorBody, optional=True)
    if caller.via == "local":
        raise Conflict("this server has no visitors: publishable keys count with LEGATO_AUTH=keys")
    if caller.via != "widget" or caller.key_id is None:
        raise Forbidden("visitors are made with a publishable key, lp_…: a secret key does not belong in a page")
    key_id, now_ms = caller.key_id, node.clock.now_ms()
    key = await node.database.read(lambda tx: find_publishable_key(tx, key_id))
    if key is None:
        raise Unauthenticated("this key was revoked")
    visitor = None
    if body.token is not None and visitor_tokens.key_of(body.token) == key_id:
        visitor = visitor_tokens.read(key.signing_secret, body.token, now_ms)
    if visitor is None:
        throttle: Throttle = request.app.state.visitor_throttle
        await throttle.take(request)
        visitor = visitor_tokens.new_visitor()
    until_ms = now_ms + visitor_tokens.LIFE_MS
    token = visitor_tokens.sign(key.signing_secret, key_id, visitor, until_ms)
    return respond(VisitorOut, {"token": token, "expires_at_ms": until_ms})

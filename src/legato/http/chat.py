"""The native chat: post a message and stream the reply, follow it again from anywhere, stop it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.cursor import parse_cursor
from legato.core.errors import InvalidRequest, KeyReused, Overloaded
from legato.core.ids import id_fault
from legato.core.principal import Principal
from legato.http.bodies import Body, ClientId, Message, Metadata, ReplySettings, Text, read_body
from legato.http.documents import json_body, problems
from legato.http.roles import check_settings
from legato.http.streams import RunStream
from legato.http.trace import TRACE_HEADER, trace_id_of
from legato.runs.approvals import approve
from legato.runs.follow import check_cursor, find_tail, is_read, place_of
from legato.runs.node import Node
from legato.runs.start import NewMessage, Started, start
from legato.runs.stop import stop
from legato.runs.tail import Tail
from legato.storage.turns import LEAF
from legato.wire.native import OPENING, NativeRenderer

router = APIRouter(tags=["chat"])

_PRINTABLE_ASCII = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class ChatMessage(ReplySettings):
    """A message to a conversation."""

    message: Message = Field(description="What the user says; not blank.")
    session_id: ClientId | None = Field(None, description="A label for statistics and limits; never a credential.")
    conversation_id: ClientId | None = Field(
        None, description="An unknown one makes the conversation; absent, the server makes an id."
    )
    parent_id: ClientId | None = Field(
        None,
        description="The reply that this message follows: an edit is a sibling of the message that follows it already. "
        "`null` begins a new first message; absent, the message follows the active branch.",
    )
    metadata: Metadata | None = Field(None, description="Kept with the message; up to 16 KiB.")
    request_id: ClientId | None = Field(None, description="As the header Idempotency-Key.")


class Approval(Body):
    """A person's decision on a tool call."""

    granted: bool = Field(description="Whether the call may run.")
    reason: Text | None = Field(None, max_length=2000, description="Why; the model is told it of a refusal.")


_EVENTS = {
    "description": "Events `chunk`, `complete`, `error`, `queued`, `reasoning`, `tool`, `approval`; comments as "
    "heartbeat. "
    "Each event of the log has an `id`, which is the cursor to go on from.",
    "content": {"text/event-stream": {}},
    "headers": {
        name: {"schema": {"type": "string"}}
        for name in ("X-Session-Id", "X-Conversation-Id", "X-Run-Id", "X-Message-Id", "X-Trace-Id")
    },
}
IdempotencyKey = Annotated[
    str | None, Header(description="A repeat within 24 h attaches to the same run instead of making another.")
]
RunId = Annotated[str, Path(description="Id of a run: the header X-Run-Id, or `runId` in its last event.")]


@router.post(
    "/chat/stream",
    response_class=Response,
    responses={200: _EVENTS, **problems(400, 401, 402, 403, 410, 413, 415, 422, 429, 503, stream=True)},
    openapi_extra=json_body(ChatMessage),
)
async def post_message(
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Post a message and stream the reply to it. The reply goes on if the connection is cut."""
    node, principal = context(request)
    body = await read_body(request, ChatMessage)
    state = request.scope["state"]
    state["conversation_id"], state["session_id"] = body.conversation_id, body.session_id
    check_settings(principal, body.model_fields_set)
    check_readers(node)
    key = given_key(idempotency_key, body.request_id)
    started = await start(
        node,
        principal,
        NewMessage(
            text=body.message,
            session_id=body.session_id,
            conversation_id=body.conversation_id,
            request=body.as_request(),
            parent=body.parent_id if "parent_id" in body.model_fields_set else LEAF,
            metadata=msgspec.json.encode(body.metadata).decode() if body.metadata is not None else None,
            key=key,
            body_hash=body_hash(body) if key is not None else b"",
            address=state.get("address"),
            key_id=state["caller"].key_id,
            trace_id=trace_id_of(request, node.clock.now_ms()),
        ),
    )
    return await stream_of(node, principal, started)


@router.get(
    "/chat/stream/{run_id}",
    response_class=Response,
    responses={
        200: _EVENTS,
        204: {"description": "The cursor is at or past the run's last event: there is nothing to wait for."},
        **problems(401, 403, 404, 409, 422, 503, stream=True),
    },
)
async def follow_run(
    request: Request,
    run_id: RunId,
    last_event_id: Annotated[
        str | None, Header(description="Cursor of the last event that was received; wins over `after`.")
    ] = None,
    after: Annotated[int | None, Query(ge=-1, le=999_999_999, description="Seq of the last event received.")] = None,
) -> Response:
    """Replay a run from the start or from a cursor (exclusive), then follow it while it goes on."""
    node, principal = context(request)
    check_readers(node)
    cursor = None
    if last_event_id:
        cursor = parse_cursor(last_event_id)
        if cursor is None:
            raise InvalidRequest.of("Last-Event-ID", "is no cursor: <run>.<epoch>.<seq>, as in an event's id")
    tail = await find_tail(node, principal, run_id, after=place_of(cursor, after))
    place = check_cursor(tail, cursor, after)
    if is_read(tail, place):
        return Response(status_code=204)
    return _stream(node, tail, place)


@router.post(
    "/chat/stream/{run_id}/stop",
    status_code=202,
    responses={202: {"description": "The run is asked to stop, or has ended."}, **problems(401, 403, 404, 503)},
)
async def stop_run(request: Request, run_id: RunId) -> dict[str, Any]:
    """Stop a run; what it said so far is kept. A run that has ended stays as it is."""
    node, principal = context(request)
    row = await stop(node, principal, run_id)
    return {"runId": row.id, "conversationId": row.conversation_id, "state": row.state}


@router.post(
    "/chat/stream/{run_id}/approvals/{call_id:path}",
    openapi_extra=json_body(Approval),
    responses={
        200: {"description": "The decision is saved."},
        **problems(400, 401, 402, 403, 404, 409, 413, 415, 422, 503),
    },
)
async def approve_call(
    request: Request,
    run_id: RunId,
    call_id: Annotated[str, Path(description="`callId` of an event `approval` with the status `asked`.")],
) -> dict[str, Any]:
    """Decide on a tool call that waits for it, once. Without a decision the call is refused after a while."""
    node, principal = context(request)
    body = await read_body(request, Approval)
    await approve(node, principal, run_id, call_id, granted=body.granted, reason=body.reason)
    return {"runId": run_id, "callId": call_id, "status": "granted" if body.granted else "denied"}


def context(request: Request) -> tuple[Node, Principal]:
    """Return what every route needs: the node, and who calls."""
    return request.app.state.node, request.scope["state"]["principal"]


def check_readers(node: Node) -> None:
    """Raise Overloaded if no more streams can be opened."""
    # A post that is being saved will open a stream too.
    if len(node.readers) + node.starting >= node.settings.max_readers:
        raise Overloaded(f"{node.settings.max_readers} streams are open, which is the most")


async def stream_of(node: Node, principal: Principal, started: Started) -> Response:
    """Return the stream of a run that was started, or that a repeated key has found."""
    tail = started.tail or await find_tail(node, principal, started.run_id)
    return _stream(node, tail, -1)


def _stream(node: Node, tail: Tail, after: int) -> Response:
    first = tail.log.events[0]
    headers = {"X-Run-Id": tail.run_id}
    if first.type == "run-started":
        headers |= {
            "X-Session-Id": _header(first.session_id),  # type: ignore[union-attr]
            "X-Conversation-Id": _header(first.conversation_id),  # type: ignore[union-attr]
            "X-Message-Id": first.message_id,  # type: ignore[union-attr]
        }
        if first.trace_id is not None:  # type: ignore[union-attr]
            headers[TRACE_HEADER] = first.trace_id  # type: ignore[union-attr]
    return RunStream(node.readers, tail, NativeRenderer, after=after, opening=OPENING, headers=headers)


def _header(value: str) -> str:
    """Return an id as a header can carry it: percent-encoded where it is not plain ASCII."""
    return quote(value, safe=_PRINTABLE_ASCII)


def given_key(header: str | None, field: str | None) -> str | None:
    """Return the key of a post, which stands in its header or its body.

    Raises:
        InvalidRequest: It is no id, or there are two.
    """
    if header is None:
        return field
    if fault := id_fault(header):
        raise InvalidRequest.of("Idempotency-Key", fault)
    if field is not None and field != header:
        raise KeyReused.of("requestId", "differs from the header Idempotency-Key: give one of them, or the same")
    return header


def body_hash(body: Body) -> bytes:
    """Return what tells one body from another, whatever the order and spelling of its fields."""
    data = body.model_dump(exclude_unset=True, exclude={"request_id"})
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).digest()

"""Conversations, their messages and runs, as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from legato.core.errors import InvalidRequest
from legato.core.resources import Retention, Thumb
from legato.http.bodies import (
    Body,
    ClientId,
    MaxTokens,
    Metadata,
    ModelName,
    ReplySettings,
    Temperature,
    Text,
    Title,
    read_body,
)
from legato.http.chat import IdempotencyKey, body_hash, check_readers, context, given_key, stream_of
from legato.http.documents import json_body, problems
from legato.http.guard import SLASH
from legato.http.resources import ConversationOut, ConversationPage, MessageOut, MessagePage, RunOut, respond
from legato.http.roles import check_settings
from legato.http.trace import trace_id_of
from legato.runs.audit import actor_of
from legato.runs.conversations import Conversations
from legato.runs.replies import Runs
from legato.runs.start import NewMessage, start
from legato.storage.turns import LEAF

router = APIRouter()

ConversationId = Annotated[
    str, Path(description="Id of a conversation."), AfterValidator(lambda value: value.replace(SLASH, "/"))
]
MessageId = Annotated[str, Path(description="Id of a message.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of a page.")]


class NewConversation(Body):
    """A conversation to be made."""

    id: ClientId | None = Field(None, description="Any 1 to 200 printable characters; absent, the server makes one.")
    title: Title | None = None
    system_prompt: Text | None = None
    model: ModelName | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    metadata: Metadata | None = None
    retention: Retention = Field(
        "default", description="`default`: deleted when idle for LEGATO_CONVERSATION_IDLE_H; `keep`: never."
    )
    pinned: bool = Field(False, description="A pinned conversation is kept, whatever its retention.")
    temporary: bool = Field(False, description="A temporary conversation is never listed and never found.")


class ConversationChange(Body):
    """What is to change; absent fields stay, `null` goes back to the default."""

    title: Title | None = Field(None, description="`null` names it by its first words again.")
    system_prompt: Text | None = None
    model: ModelName | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    metadata: Metadata | None = None
    retention: Retention | None = None
    pinned: bool | None = None
    archived: bool | None = Field(None, description="An archived conversation is listed only with `archived=true`.")
    leaf_id: ClientId | None = Field(None, description="The reply in which the active branch shall end.")


class Fork(Body):
    """Where to fork, and what the copy is called."""

    message_id: ClientId | None = Field(None, description="Last message of the copy; absent, the whole active branch.")
    id: ClientId | None = Field(None, description="Id of the new conversation.")
    title: Title | None = None


class Regenerate(ReplySettings):
    """Settings of a further reply to the same message."""

    session_id: ClientId | None = None
    request_id: ClientId | None = Field(None, description="As the header Idempotency-Key.")


class Feedback(Body):
    """What a person thinks of a reply."""

    thumb: Thumb | None = Field(description="`null` takes the feedback back.")
    reason: Text | None = Field(None, max_length=2000)


@router.post(
    "/conversations",
    tags=["conversations"],
    status_code=201,
    response_model=ConversationOut,
    responses=problems(400, 401, 402, 403, 409, 413, 415, 422, 503),
    openapi_extra=json_body(NewConversation, required=False),
)
async def post_conversation(request: Request) -> Response:
    """Make an empty conversation."""
    conversations = Conversations(*context(request))
    body = await read_body(request, NewConversation, optional=True)
    given = {name: getattr(body, name) for name in body.model_fields_set - {"id"}}
    return respond(ConversationOut, await conversations.create(body.id, **given), status=201)


@router.get(
    "/conversations",
    tags=["conversations"],
    response_model=ConversationPage,
    responses=problems(401, 403, 422, 503),
)
async def get_conversations(
    request: Request,
    cursor: Annotated[str | None, Query(description="`nextCursor` of the page before.")] = None,
    limit: Limit = 50,
    archived: Annotated[bool, Query(description="Those that are archived, or those that are not.")] = False,
    pinned: Annotated[bool | None, Query(description="Only those that are pinned, or that are not.")] = None,
) -> Response:
    """List conversations, the one with the latest message first."""
    conversations = Conversations(*context(request))
    page = await conversations.list(cursor=cursor, limit=limit, archived=archived, pinned=pinned)
    return respond(ConversationPage, page)


@router.get(
    "/conversations/{conversation_id}",
    tags=["conversations"],
    response_model=ConversationOut,
    responses=problems(401, 403, 404, 503),
)
async def get_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Return one conversation."""
    return respond(ConversationOut, await Conversations(*context(request)).get(conversation_id))


@router.patch(
    "/conversations/{conversation_id}",
    tags=["conversations"],
    response_model=ConversationOut,
    responses=problems(400, 401, 402, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(ConversationChange),
)
async def patch_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Change a conversation's title, settings, retention or active branch."""
    conversations = Conversations(*context(request))
    body = await read_body(request, ConversationChange)
    given = {name: getattr(body, name) for name in body.model_fields_set}
    if "leaf_id" in given and body.leaf_id is None:
        raise InvalidRequest.of("leafId", "is null: name a reply")
    return respond(ConversationOut, await conversations.change(conversation_id, **given))


@router.delete(
    "/conversations/{conversation_id}",
    tags=["conversations"],
    status_code=204,
    responses=problems(401, 403, 404, 409, 503),
)
async def remove_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Delete a conversation with its messages, runs and logs; a reply that is being made is interrupted."""
    actor = actor_of(request.scope["state"]["caller"])
    await Conversations(*context(request), actor=actor).delete(conversation_id)
    return Response(status_code=204)


@router.post(
    "/conversations/{conversation_id}/fork",
    tags=["conversations"],
    status_code=201,
    response_model=ConversationOut,
    responses=problems(400, 401, 402, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(Fork, required=False),
)
async def post_fork(request: Request, conversation_id: ConversationId) -> Response:
    """Copy a conversation up to a message into a new one."""
    conversations = Conversations(*context(request))
    body = await read_body(request, Fork, optional=True)
    copy = await conversations.fork(conversation_id, message_id=body.message_id, copy_id=body.id, title=body.title)
    return respond(ConversationOut, copy, status=201)


@router.get(
    "/conversations/{conversation_id}/messages",
    tags=["messages"],
    response_model=MessagePage,
    responses=problems(401, 403, 404, 422, 503),
)
async def get_messages(
    request: Request,
    conversation_id: ConversationId,
    cursor: Annotated[int, Query(ge=0, le=2**31, description="`nextCursor` of the page before.")] = 0,
    limit: Limit = 50,
    leaf_id: Annotated[
        str | None, Query(alias="leafId", description="Last message of another branch than the active one.")
    ] = None,
) -> Response:
    """List the messages of a branch, oldest first. A reply that is being made is there with what it said so far."""
    conversations = Conversations(*context(request))
    return respond(
        MessagePage, await conversations.messages(conversation_id, leaf_id=leaf_id, after=cursor, limit=limit)
    )


@router.post(
    "/messages/{message_id}/regenerate",
    tags=["messages"],
    response_class=Response,
    responses={
        200: {"description": "The new reply, as POST /chat/stream.", "content": {"text/event-stream": {}}},
        **problems(400, 401, 402, 403, 404, 409, 410, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(Regenerate, required=False),
)
async def regenerate(request: Request, message_id: MessageId, idempotency_key: IdempotencyKey = None) -> Response:
    """Make a further reply to the same message, as a sibling; the old one stays."""
    node, principal = context(request)
    body = await read_body(request, Regenerate, optional=True)
    state = request.scope["state"]
    state["session_id"] = body.session_id
    check_settings(principal, body.model_fields_set)
    check_readers(node)
    reply = await Conversations(node, principal).message(message_id)
    started = await start(
        node,
        principal,
        NewMessage(
            text="",
            session_id=body.session_id,
            conversation_id=reply.conversation_id,
            request=body.as_request(),
            parent=LEAF,
            regenerate=message_id,
            key=given_key(idempotency_key, body.request_id),
            body_hash=body_hash(body) + message_id.encode(),
            address=state.get("address"),
            key_id=state["caller"].key_id,
            trace_id=trace_id_of(request, node.clock.now_ms()),
        ),
    )
    return await stream_of(node, principal, started)


@router.put(
    "/messages/{message_id}/feedback",
    tags=["messages"],
    response_model=MessageOut,
    responses=problems(400, 401, 402, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(Feedback),
)
async def put_feedback(request: Request, message_id: MessageId) -> Response:
    """Say whether a reply was good, and why."""
    node, principal = context(request)
    conversations = Conversations(node, principal, trace_id=trace_id_of(request, node.clock.now_ms()))
    body = await read_body(request, Feedback)
    return respond(MessageOut, await conversations.give_feedback(message_id, body.thumb, body.reason))


@router.get("/runs/{run_id}", tags=["runs"], response_model=RunOut, responses=problems(401, 403, 404, 503))
async def get_run(request: Request, run_id: Annotated[str, Path(description="Id of a run.")]) -> Response:
    """Return where a run stands, and what it used."""
    return respond(RunOut, await Runs(*context(request)).get(run_id))

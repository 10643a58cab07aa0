"""Conversations, their messages and runs, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from legato.core.errors import Conflict, InvalidRequest, NotFound
from legato.core.ids import new_id
from legato.core.text import first_words
from legato.http.bodies import Body, ClientId, Metadata, ModelName, Text, read_body
from legato.http.chat import body_hash, check_readers, context, stream_of
from legato.http.documents import json_body, problems
from legato.http.guard import SLASH
from legato.http.resources import (
    ConversationOut,
    ConversationPage,
    MessageOut,
    MessagePage,
    RunOut,
    conversation_out,
    message_out,
    run_out,
)
from legato.runs.context import parts_text
from legato.runs.live import RunRequest
from legato.runs.node import Node
from legato.runs.start import NewMessage, start
from legato.runs.stop import let_go
from legato.storage.conversations import (
    change_conversation,
    create_conversation,
    delete_conversation,
    find_conversation,
    fork_conversation,
    list_conversations,
)
from legato.storage.messages import find_message, find_page, set_feedback
from legato.storage.runs import find_run
from legato.storage.statement import Transaction
from legato.storage.turns import LEAF

router = APIRouter()

LATEST_MS = 2**62
ConversationId = Annotated[
    str, Path(description="Id of a conversation."), AfterValidator(lambda value: value.replace(SLASH, "/"))
]
MessageId = Annotated[str, Path(description="Id of a message.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of a page.")]


class NewConversation(Body):
    """A conversation to be made."""

    id: ClientId | None = Field(None, description="Any 1 to 200 printable characters; absent, the server makes one.")
    title: Text | None = Field(None, max_length=500)
    system_prompt: Text | None = None
    model: ModelName | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    metadata: Metadata | None = None


class ConversationChange(Body):
    """What is to change; absent fields stay, `null` goes back to the default."""

    title: Text | None = Field(None, max_length=500, description="`null` names it by its first words again.")
    system_prompt: Text | None = None
    model: ModelName | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    metadata: Metadata | None = None
    leaf_id: ClientId | None = Field(None, description="The reply in which the active branch shall end.")


class Fork(Body):
    """Where to fork, and what the copy is called."""

    message_id: ClientId | None = Field(None, description="Last message of the copy; absent, the whole active branch.")
    id: ClientId | None = Field(None, description="Id of the new conversation.")
    title: Text | None = Field(None, max_length=500)


class Regenerate(Body):
    """Settings of a further reply to the same message."""

    session_id: ClientId | None = None
    system_prompt: Text | None = None
    model: ModelName | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    request_id: ClientId | None = Field(None, description="Idempotency key.")


class Feedback(Body):
    """What a person thinks of a reply."""

    thumb: Literal["up", "down"] | None = Field(description="`null` takes the feedback back.")
    reason: Text | None = Field(None, max_length=2000)


@router.post(
    "/conversations",
    tags=["conversations"],
    status_code=201,
    response_model=ConversationOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
    openapi_extra=json_body(NewConversation, required=False),
)
async def post_conversation(request: Request) -> Response:
    """Make an empty conversation."""
    node, principal = context(request)
    body = await read_body(request, NewConversation, optional=True)
    _check_model(node, body.model)
    now_ms = node.clock.now_ms()
    conversation_id = body.id or new_id("c", now_ms)
    values: dict[str, Any] = {
        "system_prompt": body.system_prompt,
        "model": body.model,
        "temperature": body.temperature,
        "max_tokens": body.max_tokens,
        "metadata": _json(body.metadata),
    }
    if body.title is not None:
        values |= {"title": body.title, "title_source": "user"}

    def make(tx: Transaction) -> Any:
        create_conversation(tx, principal.id, conversation_id, now_ms, **values)
        return find_conversation(tx, principal.id, conversation_id)

    row = await node.committer.write(make, wait_s=node.settings.storage_wait_s)
    return _respond(conversation_out(row), status=201)


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
) -> Response:
    """List conversations, the one with the latest message first."""
    node, principal = context(request)
    until_ms, before_key = _place(cursor)
    rows = await node.database.read(lambda tx: list_conversations(tx, principal.id, until_ms, before_key, limit + 1))
    page = rows[:limit]
    following = f"{page[-1].last_message_at_ms}.{page[-1].key}" if len(rows) > limit else None
    return _respond({"conversations": [conversation_out(row) for row in page], "nextCursor": following})


@router.get(
    "/conversations/{conversation_id}",
    tags=["conversations"],
    response_model=ConversationOut,
    responses=problems(401, 403, 404, 503),
)
async def get_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Return one conversation."""
    node, principal = context(request)
    return _respond(conversation_out(await _conversation(node, principal.id, conversation_id)))


@router.patch(
    "/conversations/{conversation_id}",
    tags=["conversations"],
    response_model=ConversationOut,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(ConversationChange),
)
async def patch_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Change a conversation's title, settings or active branch."""
    node, principal = context(request)
    body = await read_body(request, ConversationChange)
    _check_model(node, body.model)
    changes: dict[str, Any] = {
        name: getattr(body, name)
        for name in ("system_prompt", "model", "temperature", "max_tokens")
        if name in body.model_fields_set
    }
    if "metadata" in body.model_fields_set:
        changes["metadata"] = _json(body.metadata)
    if "title" in body.model_fields_set:
        changes["title"] = body.title or ""
        changes["title_source"] = "user" if body.title else "words"
    if "leaf_id" in body.model_fields_set and body.leaf_id is None:
        raise InvalidRequest.of("leafId", "is null: name a reply")

    def change(tx: Transaction) -> Any:
        if changes.get("title") == "" and (row := find_conversation(tx, principal.id, conversation_id)) is not None:
            changes["title"] = _title_by_words(tx, row)
        return change_conversation(tx, principal.id, conversation_id, changes, body.leaf_id)

    row = await node.committer.write(change, wait_s=node.settings.storage_wait_s)
    return _respond(conversation_out(row))


@router.delete(
    "/conversations/{conversation_id}",
    tags=["conversations"],
    status_code=204,
    responses=problems(401, 403, 404, 503),
)
async def remove_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Delete a conversation with its messages, runs and logs; a reply that is being made is interrupted."""
    node, principal = context(request)
    key = await node.committer.write(
        lambda tx: delete_conversation(tx, principal.id, conversation_id), wait_s=node.settings.storage_wait_s
    )
    if key is None:
        raise NotFound("there is no conversation with this id")
    let_go(node, key)
    return Response(status_code=204)


@router.post(
    "/conversations/{conversation_id}/fork",
    tags=["conversations"],
    status_code=201,
    response_model=ConversationOut,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(Fork, required=False),
)
async def post_fork(request: Request, conversation_id: ConversationId) -> Response:
    """Copy a conversation up to a message into a new one."""
    node, principal = context(request)
    body = await read_body(request, Fork, optional=True)
    now_ms = node.clock.now_ms()
    row = await node.committer.write(
        lambda tx: fork_conversation(
            tx,
            principal.id,
            conversation_id,
            new_id=body.id or new_id("c", now_ms),
            message_id=body.message_id,
            prefix=new_id("m", now_ms) + "-",
            title=body.title,
            now_ms=now_ms,
        ),
        wait_s=node.settings.storage_wait_s,
    )
    return _respond(conversation_out(row), status=201)


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
    node, principal = context(request)
    conversation = await _conversation(node, principal.id, conversation_id)
    tip = leaf_id or conversation.leaf_id
    rows: list[Any] = []
    if tip is not None:
        rows = await node.database.read(lambda tx: find_page(tx, conversation.key, tip, cursor, limit + 1))
        tip_row = await node.database.read(lambda tx: find_message(tx, principal.id, tip)) if not rows else rows[0]
        if tip_row is None or tip_row.conversation_key != conversation.key:
            raise NotFound("there is no message with this id in the conversation")
    page = rows[:limit]
    following = page[-1].depth if len(rows) > limit else None
    return _respond({"messages": [message_out(row, node) for row in page], "nextCursor": following})


@router.post(
    "/messages/{message_id}/regenerate",
    tags=["messages"],
    response_class=Response,
    responses={
        200: {"description": "The new reply, as POST /chat/stream.", "content": {"text/event-stream": {}}},
        **problems(400, 401, 403, 404, 409, 410, 413, 415, 422, 429, 503),
    },
    openapi_extra=json_body(Regenerate, required=False),
)
async def regenerate(request: Request, message_id: MessageId) -> Response:
    """Make a further reply to the same message, as a sibling; the old one stays."""
    node, principal = context(request)
    body = await read_body(request, Regenerate, optional=True)
    check_readers(node)
    row = await node.database.read(lambda tx: find_message(tx, principal.id, message_id))
    if row is None:
        raise NotFound("there is no message with this id")
    started = await start(
        node,
        principal,
        NewMessage(
            text="",
            session_id=body.session_id,
            conversation_id=row.conversation_id,
            request=RunRequest(
                model=body.model,
                temperature=body.temperature,
                max_tokens=body.max_tokens,
                system_prompt=body.system_prompt,
            ),
            parent=LEAF,
            regenerate=message_id,
            key=body.request_id,
            body_hash=body_hash(body) + message_id.encode(),
        ),
    )
    return await stream_of(node, principal, started)


@router.put(
    "/messages/{message_id}/feedback",
    tags=["messages"],
    response_model=MessageOut,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(Feedback),
)
async def put_feedback(request: Request, message_id: MessageId) -> Response:
    """Say whether a reply was good, and why."""
    node, principal = context(request)
    body = await read_body(request, Feedback)
    now_ms = node.clock.now_ms()
    value = {"thumb": body.thumb, "reason": body.reason, "at": now_ms} if body.thumb else None

    def write(tx: Transaction) -> Any:
        row = find_message(tx, principal.id, message_id)
        if row is None:
            raise NotFound("there is no message with this id")
        if row.role != "assistant":
            raise Conflict("this is a message of the user: feedback is for replies")
        set_feedback(tx, principal.id, message_id, _json(value))
        return find_message(tx, principal.id, message_id)

    row = await node.committer.write(write, wait_s=node.settings.storage_wait_s)
    return _respond(message_out(row, node))


@router.get("/runs/{run_id}", tags=["runs"], response_model=RunOut, responses=problems(401, 403, 404, 503))
async def get_run(request: Request, run_id: Annotated[str, Path(description="Id of a run.")]) -> Response:
    """Return where a run stands, and what it used."""
    node, principal = context(request)
    row = await node.database.read(lambda tx: find_run(tx, principal.id, run_id))
    if row is None:
        raise NotFound("there is no run with this id")
    return _respond(run_out(row))


async def _conversation(node: Node, owner: str, conversation_id: str) -> Any:
    row = await node.database.read(lambda tx: find_conversation(tx, owner, conversation_id))
    if row is None:
        raise NotFound("there is no conversation with this id")
    return row


def _title_by_words(tx: Transaction, conversation: Any) -> str:
    first = find_page(tx, conversation.key, conversation.leaf_id, 0, 1) if conversation.leaf_id else []
    return first_words(parts_text(first[0].parts)) if first else ""


def _check_model(node: Node, name: str | None) -> None:
    if name is not None:
        node.models.find(name)


def _place(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return LATEST_MS, LATEST_MS
    at_ms, _, key = cursor.partition(".")
    if not (at_ms.isdecimal() and key.isdecimal() and len(cursor) < 40 and at_ms.isascii() and key.isascii()):
        raise InvalidRequest.of("cursor", "is none of this server's: take nextCursor of the page before")
    return min(int(at_ms), LATEST_MS), min(int(key), LATEST_MS)


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _respond(data: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(data), status, {"Cache-Control": "no-store"}, "application/json")

"""Conversations out of the server and into it, as one document each: all of it as JSON, or to be read as Markdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from legato.core.money import usd_text
from legato.core.resources import Feedback, Message
from legato.core.usage import Usage
from legato.http.bodies import parse_body, read_bytes
from legato.http.chat import context
from legato.http.conversations import ConversationId
from legato.http.documents import problems
from legato.http.resources import ConversationOut, ExportedMessage, respond
from legato.http.transfer_bodies import FORMAT, VERSION, ConversationDocument, MessageIn, document_schema
from legato.runs.audit import Action, actor_of, audit
from legato.runs.exports import Export, Exports
from legato.runs.imports import ImportedConversation, ImportedMessage, Imports

router = APIRouter()

MAX_IMPORT_BYTES: Final = 16_777_216
"""Largest document that is taken in; past it 413."""
CHUNK_BYTES: Final = 65_536
"""Of a document, as much is sent at once, and a message more."""

_encode = msgspec.json.Encoder().encode
_JSON: Final = {"schema": document_schema()}
_ENDED: Final = {"queued": "stopped", "running": "stopped"}


@router.get(
    "/conversations/{conversation_id}/export",
    tags=["conversations"],
    response_class=Response,
    responses={
        200: {
            "description": "The document; what is said while it is sent may be in it or not.",
            "content": {"application/json": _JSON, "text/markdown": {"schema": {"type": "string"}}},
        },
        **problems(401, 403, 404, 422, 503),
    },
)
async def get_export(
    request: Request,
    conversation_id: ConversationId,
    as_: Annotated[
        Literal["json", "markdown"],
        Query(alias="as", description="All branches as JSON, or the active one as Markdown."),
    ] = "json",
) -> Response:
    """Give a conversation out as a document that POST /conversations/import takes, or as one to be read."""
    node, principal = context(request)
    export = await Exports(node, principal).open(conversation_id)
    await _note(request, "conversation.export", export.conversation.id)
    if as_ == "markdown":
        return _document(markdown_pieces(export), "text/markdown; charset=utf-8", export, "md")
    return _document(json_pieces(export, node.clock.now_ms()), "application/json", export, "json")


@router.post(
    "/conversations/import",
    tags=["conversations"],
    status_code=201,
    response_model=ConversationOut,
    responses=problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": _JSON}}},
)
async def post_import(request: Request) -> Response:
    """Make a conversation of a document, with new ids. No model is asked.

    It counts as used just now; its messages keep their times. A model that is not configured here is left out, and a
    reply that was still being made counts as stopped.
    """
    imports = Imports(*context(request))
    data = await read_bytes(request, MAX_IMPORT_BYTES)
    # Megabytes: others go on meanwhile. One after the other: a document takes many times its size while it is read.
    async with _gate(request):
        given = await asyncio.to_thread(_read, data, request.headers.get("content-type", ""))
    made = await imports.add(given)
    await _note(request, "conversation.import", made.id)
    return respond(ConversationOut, made, status=201)


async def _note(request: Request, action: Action, conversation_id: str) -> None:
    """Tell the audit log that a conversation of the caller's was given out or taken in."""
    node, principal = context(request)
    actor, now_ms = actor_of(request.scope["state"]["caller"]), node.clock.now_ms()
    await node.committer.write(
        lambda tx: audit(tx, actor=actor, action=action, subject=conversation_id, owner=principal.id, at_ms=now_ms),
        wait_s=node.settings.storage_wait_s,
    )


def _gate(request: Request) -> asyncio.Lock:
    state = request.app.state
    if not hasattr(state, "import_gate"):
        state.import_gate = asyncio.Lock()
    gate: asyncio.Lock = state.import_gate
    return gate


def _document(pieces: AsyncIterator[bytes], kind: str, export: Export, ending: str) -> Response:
    name = quote(f"{export.conversation.title.strip() or export.conversation.id}.{ending}", safe="")
    headers = {"Cache-Control": "no-store", "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(in_chunks(pieces), 200, headers, kind)


async def in_chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give pieces together, as much at once as is sent at once."""
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


async def json_pieces(export: Export, now_ms: int) -> AsyncIterator[bytes]:
    """Give a conversation with all its branches as JSON."""
    shown = ConversationOut.model_validate(export.conversation).model_dump(by_alias=True)
    head = _encode({"format": FORMAT, "version": VERSION, "exportedAt": now_ms, "conversation": shown})
    yield head[:-1] + b',"messages":['
    between = b""
    async for message in export.all_messages():
        yield between + _encode(_exported(message))
        between = b",\n"
    yield b"]}\n"


def _exported(message: Message) -> dict[str, Any]:
    shown = ExportedMessage.model_validate(message).model_dump(by_alias=True)
    if all(part["type"] == "text" for part in message.parts) and len(message.parts) < 2:
        # The content says the same.
        del shown["parts"]
    return shown


async def markdown_pieces(export: Export) -> AsyncIterator[bytes]:
    """Give the active branch of a conversation as Markdown."""
    title = " ".join(export.conversation.title.split())
    if title:
        yield f"# {title}\n\n".encode()
    async for message in export.branch():
        who = "You" if message.role == "user" else message.model or "Assistant"
        said = [part for part in map(_part_text, message.parts) if part]
        if message.status in ("failed", "stopped"):
            said.append(f"*({message.status})*")
        yield "\n\n".join([f"## {who}", *said, ""]).encode()


def _part_text(part: dict[str, Any]) -> str:
    match part["type"]:
        case "text":
            return str(part["text"]).strip()
        case "tool-call":
            return f"*Tool: {part['name']}*"
        case _:
            return ""


def _read(data: bytes, content_type: str) -> ImportedConversation:
    document = parse_body(data, content_type, ConversationDocument)
    given = document.conversation
    return ImportedConversation(
        title=given.title or "",
        title_source=given.title_source,
        system_prompt=given.system_prompt,
        model=given.model,
        temperature=given.temperature,
        max_tokens=given.max_tokens,
        metadata=given.metadata,
        retention=given.retention,
        pinned=given.pinned,
        archived=given.archived,
        leaf_id=given.leaf_id,
        created_at_ms=given.created_at,
        messages=[_message(each) for each in document.messages],
    )


def _message(given: MessageIn) -> ImportedMessage:
    usage, feedback = given.usage, given.feedback
    parts = [part.model_dump(by_alias=True, exclude_none=True) for part in given.parts or ()]
    if given.parts is None and given.content:
        parts = [{"type": "text", "text": given.content}]
    return ImportedMessage(
        id=given.id,
        parent_id=given.parent_id,
        role=given.role,
        parts=parts,
        status=_ENDED.get(given.status, given.status),
        model=given.model,
        usage=None
        if usage is None
        else Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            counted=usage.counted,
        ),
        usd=None if given.cost is None else usd_text(given.cost.usd),
        feedback=None
        if feedback is None
        else Feedback(thumb=feedback.thumb, reason=feedback.reason, at_ms=feedback.at),
        metadata=given.metadata,
        created_at_ms=given.timestamp,
    )

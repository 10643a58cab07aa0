"""The audit log, for admins: pages of it, all of it, and whether it is whole."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from legato.core.errors import InvalidRequest
from legato.http.admin import admin_only
from legato.http.chat import context
from legato.http.documents import problems
from legato.http.resources import Resource, respond
from legato.http.transfer import in_chunks
from legato.runs.audit import actor_of, audit
from legato.runs.audit_log import CSV_COLUMNS, all_entries, verify
from legato.runs.node import Node
from legato.runs.personal_export import entry_json
from legato.storage.audit import list_entries

router = APIRouter(prefix="/admin/audit", tags=["admin"], dependencies=[Depends(admin_only)])

MOST: Final = 2**62
_encode = msgspec.json.Encoder().encode


class EntryOut(Resource):
    seq: int
    at: int = Field(description="Epoch milliseconds.")
    actor: str = Field(description="A principal; of a command the system's user; `app`: the server; `-`: nobody known.")
    via: str
    keyId: str | None
    action: str
    subject: str
    owner: str | None = Field(description="Whose data it was done to.")
    detail: dict[str, Any] | None
    hash: str = Field(description="SHA-256 over the entry and the hash before it.")


class EntriesOut(Resource):
    entries: list[EntryOut]
    next_cursor: int | None


class VerdictOut(Resource):
    whole: bool
    entries: int = Field(description="How many were looked at.")
    cut_seq: int = Field(description="The last entry that retention has cut off; 0: none.")
    head_seq: int
    head_hash: str = Field(description="Noted elsewhere, it proves later that nothing before was rewritten.")
    fault: str | None


@router.get("", response_model=EntriesOut, responses=problems(401, 403, 422, 503))
async def get_entries(
    request: Request,
    cursor: Annotated[int | None, Query(ge=1, le=MOST, description="`nextCursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most entries of a page.")] = 100,
    owner: Annotated[str | None, Query(max_length=500, description="About the data of this principal alone.")] = None,
    actor: Annotated[str | None, Query(max_length=500, description="Of what this one has done alone.")] = None,
    action: Annotated[str | None, Query(max_length=100, description="Of this kind alone.")] = None,
) -> Response:
    """List entries of the audit log, the newest first; by owner, by actor or by action, not by several."""
    node, _ = context(request)
    given = {name: each for name, each in (("owner", owner), ("actor", actor), ("action", action)) if each is not None}
    if len(given) > 1:
        raise InvalidRequest.of([*given][1], "goes with no other: give one of owner, actor and action")
    by, value = next(iter(given.items()), (None, ""))
    rows = await node.database.read(lambda tx: list_entries(tx, cursor or MOST, limit + 1, by=by, value=value))
    page = rows[:limit]
    shown = {
        "entries": [entry_json(row) for row in page],
        "next_cursor": page[-1].seq if len(rows) > limit else None,
    }
    return respond(EntriesOut, shown)


@router.get(
    "/export",
    response_class=Response,
    responses={
        200: {
            "description": "All entries, the oldest first.",
            "content": {
                "application/jsonl": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        **problems(401, 403, 422, 503),
    },
)
async def get_export(
    request: Request,
    as_: Annotated[Literal["jsonl", "csv"], Query(alias="as", description="JSON lines, or CSV.")] = "jsonl",
    after: Annotated[int, Query(ge=0, le=MOST, description="Only those behind this number.")] = 0,
) -> Response:
    """Give the audit log out, and note that there."""
    node, _ = context(request)
    actor = actor_of(request.scope["state"]["caller"])
    await node.committer.write(
        lambda tx: audit(
            tx, actor=actor, action="audit.export", subject="audit", detail={"after": after}, at_ms=node.clock.now_ms()
        ),
        wait_s=node.settings.storage_wait_s,
    )
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="legato-audit.{as_}"'}
    if as_ == "csv":
        return StreamingResponse(in_chunks(_csv(node, after)), 200, headers, "text/csv; charset=utf-8")
    return StreamingResponse(in_chunks(_jsonl(node, after)), 200, headers, "application/jsonl")


@router.get("/verify", response_model=VerdictOut, responses=problems(401, 403, 503))
async def get_verdict(request: Request) -> Response:
    """Look at the whole log: whether an entry was changed, left out or put in."""
    found = await verify(context(request)[0])
    shown = {name: getattr(found, name) for name in ("entries", "cut_seq", "head_seq", "head_hash", "fault")}
    return respond(VerdictOut, shown | {"whole": found.fault is None})


async def _jsonl(node: Node, after: int) -> AsyncIterator[bytes]:
    async for row in all_entries(node, after):
        yield _encode(entry_json(row)) + b"\n"


async def _csv(node: Node, after: int) -> AsyncIterator[bytes]:
    yield csv_line(CSV_COLUMNS)
    async for row in all_entries(node, after):
        shown = entry_json(row)
        shown["detail"] = row.detail
        yield csv_line([shown[name] for name in CSV_COLUMNS])


def csv_line(values: Any) -> bytes:
    """Return a line of CSV; no word in it is a formula for a spreadsheet."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_safe(each) for each in values])
    return line.getvalue().encode()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value

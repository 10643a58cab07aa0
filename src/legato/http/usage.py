"""What calls of models have used and cost: as JSON, or as CSV for a spreadsheet."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from legato.core.csv_text import csv_text
from legato.core.money import cost_json
from legato.core.usage import USAGE_COLUMNS, UsageBy, UsageFigures, usage_cells
from legato.http.chat import context
from legato.http.documents import problems
from legato.http.resources import CostOut, Resource, respond
from legato.runs.usage import MAX_GROUPS, UsageReport, report_usage

router = APIRouter(tags=["usage"])


class UsageFiguresOut(Resource):
    """What the calls of one group used, or all."""

    key: str | None = Field(description="The day (UTC, `YYYY-MM-DD`), model and so on; null where calls have none.")
    calls: int = Field(description="Calls of models that used something.")
    counted: int = Field(description="Those of which the model's server has not told all tokens: they were counted.")
    input_tokens: int
    cache_read_tokens: int = Field(description="Part of the input.")
    output_tokens: int
    reasoning_tokens: int = Field(description="Part of the output.")
    cost: CostOut | None = Field(description="Sum of what is known; null where nothing is.")
    unpriced: int = Field(description="Calls whose cost is not known.")


class UsageReportOut(Resource):
    owner: str | None = Field(description="Null: of all.")
    from_ms: int = Field(serialization_alias="from")
    to_ms: int = Field(serialization_alias="to")
    by: UsageBy
    total: UsageFiguresOut
    groups: list[UsageFiguresOut] = Field(description="In the order of their keys.")
    next_cursor: str | None = Field(description="The `after` of the next page; null on the last.")


_CSV: Final[dict[str, Any]] = {
    "description": "With `format=csv` a table of the groups, and `X-Next-Cursor` (percent-encoded) if there are more.",
    "content": {"text/csv": {"schema": {"type": "string"}}},
}


@router.get("/usage", response_model=UsageReportOut, responses={200: _CSV, **problems(400, 401, 403, 422, 503)})
async def get_usage(
    request: Request,
    from_ms: Annotated[
        int | None, Query(alias="from", ge=0, le=2**53, description="Epoch milliseconds; by default 30 days before.")
    ] = None,
    to_ms: Annotated[
        int | None, Query(alias="to", ge=0, le=2**53, description="Epoch milliseconds, exclusive; by default now.")
    ] = None,
    by: Annotated[UsageBy, Query(description="What groups it; `key` is the API key. `owner` is for admins.")] = "day",
    owner: Annotated[
        str | None,
        Query(max_length=1000, description="Whose; by default the caller's own. For admins: anybody's, `*` of all."),
    ] = None,
    model: Annotated[str | None, Query(max_length=200, description="Of this model alone.")] = None,
    session_id: Annotated[
        str | None, Query(alias="sessionId", max_length=200, description="Of this session alone.")
    ] = None,
    key_id: Annotated[str | None, Query(alias="keyId", max_length=200, description="Of this API key alone.")] = None,
    conversation_id: Annotated[
        str | None,
        Query(alias="conversationId", max_length=200, description="Of this conversation alone, until it is deleted."),
    ] = None,
    after: Annotated[str | None, Query(max_length=1000, description="Only groups behind this key.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_GROUPS, description="Most groups of a page.")] = 100,
    form: Annotated[Literal["json", "csv"], Query(alias="format", description="JSON, or CSV.")] = "json",
) -> Response:
    """Return what calls of models have used and cost in a span of time."""
    node, principal = context(request)
    report = await report_usage(
        node,
        principal,
        owner=owner,
        from_ms=from_ms,
        to_ms=to_ms,
        by=by,
        model=model,
        session_id=session_id,
        key_id=key_id,
        conversation_id=conversation_id,
        after=after,
        limit=limit,
    )
    if form == "csv":
        return _as_csv(report)
    shown = {name: getattr(report, name) for name in UsageReport.__slots__}
    shown |= {"total": _shown(report.total), "groups": [_shown(each) for each in report.groups]}
    return respond(UsageReportOut, shown)


def _shown(figures: UsageFigures) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in UsageFigures.__slots__} | {"cost": cost_json(figures.cost)}


def _as_csv(report: UsageReport) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="usage.csv"'}
    if report.next_cursor is not None:
        headers["X-Next-Cursor"] = quote(report.next_cursor, safe="")
    text = csv_text([report.by, *USAGE_COLUMNS], map(usage_cells, report.groups))
    return Response(text, 200, headers, "text/csv; charset=utf-8")

"""Budgets: what may be spent, and what is. For admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from legato.core.budget import EACH, WARN_PERCENT, Budget, Per, Period
from legato.core.ids import ID_MAX_CHARS
from legato.core.money import MOST_USD, cost_json, from_nusd, parse_usd, to_nusd
from legato.http.admin import admin_only
from legato.http.bodies import Body, ClientId, read_body
from legato.http.chat import context
from legato.http.documents import json_body, problems
from legato.http.resources import CostOut, Resource, respond
from legato.runs.audit import actor_of
from legato.runs.budget import Budgets
from legato.runs.budget_admin import BudgetState, delete_budget, list_budgets, put_budget
from legato.runs.node import Node

router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(admin_only)])


class BudgetUseOut(Resource):
    """What one subject has spent in the present period."""

    subject: str | None = Field(description="Principal, key's id, session or model; null for the server.")
    owner: str | None = Field(description="The principal whose it is; null where it is nobody's.")
    spent: CostOut
    reserved: CostOut = Field(description="What replies that are being made may still cost.")


class BudgetOut(Resource):
    """A budget, and what is spent of it."""

    per: Per
    name: str = Field(description="`*`: each has as much for itself.")
    period: Period
    limit: CostOut
    warn_percent: int
    fixed: bool = Field(description="It stands in legato.toml.")
    overridden: bool = Field(description="legato.toml has one of the same name, which holds instead.")
    since_ms: int = Field(serialization_alias="since", description="When the present period began.")
    until_ms: int | None = Field(serialization_alias="until", description="When the next one begins; null: never.")
    uses: list[BudgetUseOut] = Field(description="At most 50, those that have spent the most first.")


class BudgetsOut(Resource):
    budgets: list[BudgetOut]
    unpriced: list[str] = Field(
        description="Models whose price is not known: they are not called where a budget holds."
    )


def _dollars(text: str) -> str:
    if parse_usd(text) is None:
        raise ValueError(f'is no amount of US dollars from 0 to {MOST_USD}: write "12.50"')
    return text


class BudgetIn(Body):
    """A budget to be set."""

    per: Per = Field(description="Whose it is.")
    name: ClientId = Field(EACH, description="Which one; `*`: each has as much for itself.")
    period: Period = Field(description="`day` or `month`, of UTC; `all`: it never begins anew.")
    limit_usd: Annotated[str, AfterValidator(_dollars)] = Field(
        max_length=40, description="US dollars as a decimal, such as `12.50`; `0` lets nothing be spent."
    )
    warn_percent: int = Field(
        WARN_PERCENT, ge=1, le=100, description="Once so much of it is spent `budget.warning` is told."
    )


@router.get("/budgets", response_model=BudgetsOut, responses=problems(401, 403, 503))
async def get_budgets(request: Request) -> Response:
    """List all budgets with what is spent of them in the present period."""
    return await _answer(context(request)[0])


@router.put(
    "/budgets",
    response_model=BudgetsOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
    openapi_extra=json_body(BudgetIn),
)
async def set_budget(request: Request) -> Response:
    """Set a budget, or set it anew; it holds at once at this server, and within two seconds at the others."""
    node, _ = context(request)
    body = await read_body(request, BudgetIn)
    limit_usd = parse_usd(body.limit_usd)
    assert limit_usd is not None
    budgets, actor, now_ms = _budgets(node), actor_of(request.scope["state"]["caller"]), node.clock.now_ms()
    new = Budget(
        per=body.per,
        name=body.name,
        period=body.period,
        limit_nusd=to_nusd(limit_usd),
        warn_percent=body.warn_percent,
    )
    await node.committer.write(
        lambda tx: put_budget(tx, budgets.spending.fixed, new, actor, now_ms), wait_s=node.settings.storage_wait_s
    )
    await budgets.look()
    return await _answer(node)


@router.delete("/budgets", status_code=204, responses=problems(401, 403, 404, 409, 422, 503))
async def remove_budget(
    request: Request,
    per: Annotated[Per, Query(description="Whose it is.")],
    period: Annotated[Period, Query(description="Of UTC; `all`: it never begins anew.")],
    name: Annotated[str, Query(max_length=ID_MAX_CHARS, description="Which one; `*`: that of each.")] = EACH,
) -> Response:
    """Remove a budget; what was spent of it counts if it is set again."""
    node, _ = context(request)
    budgets, actor, now_ms = _budgets(node), actor_of(request.scope["state"]["caller"]), node.clock.now_ms()
    await node.committer.write(
        lambda tx: delete_budget(tx, budgets.spending.fixed, per, name, period, actor, now_ms),
        wait_s=node.settings.storage_wait_s,
    )
    await budgets.look()
    return Response(status_code=204)


def _budgets(node: Node) -> Budgets:
    assert node.budgets is not None
    return node.budgets


def _unpriced(node: Node) -> list[str]:
    spending = node.settings.spending
    if spending.unknown_call_usd is not None or spending.unknown_million_usd is not None:
        return []
    return node.prices.missing(node.models.names)


async def _answer(node: Node) -> Response:
    budgets, now_ms = _budgets(node), node.clock.now_ms()
    found = await node.database.read(lambda tx: list_budgets(tx, budgets.spending.fixed, now_ms))
    return respond(BudgetsOut, {"budgets": [_shown(each) for each in found], "unpriced": _unpriced(node)})


def _shown(state: BudgetState) -> dict[str, Any]:
    budget = state.budget
    return {
        "per": budget.per,
        "name": budget.name,
        "period": budget.period,
        "limit": cost_json(from_nusd(budget.limit_nusd)),
        "warn_percent": budget.warn_percent,
        "fixed": budget.fixed,
        "overridden": state.overridden,
        "since_ms": state.since_ms,
        "until_ms": state.until_ms,
        "uses": [
            {
                "subject": use.subject,
                "owner": use.owner,
                "spent": cost_json(from_nusd(use.spent_nusd)),
                "reserved": cost_json(from_nusd(use.reserved_nusd)),
            }
            for use in state.uses
        ],
    }

"""Counts replies and the feedback on them, and tells the figures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from legato.core.figures import By
from legato.core.topics import CHAT_TOPICS
from legato.steps.builtin.times import span_ms
from legato.steps.context import Context
from legato.steps.jobs import JobEvent
from legato.steps.registry import FLOW
from legato.steps.step_set import StepSet

steps = StepSet()


@steps.queue(*CHAT_TOPICS, name="analytics", flows=[FLOW], batch=500, concurrency=1, attempts=20, most_backoff_s=60.0)
async def count(events: list[JobEvent], ctx: Context) -> None:
    """Counts each reply, and what people think of it, once."""
    await ctx.analytics.record(events)


@steps.http("GET", "/session-stats/{session_id}", name="session-stats", flows=[FLOW])
async def session_stats(
    session_id: Annotated[str, Path(description="The label that messages were posted with.")], ctx: Context
) -> dict[str, Any]:
    """Tells the figures of one session."""
    return (await ctx.analytics.session(session_id)).as_json()


@steps.http("GET", "/analytics", name="analytics-report", flows=[FLOW])
async def report(
    ctx: Context,
    from_: Annotated[str | None, Field(alias="from", description="Epoch milliseconds, or a date.")] = None,
    to: Annotated[str | None, Field(description="Before this time.")] = None,
    by: Annotated[By, Field(description="What groups the replies.")] = "day",
    session_id: Annotated[str | None, Field(alias="sessionId", description="Of this session alone.")] = None,
    model: Annotated[str | None, Field(description="Of this model alone.")] = None,
    after: Annotated[str | None, Field(description="`nextAfter` of the page before.")] = None,
    limit: Annotated[int, Field(ge=1, le=1000, description="Most rows of a page.")] = 1000,
) -> dict[str, Any]:
    """Tells the figures of a span of time by day, model or session."""
    since_ms, until_ms = span_ms(from_, to)
    rows = await ctx.analytics.report(
        since_ms, until_ms, by=by, session_id=session_id, model=model, after=after, limit=limit
    )
    return {
        "from": since_ms,
        "to": until_ms,
        "by": by,
        "rows": [row.as_json() for row in rows],
        "nextAfter": (rows[-1].key or "") if len(rows) == limit and by != "none" else None,
    }

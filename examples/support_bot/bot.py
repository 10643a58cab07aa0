"""A support bot for Plover, an invented weather station: it answers from the handbook, and cites it.

Questions that it could not answer are collected, counted, and reported each morning, so that somebody can write the
missing page; a draft of it is streamed on demand.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field
from search import Handbook, Passage

from legato import ChatMessageCompleted, Context, Event, Legato, NotFound, merge, set_to

HANDBOOK = Handbook(Path(__file__).parent / "handbook")
DRAFTS = "drafts"
"""The session of what the bot itself asks the model."""
DAY_MS = 86_400_000
KEEP_REPORTS_S = 90 * 86_400

app = Legato(
    system_prompt="You are the support assistant of Plover, a weather station for balconies and gardens.\n"
    "Before you answer a question about Plover, call search_documentation. Answer from what it finds, in a few "
    "sentences, and put the source of each statement behind it in brackets, such as [battery.md#low-battery].\n"
    "If nothing of what is found answers the question, say that you do not know, and cite nothing.",
)


class Unanswered(BaseModel):
    """A question whose reply cites nothing."""

    question: str
    asked_at: int = Field(description="Epoch milliseconds.")


class Gap(BaseModel):
    """What the handbook does not tell."""

    question: str
    times: int = Field(description="How often it was asked.")
    last_asked_at: int = Field(description="Epoch milliseconds.")


class DraftRequest(BaseModel):
    """The question that a new section of the handbook shall answer."""

    question: str = Field(min_length=1, max_length=1000)


@app.tool(idempotent=True)
async def search_documentation(query: str, limit: Annotated[int, Field(ge=1, le=8)] = 3) -> list[Passage]:
    """Search Plover's handbook. Each passage has a `source`, which is what to cite.

    Args:
        query: A few English words for what is looked for, such as "change the battery".
        limit: Most passages.
    """
    return HANDBOOK.search(query, limit)


def citations(text: str) -> list[str]:
    """Return the sources that a reply cites and that there are."""
    return [source for source in re.findall(r"\[([^\[\]\s]+)\]", text) if source in HANDBOOK.sources]


@app.queue(
    "chat.message.completed",
    condition=lambda event, ctx: event.session_id != DRAFTS,
    enqueues=["support.question.unanswered"],
    flows=["support"],
)
async def find_unanswered(event: ChatMessageCompleted, ctx: Context) -> None:
    """Passes a question on whose reply cites nothing."""
    reply = await ctx.conversations.message(event.message_id)
    if citations(reply.text):
        return
    question = await ctx.conversations.message(event.user_message_id)
    await ctx.enqueue("support.question.unanswered", Unanswered(question=question.text, asked_at=event.timestamp))


@app.queue("support.question.unanswered", flows=["support"])
async def collect(unanswered: Unanswered, ctx: Context) -> None:
    """Keeps a question for the people of support, once for all who ask it in the same words."""
    key = " ".join(re.findall(r"\w+", unanswered.question.lower()))[:200] or "?"
    # Under the event's id: an event that is delivered twice counts once.
    await ctx.shared.update(
        "gaps",
        key,
        set_to("question", unanswered.question),
        merge("asked", {str(ctx.event_id): unanswered.asked_at}),
    )


@app.cron("0 7 * * *", timezone="Europe/Berlin", flows=["support"])
async def report(ctx: Context) -> None:
    """Reports what was asked in vain in the 24 hours before."""
    until_ms = ctx.trigger.at_ms
    found = await gaps_between(ctx, until_ms - DAY_MS, until_ms)
    day = datetime.fromtimestamp(until_ms / 1000, UTC).date().isoformat()
    await ctx.shared.set("reports", day, [gap.model_dump() for gap in found], ttl_s=KEEP_REPORTS_S)
    ctx.logger.info("reported the day", day=day, gaps=len(found))


def is_staff(given: Any, ctx: Context) -> bool:
    """Whether the caller's key is an administrator's; without keys, whoever calls."""
    return ctx.principal.role == "admin"


@app.http("GET", "/gaps", condition=is_staff, flows=["support"])
async def gaps(ctx: Context) -> list[Gap]:
    """Lists what the handbook does not tell, the most wanted first."""
    return await gaps_between(ctx, 0, ctx.trigger.at_ms)


@app.http("GET", "/reports/{day}", condition=is_staff, flows=["support"])
async def report_of(day: str, ctx: Context) -> list[Gap]:
    """Returns the report of a day, such as 2026-11-23."""
    found = await ctx.shared.get("reports", day)
    if found is None:
        raise NotFound(f"there is no report of {day}")
    return [Gap(**gap) for gap in found]


@app.http("POST", "/drafts", condition=is_staff, flows=["support"])
async def draft(request: DraftRequest, ctx: Context) -> AsyncIterator[Event]:
    """Streams a draft for the handbook: the passages that are nearest, then the model's text piece by piece."""
    for passage in HANDBOOK.search(request.question, 3):
        yield Event("passage", passage)
    run = await ctx.runs.start(
        f"Write a section for the handbook, of at most 80 words, that answers: {request.question}", session_id=DRAFTS
    )
    async for _, item in ctx.runs.follow(run.run_id):
        if isinstance(item, str):
            yield Event("text", {"content": item})
    yield Event("complete", {"state": (await ctx.runs.get(run.run_id)).state})


async def gaps_between(ctx: Context, since_ms: int, until_ms: int) -> list[Gap]:
    """Return the gaps with how often each was asked for within a time, the most wanted first."""
    found: list[Gap] = []
    after: str | None = None
    while True:
        page = await ctx.shared.list("gaps", after=after)
        for entry in page.entries:
            times = [at for at in entry.value["asked"].values() if since_ms <= at <= until_ms]
            if times:
                found.append(Gap(question=entry.value["question"], times=len(times), last_asked_at=max(times)))
        after = page.next
        if after is None:
            return sorted(found, key=lambda gap: (-gap.times, -gap.last_asked_at))

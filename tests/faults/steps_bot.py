"""A bot whose steps leave a trace of all that they do; it is served to be killed.

An effect is state under the event's id. Each run is also a line of runs.log, outside the database, so that what was
done more than once is known: step, event id, number, lane, process.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Literal

from pydantic import BaseModel

from legato import Context, Legato, QueueEvent
from legato.core.errors import VersionConflict

app = Legato()
OFTEN: dict[str, Any] = {"attempts": 60, "backoff_s": 0.01, "most_backoff_s": 0.05}
SLOW_S = 1.0
_log = os.open("runs.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class Work(BaseModel):
    """A job.

    Attributes:
        number: Its own, of all that were ever posted.
        lane: Jobs of one lane have an order, where the kind has one.
        poison: Its handler ends the process.
    """

    kind: Literal["plain", "ordered", "batched"]
    number: int
    lane: str
    poison: bool = False


class Followed(BaseModel):
    """What a job enqueues when it has had its effect."""

    number: int


@app.http("POST", "/work", enqueues=["work.plain", "work.ordered", "work.batched"])
async def take(work: Work, ctx: Context) -> dict[str, str]:
    """Accepts a job: it is kept when this has answered."""
    return {"id": await ctx.enqueue(f"work.{work.kind}", work)}


@app.queue("work.plain", enqueues=["work.followed"], **OFTEN)
async def plain(work: Work, ctx: Context) -> None:
    """Fails now and then, has its effect, and passes it on."""
    if work.poison:
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    if ctx.attempt == 1 and work.number % 7 == 0:
        raise ConnectionError
    await had(ctx, "plain", ctx.event_id, work.number, work.lane)
    await ctx.enqueue("work.followed", Followed(number=work.number))


@app.queue("work.followed", **OFTEN)
async def follow(followed: Followed, ctx: Context) -> None:
    await had(ctx, "followed", ctx.event_id, followed.number)


@app.queue("work.ordered", key="lane", **OFTEN)
async def ordered(work: Work, ctx: Context) -> None:
    if ctx.attempt == 1 and work.number % 7 == 0:
        raise ConnectionError
    await had(ctx, "ordered", ctx.event_id, work.number, work.lane)


@app.queue("work.batched", batch=8, **OFTEN)
async def batched(events: list[QueueEvent], ctx: Context) -> None:
    for event in events:
        await had(ctx.acting_for(event.owner), "batched", event.id, event.payload["number"])


@app.queue("chat.message.completed", "chat.message.failed", "chat.message.stopped", **OFTEN)
async def replied(event: dict[str, Any], ctx: Context) -> None:
    await had(ctx, "replied", ctx.event_id)


@app.queue("chat.feedback.given", **OFTEN)
async def judged(event: dict[str, Any], ctx: Context) -> None:
    await had(ctx, "judged", ctx.event_id)


@app.cron("* * * * * *")
async def tick(ctx: Context) -> None:
    note("tick-begun", ctx.event_id)
    note("tick", ctx.event_id)


@app.cron("0 * * * *")
async def hourly(ctx: Context) -> None:
    """Is made up for where it was missed."""
    note("hourly-begun", ctx.event_id)
    while os.path.exists("held"):  # noqa: ASYNC110, ASYNC240 - whoever kills the server says so
        await asyncio.sleep(0.01)
    await asyncio.sleep(SLOW_S)
    note("hourly", ctx.event_id)


@app.cron("0 * * * *", missed="skip")
async def skipped(ctx: Context) -> None:
    """Is not."""
    note("skipped", ctx.event_id)


async def had(ctx: Context, step: str, event_id: str | None, number: int = 0, lane: str = "-") -> None:
    """Have the effect of an event, once however often its handler is run; it names the number that it is for."""
    assert event_id is not None
    try:
        await ctx.state.set("effects", event_id, {"step": step, "number": number}, if_version=0)
    except VersionConflict:
        pass
    note(step, event_id, number, lane)


def note(step: str, event_id: str | None, number: int = 0, lane: str = "-") -> None:
    os.write(_log, f"{step} {event_id} {number} {lane} {os.getpid()}\n".encode())

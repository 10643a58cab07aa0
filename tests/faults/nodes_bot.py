"""A bot on several nodes whose steps keep what they were given, and where: `legato serve nodes_bot.py`."""

from __future__ import annotations

import asyncio
import os

from legato import ChatMessageCompleted, Context, Legato, append

app = Legato()


@app.queue("chat.message.completed")
async def note(event: ChatMessageCompleted, ctx: Context) -> None:
    """Notes a reply under its run, with the process that did."""
    await asyncio.sleep(0.05)
    await ctx.state.update("noted", event.run_id, append("by", os.getpid()))


@app.cron("* * * * * *")
async def beat(ctx: Context) -> None:
    """Notes each second."""
    await ctx.shared.update("beats", str(ctx.trigger.at_ms), append("by", os.getpid()))


@app.http("GET", "/noted")
async def noted(ctx: Context) -> dict[str, list[int]]:
    """Shows what was noted."""
    return await _all(ctx, "noted")


@app.http("GET", "/beats")
async def beats(ctx: Context) -> dict[str, list[int]]:
    """Shows the seconds."""
    return await _all(ctx, "beats")


async def _all(ctx: Context, group: str) -> dict[str, list[int]]:
    state = ctx.shared if group == "beats" else ctx.state
    found: dict[str, list[int]] = {}
    after: str | None = None
    while True:
        page = await state.list(group, limit=100, after=after)
        found |= {entry.key: entry.value["by"] for entry in page.entries}
        if not page.entries or len(page.entries) < 100:
            return found
        after = page.entries[-1].key

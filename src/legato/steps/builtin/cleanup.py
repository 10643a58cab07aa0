"""Deletes conversations whose time is over, with everything that belongs to them."""

from __future__ import annotations

from legato.steps.context import Context
from legato.steps.registry import FLOW
from legato.steps.step_set import StepSet

steps = StepSet()


@steps.cron("0 */6 * * *", name="cleanup", flows=[FLOW])
async def clean_up(ctx: Context) -> None:
    """Deletes idle conversations, and state that has expired."""
    conversations = 0
    while removed := await ctx.conversations.expire():
        conversations += removed
    values = await ctx.shared.expire()
    ctx.logger.info("cleaned up", conversations=conversations, values=values)

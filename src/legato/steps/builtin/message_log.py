"""Finds every message by conversation, session and time."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from legato.core.resources import Message
from legato.core.usage import usage_json
from legato.steps.builtin.times import span_ms
from legato.steps.context import Context
from legato.steps.registry import FLOW
from legato.steps.step_set import StepSet

steps = StepSet()

Id = Annotated[str, Field(min_length=1, max_length=200)]


@steps.http("GET", "/messages", name="message-log", flows=[FLOW])
async def messages(
    ctx: Context,
    conversation_id: Annotated[Id | None, Field(alias="conversationId", description="Of this one alone.")] = None,
    session_id: Annotated[Id | None, Field(alias="sessionId", description="Of this one alone.")] = None,
    from_: Annotated[str | None, Field(alias="from", description="Epoch milliseconds, or a date.")] = None,
    to: Annotated[str | None, Field(description="Before this time.")] = None,
    cursor: Annotated[str | None, Field(description="`nextCursor` of the page before.")] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="Most messages of a page.")] = 50,
) -> dict[str, Any]:
    """Finds messages of all conversations and branches, oldest first, by conversation, session and time."""
    since_ms, until_ms = span_ms(from_, to)
    page = await ctx.conversations.log(
        conversation_id=conversation_id,
        session_id=session_id,
        since_ms=since_ms,
        until_ms=until_ms,
        cursor=cursor,
        limit=limit,
    )
    return {"messages": [_as_json(message) for message in page.messages], "nextCursor": page.next_cursor}


def _as_json(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "role": message.role,
        "content": message.text,
        "timestamp": message.created_at_ms,
        "conversationId": message.conversation_id,
        "sessionId": message.session_id,
        "runId": message.run_id,
        "status": message.status,
        "model": message.model,
        "usage": usage_json(message.usage),
        "metadata": message.metadata,
    }

"""The topics of events that the server itself tells. Pure."""

from __future__ import annotations

from typing import Final

CHAT_TOPICS: Final = (
    "chat.message.completed",
    "chat.message.failed",
    "chat.message.stopped",
    "chat.feedback.given",
)
"""What the chat tells; each event's payload has the `conversationId` that it is about."""
SERVER_TOPICS: Final = (*CHAT_TOPICS, "budget.warning", "budget.spent")
"""What the server itself tells; no step may enqueue these."""

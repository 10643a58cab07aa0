"""Replies that were made, and the events that tell of them, delivered by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from legato.core.principal import LOCAL, Principal
from legato.runs.analytics import Analytics
from legato.runs.live import RunRequest
from legato.runs.node import Node
from legato.runs.start import NewMessage, start
from legato.storage.turns import LEAF

COMPLETED: Final = "chat.message.completed"
GIVEN: Final = "chat.feedback.given"
EVER: Final = 2**53
AT_MS: Final = 1_700_000_000_000
"""When replies end; 2023-11-14 in UTC."""


@dataclass(frozen=True, slots=True)
class Event:
    """As a queue step is given it."""

    topic: str
    owner: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that was made, and what its end and feedback on it would tell."""

    run_id: str
    message_id: str
    conversation_id: str
    owner: str

    def ended(self, topic: str = COMPLETED, **fields: Any) -> Event:
        payload = {
            "id": f"{self.run_id}.{topic.rpartition('.')[2]}",
            "conversationId": self.conversation_id,
            "sessionId": "s-1",
            "runId": self.run_id,
            "messageId": self.message_id,
            "userMessageId": "m-0",
            "messageLength": 5,
            "responseLength": 41,
            "chunkCount": 9,
            "timestamp": AT_MS,
            "model": "scripted",
            "usage": {"inputTokens": 7, "outputTokens": 5, "cacheReadTokens": None, "reasoningTokens": None},
            "cost": None,
            "finishReason": "stop",
            "responseTimeMs": 120,
            "firstTokenMs": 30,
        }
        return Event(topic, self.owner, payload | fields)

    def judged(self, thumb: str | None, at_ms: int, **fields: Any) -> Event:
        payload = {
            "id": f"e-{at_ms}",
            "conversationId": self.conversation_id,
            "sessionId": "s-1",
            "runId": self.run_id,
            "messageId": self.message_id,
            "thumb": thumb,
            "reason": None,
            "timestamp": at_ms,
            "model": "scripted",
        }
        return Event(GIVEN, self.owner, payload | fields)


async def say(node: Node, owner: Principal = LOCAL, conversation_id: str = "c-1", session_id: str = "s-1") -> Reply:
    """Make a reply, whose own event is not delivered."""
    message = NewMessage(
        text="script: tokens=1",
        session_id=session_id,
        conversation_id=conversation_id,
        request=RunRequest(),
        parent=LEAF,
    )
    started = await start(node, owner, message)
    while node.live:
        await node.committer.flush()
    return Reply(started.run_id, started.message_id, conversation_id, owner.id)


async def whole(analytics: Analytics) -> dict[str, Any]:
    """The figures of all replies."""
    (figures,) = await analytics.report(0, EVER, by="none")
    return figures.as_json()

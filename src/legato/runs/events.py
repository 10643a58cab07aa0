"""What a reply's end tells the steps: one event of a topic, made of the run's log."""

from __future__ import annotations

from typing import Any, Final

from legato.core.event import RunFailed, RunStopped
from legato.core.log import RunLog
from legato.core.money import usd_text
from legato.core.reply import Reply
from legato.core.text import utf16_length
from legato.core.usage import usage_json
from legato.runs.live import LiveRun
from legato.storage.outbox import OutboxEvent
from legato.storage.runs import TurnRows

COMPLETED: Final = "chat.message.completed"
FAILED: Final = "chat.message.failed"
STOPPED: Final = "chat.message.stopped"


def ended_event(run: LiveRun, reply: Reply, log: RunLog, rows: TurnRows, *, finish_reason: str | None) -> OutboxEvent:
    """Return the event of a run's end.

    Args:
        reply: What the log says before its end.
        log: The whole log, its terminal event included.
    """
    started, terminal = run.started, log.events[-1]
    topic, more = COMPLETED, dict[str, Any]()
    if isinstance(terminal, RunFailed):
        topic = FAILED
        more = {
            "error": terminal.message,
            "code": terminal.code,
            "retryable": terminal.retryable,
            "partial": bool(reply.text),
        }
    elif isinstance(terminal, RunStopped):
        topic, more = STOPPED, {"stoppedBy": terminal.by}
    event_id = f"{run.id}.{topic.rpartition('.')[2]}"
    payload = {
        "id": event_id,
        "conversationId": run.conversation_id,
        "sessionId": started.session_id,
        "runId": run.id,
        "messageId": run.message_id,
        "userMessageId": run.user_message_id,
        "messageLength": started.message_length,
        "responseLength": utf16_length(reply.text),
        "chunkCount": log.texts_before(len(log)),
        "timestamp": rows.now_ms,
        "model": reply.model,
        "usage": usage_json(reply.usage),
        "cost": None if reply.cost is None else usd_text(reply.cost),
        "finishReason": finish_reason,
        "responseTimeMs": rows.response_time_ms,
        "firstTokenMs": rows.first_token_ms,
    }
    return OutboxEvent(
        id=event_id,
        owner=run.tail.owner,
        topic=topic,
        payload=payload | more,
        trace_id=started.trace_id,
        at_ms=rows.now_ms,
    )

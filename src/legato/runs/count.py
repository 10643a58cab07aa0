"""What a reply's end means to metrics and traces, and what a node holds now."""

from __future__ import annotations

from legato.core.event import CallStarted, RunFailed, RunFinished, RunStopped, Terminal
from legato.core.log import RunLog
from legato.core.reply import STOP_REASONS, Reply
from legato.runs.live import LiveRun
from legato.runs.node import Node


def count_end(
    node: Node, run: LiveRun, reply: Reply, log: RunLog, terminal: Terminal, first_token_ms: int | None
) -> None:
    """Count a run that ended, and tell the traces.

    Args:
        reply, log: What was said before `terminal`.
        first_token_ms: As storage.runs.TurnRows.
    """
    state, reason = _ended(terminal)
    node.metrics.run_ended(
        state=state,
        reason=reason,
        model=reply.model,
        first_token_ms=first_token_ms,
        response_ms=terminal.response_time_ms,
        unpriced=reply.calls > 0 and reply.cost is None,
    )
    if node.traces is None:
        return
    finish = terminal.reason if isinstance(terminal, RunFinished) else None
    node.traces.run(
        run_id=run.id,
        trace_id=run.started.trace_id,
        conversation_id=run.conversation_id,
        asked_model=next((event.model for event in log.events if isinstance(event, CallStarted)), None),
        model=reply.model,
        usage=reply.usage,
        cost=reply.cost,
        finish_reason=STOP_REASONS[terminal.by] if isinstance(terminal, RunStopped) else finish,
        fault=terminal.code if isinstance(terminal, RunFailed) else None,
        takeovers=run.takeovers,
        began_ns=run.started.at_ms * 1_000_000,
    )


def count_now(node: Node) -> None:
    """Tell the metrics what a node holds."""
    queued = sum(run.queued for run in node.live.values())
    node.metrics.set_node(
        queued=queued,
        running=len(node.live) - queued,
        readers=len(node.readers),
        stalled_s=node.committer.stalled_s,
        draining=node.draining,
    )


def _ended(terminal: Terminal) -> tuple[str, str]:
    match terminal:
        case RunFinished(reason=reason):
            return "finished", reason
        case RunStopped(by=by):
            return "stopped", by
        case RunFailed(code=code):
            return "failed", code

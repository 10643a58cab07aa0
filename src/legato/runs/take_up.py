"""Takes up a run from its row and its log: after a restart, a death of another node, or the end of the turn before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from legato.core.event import RunStarted
from legato.core.run_errors import Interrupted, RunError
from legato.runs.budget import Hold
from legato.runs.live import UNKNOWN_MS, LiveRun, RunRequest
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.storage.codec import SegmentPiece


def take_up(
    node: Node, row: Any, pieces: Sequence[SegmentPiece] | None, *, queued: bool = False, segment_id: int = 0
) -> LiveRun:
    """Return the run of a row (storage.runs.RUN_ROWS), as far as its log goes; nothing of it is begun.

    One of which something does not open fails when it is begun.

    Args:
        pieces: The whole log so far; None where it does not open.
        segment_id: Of its first segment, where there are segments.
    """
    tail = Tail(run_id=row.id, owner=row.owner, key=row.key, epoch=row.epoch)
    for _, _, epoch, items in [_beginning(row)] if pieces is None else pieces:
        tail.log.extend(items, epoch)
    spent_s = max(0.0, (node.clock.now_ms() - (row.started_at_ms or node.clock.now_ms())) / 1000)
    run = LiveRun(
        tail=tail,
        conversation_key=row.conversation_key,
        conversation_id=row.conversation_id,
        turn=row.turn,
        user_message_id=row.user_message_id,
        message_id=row.message_id,
        request=request_of(row),
        queued=queued,
        history=True,
        segment_id=segment_id,
        began_s=node.clock.monotonic_s() - spent_s,
        key_id=row.key_id,
    )
    run.takeovers = row.takeovers
    run.stop_cause = row.stop_by
    if row.epoch:
        # Whoever made it before may have reserved something.
        run.held = Hold(id=row.id)
    if tail.log.text_bytes:
        run.first_token_at_ms = UNKNOWN_MS
    if pieces is None or row.request is None:
        run.fail(unreadable())
    return run


def request_of(row: Any) -> RunRequest:
    """Return what was asked for by a row; nothing where that does not open."""
    return RunRequest() if row.request is None else RunRequest.from_json(row.request).over(row)


def unreadable() -> RunError:
    """Return the error with which a run ends of which something does not open."""
    return Interrupted("what is kept of this reply cannot be read any more: ask again")


def _beginning(row: Any) -> SegmentPiece:
    """Return the first event of a log, as far as the run's row knows it."""
    started = RunStarted(
        conversation_id=row.conversation_id,
        session_id=row.session_id,
        user_message_id=row.user_message_id,
        message_id=row.message_id,
        at_ms=row.created_at_ms,
    )
    return row.key, 0, row.epoch, [started]

"""Takes up what an earlier process left: every unfinished run goes on from what was shown, or ends with an error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from legato.core.errors import Interrupted
from legato.core.event import LogItem, RunStarted
from legato.runs.end import Failed, Stopped, end
from legato.runs.execute import begin, promote
from legato.runs.live import UNKNOWN_MS, LiveRun, RunRequest
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.storage.codec import decode_segment
from legato.storage.runs import adopt_all, hand_over, prune_segments

log = structlog.get_logger(__name__)

MOST_TAKEOVERS = 2
"""A run that would be adopted once more ends as interrupted: it may be what ends the processes."""
PRUNE_ROWS = 500
"""Segments deleted in one transaction."""

_Piece = tuple[int, int, Sequence[LogItem]]
"""The segment's id, the epoch, and what was appended."""


async def recover(node: Node) -> int:
    """Adopt all unfinished runs and begin them; return how many. Called before the server answers."""
    running, queued, segments = await node.committer.write(adopt_all)
    logs: dict[int, list[_Piece]] = {}
    for row in segments:
        for key, _, epoch, items in decode_segment(row):
            if isinstance(items[0], RunStarted):
                # SQLite gives the key of a run that was deleted to the next one: what is before is not this run's.
                logs[key] = []
            logs.setdefault(key, []).append((row.id, epoch, items))
    adopted = [_take_up(node, row, logs.get(row.key, [])) for row in (*running, *queued)]
    # Told apart now: the end of one lets the next of its conversation run, which is begun there and then.
    stopped = [run for run in adopted if run.queued and run.stop_cause is not None]
    for run in [run for run in adopted if not run.queued]:
        if run.stop_cause is not None:
            following = await end(node, run, Stopped(run.stop_cause))
        elif run.takeovers > MOST_TAKEOVERS:
            following = await end(node, run, Failed(Interrupted(f"the reply was cut {run.takeovers} times: ask again")))
        else:
            begin(node, run)
            continue
        if following is not None:
            promote(node, following)
    for run in stopped:
        assert run.stop_cause is not None
        following = await end(node, run, Stopped(run.stop_cause))
        if following is not None:
            promote(node, following)
    if adopted:
        node.metrics.taken_over(len(running))
        log.info("took up unfinished runs", running=len(running), waiting=len(queued))
    return len(adopted)


def _take_up(node: Node, row: Any, pieces: list[_Piece]) -> LiveRun:
    queued = row.state == "queued"
    tail = Tail(run_id=row.id, owner=row.owner, key=row.key, epoch=row.epoch if queued else row.epoch + 1)
    for _, epoch, items in pieces:
        tail.log.extend(items, epoch)
    spent_s = max(0.0, (node.clock.now_ms() - (row.started_at_ms or node.clock.now_ms())) / 1000)
    run = LiveRun(
        tail=tail,
        conversation_key=row.conversation_key,
        conversation_id=row.conversation_id,
        turn=row.turn,
        user_message_id=row.user_message_id,
        message_id=row.message_id,
        request=RunRequest.from_json(row.request).over(row),
        queued=queued,
        history=True,
        segment_id=pieces[0][0] if pieces else 0,
        began_s=node.clock.monotonic_s() - spent_s,
    )
    run.takeovers = row.takeovers if queued else row.takeovers + 1
    run.stop_cause = row.stop_by
    if tail.log.text_bytes:
        run.first_token_at_ms = UNKNOWN_MS
    node.live[run.id] = run
    return run


async def leave(node: Node) -> None:
    """Say that what still runs is handed to the next start on purpose, and let go of it."""
    if node.left:
        # Handed over once already: a second time would take a crash off the count.
        return
    node.left = True
    if node.committer.stalled_s == 0:
        await node.committer.write(hand_over)
    for task in list(node.tasks):
        task.cancel()


async def prune(node: Node) -> None:
    """Delete the segments that no live run needs any more: those of ended runs are packed."""
    floor = min((run.segment_id for run in node.live.values()), default=None)
    while node.committer.stalled_s == 0:
        if floor is None and node.starting:
            # A run whose first segment may be on its way is not in `live` yet.
            return
        more = await node.committer.write(partial(prune_segments, floor=floor, limit=PRUNE_ROWS))
        if not more:
            return
        floor = min((run.segment_id for run in node.live.values()), default=None)

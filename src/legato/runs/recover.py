"""Takes up what an earlier process left: every unfinished run goes on from what was shown, or ends with an error."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from legato.core.errors import StorageUnavailable
from legato.core.run_errors import Interrupted, RunError
from legato.fanout.hint import HintKind
from legato.runs.end import Failed, Stopped
from legato.runs.execute import begin, end_turn
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.take_up import take_up
from legato.storage.nodes import adopt, find_queued, offer
from legato.storage.runs import find_segments
from legato.storage.sealed_logs import is_lost
from legato.storage.segments import Logs, read_segments
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

MOST_TAKEOVERS = 2
"""A run that would be adopted once more ends as interrupted: it may be what ends the processes."""
ALL = 2**31 - 1
"""More running runs than there can be."""
UNWIND_S: Final = 2.0
"""How long a node that leaves waits for its calls to end, and for the database to take what they brought."""


async def recover(node: Node) -> int:
    """Adopt all unfinished runs and begin them; return how many. Called before the server answers."""
    if node.lease is not None:
        return await node.lease.reaper.adopt()
    running, queued, (logs, first_ids, unreadable) = await node.committer.write(_adopt_all)
    if node.budgets is not None:
        # Nothing is being made yet: what is held for anything but the runs that are taken up is nobody's.
        await node.budgets.sweep()
    for row in (*running, *queued):
        fault = unreadable.get(row.key)
        if fault is not None and not is_lost(fault):
            continue
        pieces = logs.get(row.key, ()) if fault is None else None
        queued_here, segment_id = row.state == "queued", first_ids.get(row.key, 0)
        node.live[row.id] = take_up(node, row, pieces, queued=queued_here, segment_id=segment_id)
    adopted = [*node.live.values()]
    # Told apart now: the end of one lets the next of its conversation run, which is begun there and then.
    stopped = [run for run in adopted if run.queued and run.stop_cause is not None]
    for run in [run for run in adopted if not run.queued]:
        if run.stop_cause is not None:
            await end_turn(node, run, Stopped(run.stop_cause))
        elif (error := why_not_again(run)) is not None:
            await end_turn(node, run, Failed(error))
        else:
            begin(node, run)
    for run in stopped:
        assert run.stop_cause is not None
        await end_turn(node, run, Stopped(run.stop_cause))
    if adopted:
        node.metrics.taken_over(len(running))
        log.info("took up unfinished runs", running=len(running), waiting=len(queued))
    return len(adopted)


def _adopt_all(tx: Transaction) -> tuple[list[Any], list[Any], Logs]:
    running, queued = adopt(tx, ALL), find_queued(tx)
    conversations = {row.key: row.conversation_key for row in (*running, *queued)}
    return running, queued, read_segments(tx, find_segments(tx), conversations)


def why_not_again(run: LiveRun) -> RunError | None:
    """Return the error with which a run ends that was taken over too often, or None."""
    if run.takeovers <= MOST_TAKEOVERS:
        return None
    return Interrupted(f"the reply was cut {run.takeovers} times: ask again")


async def leave(node: Node) -> None:
    """Say that what still runs is handed to the next start on purpose, and let go of it."""
    if node.left:
        # Handed over once already: a second time would take a crash off the count.
        return
    node.left = True
    if node.key is not None:
        await _give_away(node)
    elif node.committer.stalled_s == 0:
        await node.committer.write(offer)
    for task in list(node.tasks):
        task.cancel()


async def _give_away(node: Node) -> None:
    """Leave what runs to the other nodes, as far as it was shown; what is ending is let end."""
    if node.committer.stalled_s > 0 or node.outcast is not None:
        # They take it when the lease has run out, or have taken it.
        return
    tasks = [task for run in node.live.values() if (task := run.task) is not None]
    for run in node.live.values():
        run.cancel()
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=UNWIND_S)
        await node.committer.flush(wait_s=UNWIND_S)
        for run in list(node.live.values()):
            if run.tail not in node.committer.ending:
                del node.live[run.id]
                run.let_go()
        # Behind it nothing of them is on its way: whoever takes them goes on from all that there is.
        await node.committer.flush(wait_s=UNWIND_S)
        await node.committer.write(offer, wait_s=UNWIND_S)
    except StorageUnavailable:
        log.warning("the database is away: replies are taken over when the lease has run out")
        return
    node.wakes.tell(HintKind.OFFERED)

"""Deletes what the logs of ended runs were kept in while they were made: each is packed in its run_log by then."""

from __future__ import annotations

from functools import partial
from typing import Final

from legato.runs.node import Node
from legato.storage.nodes import forget_nodes
from legato.storage.pieces import delete_orphans, delete_pieces
from legato.storage.runs import prune_segments

PRUNE_ROWS: Final = 500
"""Segments deleted in one transaction."""
READ_S: Final = 2.0
"""How long other nodes may still read the pieces of a run that has ended, rather than its packed log."""


async def prune(node: Node) -> None:
    """Delete the segments, or pieces, that no live run needs any more."""
    if node.key is None:
        await _prune_segments(node)
    else:
        await _prune_pieces(node)


async def sweep(node: Node) -> None:
    """Delete what dead nodes have left behind, which one node does for all, and give back what this one forgot."""
    if node.budgets is not None:
        await node.budgets.release_unowned()
    if node.lease is not None and node.leads:
        if node.budgets is not None:
            await node.budgets.sweep()
        while await node.committer.write(delete_orphans, wait_s=READ_S):
            pass
        await node.committer.write(forget_nodes, wait_s=READ_S)


async def _prune_pieces(node: Node) -> None:
    # Oldest first, as they have ended.
    until_s = node.clock.monotonic_s() - READ_S
    over = [key for key, ended_s in node.ended.items() if ended_s <= until_s]
    if over and node.committer.stalled_s == 0:
        await node.committer.write(partial(delete_pieces, run_keys=over))
        for key in over:
            del node.ended[key]


async def _prune_segments(node: Node) -> None:
    floor = min((run.segment_id for run in node.live.values()), default=None)
    while node.committer.stalled_s == 0:
        if floor is None and node.starting:
            # A run whose first segment may be on its way is not in `live` yet.
            return
        more = await node.committer.write(partial(prune_segments, floor=floor, limit=PRUNE_ROWS))
        if not more:
            return
        floor = min((run.segment_id for run in node.live.values()), default=None)

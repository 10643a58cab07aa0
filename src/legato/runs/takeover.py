"""Fences nodes that died, and takes up the runs that are nobody's: every node does, a page at a time.

A dead node is fenced before its runs are touched. Its sessions are ended first: one that was stopped in the midst of a
transaction would hold its locks until the database gave up on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from legato.core.errors import StorageUnavailable
from legato.runs.execute import begin
from legato.runs.node import Node
from legato.runs.recover import why_not_again
from legato.runs.take_up import take_up
from legato.storage.budget_holds import hand_over
from legato.storage.codec import SegmentPiece
from legato.storage.committer import Command
from legato.storage.nodes import Dead, adopt, end_sessions, fence, find_dead, has_unowned
from legato.storage.pieces import read_each
from legato.storage.sealed_logs import is_lost
from legato.storage.statement import Transaction

if TYPE_CHECKING:
    from legato.runs.lease import Lease

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.25
"""Between two looks for nodes that died and for runs that are nobody's."""
PAGE: Final = 32
"""Runs taken in one transaction; the others are for whoever is faster."""
PAUSE_S: Final = 0.005
"""Between two pages: other nodes take some too."""

_Taken = tuple[int | None, list[Any], dict[int, list[SegmentPiece]], dict[int, Exception]]
"""The node's key, the rows, the logs, and why others of them cannot be read."""


class Adopt(Command[_Taken]):
    """Takes a page of runs that are nobody's, with their logs, and begins them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def apply(self, tx: Transaction) -> _Taken:
        rows = adopt(tx, PAGE)
        hand_over(tx, [row.id for row in rows])
        return tx.node_key, rows, *(read_each(tx, [row.key for row in rows]) if rows else ({}, {}))

    def committed(self, value: _Taken) -> None:
        node_key, rows, pieces, unreadable = value
        if not self._node.owns(node_key):
            # It was fenced since, or it leaves: they are nobody's again.
            return
        for row in rows:
            fault = unreadable.get(row.key)
            if fault is not None:
                log.error("the log of a run cannot be read", run_id=row.id, error=str(fault))
                if not is_lost(fault):
                    # It stays as it is, until a node that can read it has it.
                    continue
            try:
                self._begin(row, pieces.get(row.key, []) if fault is None else None)
            except Exception:
                # The boundary of one run: what is wrong with its log must not harm the others of the page.
                log.exception("run could not be taken up", run_id=row.id)

    def _begin(self, row: Any, pieces: list[SegmentPiece] | None) -> None:
        node = self._node
        node.live[row.id] = run = take_up(node, row, pieces)
        if (error := why_not_again(run)) is not None:
            run.fail(error)
        begin(node, run)


class Reaper:
    """Looks for what was left behind, for as long as its node lives and does not leave."""

    def __init__(self, node: Node, lease: Lease) -> None:
        self._node = node
        self._lease = lease
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have it look at once: somebody has offered runs."""
        self._woken.set()

    async def look(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                if await self._reap() and not self._node.draining:
                    await self.adopt()
            except StorageUnavailable:
                pass
            except Exception:
                # The boundary of a job that nobody waits for: the next look may succeed.
                log.exception("dead nodes could not be looked for")
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def adopt(self) -> int:
        """Take up runs that are nobody's until there are none; return how many."""
        node, count = self._node, 0
        while not (node.draining or node.suspended):
            _, rows, *_ = await node.committer.execute(Adopt(node))
            if rows:
                count += len(rows)
                node.metrics.taken_over(len(rows))
                log.info("took up unfinished runs", running=len(rows))
                if node.admission is not None:
                    node.admission.wake()
            if len(rows) < PAGE:
                break
            await asyncio.sleep(PAUSE_S)
        return count

    async def _reap(self) -> bool:
        """Fence the nodes that died; return whether there are runs to be taken up."""
        node, lease = self._node, self._lease
        key = node.key
        if key is None or node.suspended or node.left:
            return False
        steady = lease.steady
        dead, unowned = await lease.connection.run(lambda tx: (find_dead(tx, key) if steady else [], has_unowned(tx)))
        if not lease.steady:
            # The answer took so long that the database was away meanwhile, for the others too.
            dead = []
        fenced = [each for each in dead if await self._fence(each)]
        if fenced:
            executors = [each.executor_id for each in fenced]
            for told in node.on_fenced:
                node.keep(asyncio.create_task(_tell(told, executors)))
        return unowned or bool(fenced)

    async def _fence(self, dead: Dead) -> bool:
        connection = self._lease.connection
        # Not those of this process: an incarnation of before has none that is not the present one's too.
        if dead.executor_id != self._node.executor_id:
            await connection.run(partial(end_sessions, executor_id=dead.executor_id))
        slots = await connection.run(partial(fence, key=dead.key))
        if slots is not None:
            log.warning("fenced a node whose lease ran out", node=dead.id)
        return slots is not None


async def _tell(told: Callable[[list[str]], Awaitable[None]], executors: list[str]) -> None:
    try:
        await told(executors)
    except Exception:
        log.exception("the jobs of a dead node could not be taken up")

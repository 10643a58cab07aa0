"""The lease of a node: it is renewed in time, or the node stops by itself before others make its replies.

Everything is counted from the sending of the last renewal that was answered well, by a clock that goes on while the
machine is suspended: the database counted later, so the node's own limit is never past the database's.

Past it the node is suspended: readers of its runs are cut, calls of models are given up, none is begun. When the
database answers again it goes on, or, where another node has fenced it, lets go of everything and registers anew. What
a fenced node had still on its way to the database is refused there (storage.nodes).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Set
from functools import partial
from typing import Final

import structlog

from legato.core.errors import ConfigurationError, StorageUnavailable
from legato.fanout.hint import Hint, HintKind
from legato.runs.approvals import take_decisions
from legato.runs.node import Node
from legato.runs.stop import let_go_of
from legato.runs.takeover import Reaper
from legato.storage.committer import Command
from legato.storage.decisions import find_decisions
from legato.storage.nodes import NodeRow, Renewed, find_own, leave_node, offer_runs, register, renew
from legato.storage.postgres_aside import Aside
from legato.storage.statement import Transaction
from legato.version import __version__

log = structlog.get_logger(__name__)

RENEWALS: Final = 5
"""Renewals in the time of one lease."""
RETRY_S: Final = 0.25
"""Between two tries while the database is away."""
WATCH_S: Final = 0.25
"""Between two looks at the node's own limit, at most; short leases have shorter ones."""


class Lease:
    """Keeps its node alive for the others.

    Args:
        connection: On which nothing else is done, so that nothing holds a renewal up.
    """

    def __init__(self, node: Node, connection: Aside) -> None:
        self.connection = connection
        self.leads = False
        self.takers = 0
        """Other nodes that live and take runs, by the last renewal."""
        self.reaper = Reaper(node, self)
        self._node = node
        self._lease_s = node.settings.lease_s
        self._good_s = 0.0
        self._steady_since_s: float | None = None
        self._connections = 0
        self._fenced = False
        self._odd: set[int] = set()
        self._woken = asyncio.Event()
        self._renewing = asyncio.Lock()
        node.committer.on_fenced = self._on_fenced
        node.wakes.hints.on_hint(self.hear)

    @property
    def steady(self) -> bool:
        """Whether this node has renewed for a whole lease without a gap.

        Where the database was away, all leases have run out: only then is it known who does not come back.
        """
        since_s, now_s = self._steady_since_s, self._node.clock.elapsed_s()
        return since_s is not None and now_s - since_s >= self._lease_s and now_s - self._good_s <= self._lease_s / 2

    async def begin(self) -> None:
        """Register the node.

        Raises:
            StorageUnavailable: The database is away.
            ConfigurationError: It is encrypted, and this node has no keys.
        """
        node, key = self._node, None
        number = node.incarnation + 1
        while True:
            sent_s = node.clock.elapsed_s()
            key = await self.connection.run(partial(register, row=self._row(number)))
            if key is not None:
                break
            number += 1
        node.incarnation = number
        node.key = node.database.node_key = key
        self._good_s = self._steady_since_s = sent_s
        log.info("registered", node=self._id(number))

    async def keep(self) -> None:
        """Renew, watch the limit and look for the dead, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_always())
            group.create_task(self._watch())
            group.create_task(self.reaper.look())

    async def close(self) -> None:
        """Fence the own node, so that what it may have left is taken up at once, and let go of the connection."""
        if (key := self._node.database.node_key) is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self.connection.run(partial(leave_node, key=key))
            except (StorageUnavailable, TimeoutError):
                # It is fenced when its lease has run out.
                pass
        self.connection.close()

    async def renew(self) -> None:
        """Renew now, and do what the answer asks for.

        Raises:
            StorageUnavailable: The database is away.
        """
        # Two that both learnt of a fence would let go of what the first has begun anew.
        async with self._renewing:
            await self._renew()

    async def _renew(self) -> None:
        node = self._node
        key = node.key
        assert key is not None
        sent_s = node.clock.elapsed_s()
        leads = self.leads and self._connections == self.connection.connections
        try:
            renewed = await self.connection.run(partial(renew, key=key, draining=node.draining, leads=leads))
        except StorageUnavailable:
            self.leads = False
            self._steady_since_s = None
            raise
        if renewed is None or self._fenced:
            await self._begin_anew()
            return
        answered_s = node.clock.elapsed_s()
        if self._steady_since_s is None or answered_s - self._good_s > self._lease_s / 2:
            self._steady_since_s = answered_s
        self._good_s = sent_s
        # A session that was made anew on the way has lost the lock that it was said to have.
        self.leads = renewed.leads and not (leads and self._connections != self.connection.connections)
        self._connections = self.connection.connections
        self.takers = renewed.takers
        node.wakes.alone = renewed.others == 0
        if node.suspended and not self._is_past():
            node.going.set()
            log.info("the lease is renewed: going on", node=self._id(node.incarnation))
        await self._carry_out(key, renewed)

    def hear(self, hint: Hint) -> None:
        """Look at once at what another node says."""
        match hint.kind:
            case HintKind.STOP | HintKind.GONE:
                self._woken.set()
            case HintKind.OFFERED:
                self.reaper.wake()
            case HintKind.EVERYTHING:
                self._woken.set()
                self.reaper.wake()
            case _:
                pass

    async def _renew_always(self) -> None:
        while True:
            pause_s = self._lease_s / RENEWALS
            try:
                await self.renew()
            except StorageUnavailable:
                pause_s = min(pause_s, RETRY_S)
            except Exception:
                # The boundary of a job that must not end: without it the node would be fenced.
                log.exception("the lease could not be renewed")
                pause_s = min(pause_s, RETRY_S)
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _watch(self) -> None:
        pause_s = min(WATCH_S, self._lease_s / 20)
        while True:
            await asyncio.sleep(pause_s)
            try:
                if not self._node.suspended and self._is_past():
                    self._suspend()
            except Exception:
                # The boundary of a job that must not end: renewals would end with it.
                log.exception("what is made here could not be suspended")

    def _is_past(self) -> bool:
        return self._node.clock.elapsed_s() - self._good_s >= self._lease_s

    def _suspend(self) -> None:
        """Stop showing and asking: others may be making the replies already."""
        node = self._node
        node.going.clear()
        log.error("the lease may have run out: nothing is shown until the database answers", runs=len(node.live))
        for run in list(node.live.values()):
            run.suspend()
            run.tail.cut()

    def _on_fenced(self) -> None:
        """Learn from the committer that a write was refused."""
        self._fenced = True
        # Before anybody goes on who waited for that write.
        self._let_go()
        self._woken.set()

    def _let_go(self) -> None:
        """Let go of everything that was this node's."""
        node = self._node
        node.going.clear()
        runs = list(node.live.values())
        if runs:
            log.error("another node has fenced this one: letting go of its replies", runs=len(runs))
        # What was committed under the old key and is told of only now is not begun here. Rows have keys from 1 on.
        node.key = 0
        node.live.clear()
        node.unendable.clear()
        for run in runs:
            run.let_go()

    async def _begin_anew(self) -> None:
        """Let go of everything that was this node's, and register once more."""
        node = self._node
        self._let_go()
        self.leads = False
        if self._fenced and (key := node.database.node_key) is not None:
            # A write was refused although the row lives, which nothing explains: that row is not to be trusted.
            await _patiently(partial(self.connection.run, partial(leave_node, key=key)))
        try:
            await _patiently(self.begin)
        except ConfigurationError as error:
            # Nothing of it is shown or written any more: it would be in clear.
            node.leave_for_good(error)
            return
        self._fenced = False
        self._odd.clear()
        node.going.set()
        node.committer.go_on()
        self.reaper.wake()

    async def _carry_out(self, key: int, renewed: Renewed) -> None:
        """Do what others have asked of the runs that are made here."""
        node = self._node
        if renewed.stops:
            causes = dict(renewed.stops)
            for run in list(node.live.values()):
                if run.tail.key in causes and run.stop_cause is None:
                    run.stop(causes[run.tail.key])
        decisions = await self.connection.run(partial(find_decisions, node_key=key))
        if decisions:
            node.keep(asyncio.create_task(take_decisions(node, decisions)))
        if renewed.running != len(self.held()) or self._odd:
            await self._reconcile(key)

    async def _reconcile(self, key: int) -> None:
        """Let go of runs that were deleted, and give away those that are this node's in the database alone.

        What has just begun or ended is known here and there at different moments: only what differs twice counts.
        """
        node = self._node
        before = self.held()
        own = await self.connection.run(partial(find_own, key=key))
        now = self.held()
        odd = (before - own) & now | own - before - now
        sure, self._odd = odd & self._odd, odd
        ending = {tail.key for tail in node.committer.ending}
        let_go_of(node, sure - own - ending)
        node.unendable -= sure - own
        if (lost := sure & own) and not node.left:
            self._odd -= lost
            # Not waited for: the lease is renewed whatever else is written.
            node.keep(asyncio.create_task(self._give_away(lost)))

    async def _give_away(self, keys: Set[int]) -> None:
        try:
            await self._node.committer.execute(GiveAway(self, keys), wait_s=self._lease_s)
        except StorageUnavailable:
            # It is seen again.
            return
        self.reaper.wake()

    def held(self) -> set[int]:
        """Return the keys of the runs that are made here, and of those that nobody can end."""
        return {run.tail.key for run in self._node.live.values() if not run.is_let_go} | self._node.unendable

    def _id(self, number: int) -> str:
        return self._node.executor_id if number == 1 else f"{self._node.executor_id}.{number}"

    def _row(self, number: int) -> NodeRow:
        node = self._node
        return NodeRow(
            id=self._id(number),
            host=socket.gethostname(),
            pid=os.getpid(),
            executor_id=node.executor_id,
            lease_ms=round(self._lease_s * 1000),
            version=__version__,
        )


class GiveAway(Command[None]):
    """Gives away runs of this node that are made nowhere; not those of which it has only just come to know here."""

    def __init__(self, lease: Lease, keys: Set[int]) -> None:
        self._lease = lease
        self._keys = keys

    def prepare(self) -> None:
        # What was committed before is known here by now: nothing else is on its way.
        self._keys -= self._lease.held()
        if self._keys:
            log.error("runs of this node are not made here: giving them away", runs=len(self._keys))

    def apply(self, tx: Transaction) -> None:
        offer_runs(tx, sorted(self._keys))


async def _patiently(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask the database until it answers."""
    while True:
        try:
            await ask()
            return
        except StorageUnavailable:
            await asyncio.sleep(RETRY_S)

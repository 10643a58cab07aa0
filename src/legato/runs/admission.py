"""How many replies may be made at once by all nodes together: each holds slots for its own, and asks for more.

A post that finds a slot free costs nothing. What a node holds and does not need it gives back within LOOK_S, so that
others have it; what it adopts from a node that died it makes in any case, and the others get less for so long.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from legato.core.errors import LegatoError, Overloaded, StorageUnavailable
from legato.runs.node import Node
from legato.storage.slots import hold_slots

if TYPE_CHECKING:
    from legato.storage.postgres_aside import Aside

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
"""How long slots that are not needed are kept."""


class Admission:
    """The slots of one node.

    Args:
        connection: On which they are asked for.
    """

    def __init__(self, node: Node, connection: Aside) -> None:
        self._node = node
        self._connection = connection
        self._held = 0
        self._holder: int | None = None
        self._waiting = 0
        self._asking: asyncio.Task[None] | None = None
        self._begun = self._done = 0
        self._is_full = False
        self._woken = asyncio.Event()

    @property
    def used(self) -> int:
        """Replies that this node makes or is about to."""
        return len(self._node.live) + self._node.starting

    @property
    def held(self) -> int:
        """Replies that it may make. It has nothing of what it held before it was fenced."""
        return self._held if self._holder == self._node.key else 0

    async def refusal(self) -> LegatoError | None:
        """Return why no further reply may be begun, or None: then the caller counts it before anything else runs.

        Raises:
            StorageUnavailable: The database is away, and there is no slot left that was held already.
        """
        arrived = self._begun
        self._waiting += 1
        try:
            while self.used >= self.held:
                # Where all that was asked for was given, others that came later were faster: then it is asked again.
                if self._done > arrived and self._is_full:
                    most = self._node.settings.max_active_runs
                    return Overloaded(f"{most} replies are being made, which is the most")
                # What was asked before did not ask for this one.
                await self._ask()
        finally:
            self._waiting -= 1
        return None

    def wake(self) -> None:
        """Have it look at once: this node makes more than it asked for."""
        self._woken.set()

    async def keep(self) -> None:
        """Hold as many as are used, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            if self.used != self.held:
                try:
                    await self._ask()
                except StorageUnavailable:
                    pass
                except Exception:
                    # The boundary of a job that nobody waits for: the next look may succeed.
                    log.exception("slots could not be counted")

    async def _ask(self) -> None:
        """Wait for the answer to what is being asked, or ask; all who wait for it learn that the database is away."""
        if self._asking is None:
            self._begun += 1
            self._asking = asyncio.get_running_loop().create_task(self._hold())
            # Told to whoever waits, who may have gone meanwhile.
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        # Whoever is cancelled takes nothing from the others.
        await asyncio.shield(self._asking)

    async def _hold(self) -> None:
        node, used, key = self._node, self.used, self._node.key
        wanted = used + self._waiting
        # What the answer may take back is not used while it is on its way.
        self._held = min(self.held, used)
        try:
            held = None
            if key is not None:
                most = node.settings.max_active_runs
                held = await self._connection.run(
                    partial(hold_slots, node_key=key, used=used, wanted=wanted, maximum=most)
                )
            self._held, self._holder = held or 0, key
            self._is_full = self._held < wanted
            if held is None:
                raise StorageUnavailable("this server is about to join the others again: try again in a moment")
        finally:
            self._asking = None
            self._done = self._begun

"""Empties the outbox into the queue: batch after batch, each forgotten only when the queue has it.

A reply costs the queue nothing of its own: what comes together is handed over together. Should the process die in
between, the same events are handed over again, and the queue knows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from legato.core.errors import LegatoError
from legato.runs.node import Node
from legato.steps.jobs import JobEvent
from legato.storage.outbox import delete_events, first_events

log = structlog.get_logger(__name__)

GATHER_S: Final = 0.1
"""How long the first event waits for others to come."""
PACE_S: Final = 0.5
"""Least time between two hand-overs: each costs the queue as much as many jobs of a batch."""
RETRY_S: Final = 1.0
MOST_EVENTS: Final = 500
"""Events handed over at once."""


class Queue(Protocol):
    """What takes the events."""

    async def hand_over(self, batch_id: str, events: Sequence[JobEvent]) -> int: ...


class Relay:
    """The relay of one process. It sleeps until something is committed to the outbox."""

    def __init__(self, node: Node, queue: Queue) -> None:
        self._node = node
        self._queue = queue
        self._bell = asyncio.Event()
        # What an earlier process left.
        self._bell.set()
        node.committer.on_event = self._bell.set
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End it; what it was handing over is handed over again by the next one."""
        self._node.committer.on_event = lambda: None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        handed_s = 0.0
        while True:
            await self._bell.wait()
            await asyncio.sleep(max(GATHER_S, handed_s + PACE_S - loop.time()))
            handed_s = loop.time()
            self._bell.clear()
            try:
                while await self.hand_over() == MOST_EVENTS:
                    pass
            except LegatoError as error:
                log.warning("events wait for the queue", error=error.code)
                self._bell.set()
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("events cannot be handed to the queue")
                self._bell.set()
                await asyncio.sleep(RETRY_S)

    async def hand_over(self) -> int:
        """Hand the first events over; return how many."""
        found = await self._node.database.read(lambda tx: first_events(tx, MOST_EVENTS))
        if not found:
            return 0
        events = [
            JobEvent(
                id=event.id,
                topic=event.topic,
                owner=event.owner,
                payload=event.payload,
                trace_id=event.trace_id,
                at_ms=event.at_ms,
            )
            for _, event in found
        ]
        await self._queue.hand_over(f"{events[0].id}+{len(events)}", events)
        await self._node.committer.write(lambda tx: delete_events(tx, [place for place, _ in found]))
        return len(found)

"""Empties the outbox into the queue: batch after batch, each forgotten only when the queue has it.

A reply costs the queue nothing of its own: what comes together is handed over together. Should the process die in
between, the same events are handed over again, and the queue knows them. An event that the queue cannot take, although
it is there, holds no other one up: it stays in the outbox, is named in the log once, and is tried again now and then.

Of several processes on one database one relays, so that events of one key stay in order. The others' events it finds by
looking.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from legato.core.errors import LegatoError
from legato.runs.node import Node
from legato.steps.jobs import JobEvent
from legato.storage.outbox import OutboxEvent, delete_events, first_events

log = structlog.get_logger(__name__)

GATHER_S: Final = 0.1
"""How long the first event waits for others to come."""
PACE_S: Final = 1.0
"""Least time between two hand-overs: each costs the queue as much as many jobs of a batch."""
RETRY_S: Final = 1.0
LOOK_S: Final = 0.5
"""How often what other processes have written is looked for."""
AGAIN_S: Final = 60.0
"""How long events that the queue could not take stay behind before they are tried again."""
MOST_EVENTS: Final = 500
"""Events handed over at once."""


class Queue(Protocol):
    """What takes the events."""

    async def hand_over(self, batch_id: str, events: Sequence[JobEvent]) -> int: ...


class Relay:
    """The relay of one process. It sleeps until something is committed to the outbox, or another may have done so."""

    def __init__(self, node: Node, queue: Queue) -> None:
        self._node = node
        self._queue = queue
        self._bell = asyncio.Event()
        self._behind = 0
        """The place up to which everything is handed over or left behind. Places rise; where several processes append,
        one may be filled late: it is found when what was left behind is tried again."""
        self._again_s = math.inf
        """When what was left behind is tried again, by the loop's clock."""
        self._look_s = LOOK_S if node.database.kind == "postgresql" else math.inf
        self._named: set[str] = set()
        """Ids of the events that the log has named."""
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
            until_s = min(self._again_s, loop.time() + self._look_s)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if until_s == math.inf else until_s):
                    await self._bell.wait()
            await asyncio.sleep(max(GATHER_S, handed_s + PACE_S - loop.time()))
            began_s = loop.time()
            self._bell.clear()
            if not self._node.leads:
                continue
            if began_s >= self._again_s:
                self._behind, self._again_s = 0, math.inf
            try:
                while count := await self.hand_over():
                    handed_s = began_s
                    if count < MOST_EVENTS:
                        break
            except LegatoError as error:
                log.warning("events wait for the queue", error=error.code)
                self._bell.set()
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("events cannot be handed to the queue")
                self._bell.set()
                await asyncio.sleep(RETRY_S)

    async def hand_over(self) -> int:
        """Hand the first events over, or leave behind what the queue cannot take; return how many they are."""
        found = await self._node.database.read(lambda tx: first_events(tx, MOST_EVENTS, self._behind))
        if not found:
            return 0
        try:
            return await self._give(found)
        except LegatoError:
            raise
        except Exception:  # noqa: BLE001 - each event of the batch tells by itself whether it was the one
            for place, event in found:
                await self._give_alone(place, event)
        return len(found)

    async def _give_alone(self, place: int, event: OutboxEvent) -> None:
        try:
            await self._give([(place, event)])
        except LegatoError:
            raise
        except Exception as error:  # noqa: BLE001 - it must not hold up those behind it
            self._leave_behind(place, event, error)

    def _leave_behind(self, place: int, event: OutboxEvent, error: Exception) -> None:
        self._behind = place
        self._again_s = min(self._again_s, asyncio.get_running_loop().time() + AGAIN_S)
        if event.id not in self._named:
            self._named.add(event.id)
            log.error(
                "an event stays in the outbox: the queue cannot take it",
                event_id=event.id,
                topic=event.topic,
                trace_id=event.trace_id,
                exc_info=error,
            )

    async def _give(self, found: Sequence[tuple[int, OutboxEvent]]) -> int:
        """Have the queue take events, all or none, then forget them."""
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
        await self._node.committer.write(lambda tx: delete_events(tx, found))
        return len(found)

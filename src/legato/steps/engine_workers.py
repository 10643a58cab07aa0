"""The thread that claims one queue's jobs: DBOS's own, woken when there is something to claim.

DBOS looks at each queue once a second, or ten times where that is too slow, and pays for each look. Here it looks
when jobs were handed over, when places became free, and otherwise every few seconds.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import sqlalchemy as sa
from dbos import DBOS
from dbos._queue import _INTERNAL_QUEUE_CONSTRUCTION, Queue, queue_worker_thread
from dbos._sys_db import SystemDatabase

T = TypeVar("T")

AHEAD: Final = 32
"""Jobs that are taken beyond those that can run at once, so that one claim serves many."""
RIVALS: Final = 5
"""Tries of a claim that another process is in the midst of."""
MOST_PAUSING: Final = 1000
"""Jobs that may wait for their next attempt beside those that are taken; more of them hold the queue up."""


class Bell(threading.Event):
    """What a queue's thread waits on: rung when there may be work, and told when to stop.

    DBOS waits on an event for its polling interval and ends when it is set; ringing cuts the wait short.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False

    def ring(self) -> None:
        super().set()

    def stop(self) -> None:
        self._stopped = True
        super().set()

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        super().clear()
        return self._stopped

    def is_set(self) -> bool:
        return self._stopped


class Worker:
    """One step's queue and the thread that claims its jobs.

    A claim costs as much CPU as a few jobs. So one is made when jobs were handed over, and when jobs ended while the
    last claim left others behind.

    Args:
        window: Jobs that this process may have taken at a time, beside those that only wait for their next attempt.
        most: Jobs that all processes together may have taken at a time; None where there is no such limit.
    """

    def __init__(
        self, dbos: DBOS, name: str, *, window: int, ordered: bool, poll_s: float, most: int | None = None
    ) -> None:
        self._window = window
        self._ordered = ordered
        self._pausing = 0
        self._lock = threading.Lock()
        self._running = 0
        self._more = False
        self._bell = Bell()
        self._queue = Queue(
            name,
            global_concurrency=most,
            worker_concurrency=window,
            partition_concurrency=1 if ordered else None,
            polling_interval_sec=poll_s,
            token=_INTERNAL_QUEUE_CONSTRUCTION,
        )
        self._thread = threading.Thread(
            target=queue_worker_thread, args=(self._bell, dbos, self._queue), name=f"legato-{name}", daemon=True
        )

    def start(self) -> None:
        """Begin, with a first look at once."""
        self._bell.ring()
        self._thread.start()

    def ring(self) -> None:
        """Say that jobs were added."""
        self._bell.ring()

    def claimed(self, jobs: int, running: int) -> None:
        """Say that so many jobs were claimed beside those that DBOS counted as running."""
        with self._lock:
            if self._ordered:
                # Each key gives one job at a time: only a claim of none, with none running, shows the end.
                self._more = jobs > 0 or running > 0
            else:
                self._more = running + jobs >= (self._queue._worker_concurrency or 0)
            # Counted here and not by DBOS, which does so only once a job has begun.
            self._running = self._running + jobs if running + jobs else 0

    def ended(self) -> None:
        with self._lock:
            self._running -= 1
            # With an order the next of the same key could not be claimed before; without, half a window is worth it.
            if self._more and (self._ordered or self._running <= self._window // 2):
                self._bell.ring()

    def pausing(self, change: int) -> None:
        """Say that one more job (or, with -1, one less) only waits for its next attempt."""
        self._pausing += change
        self._queue._worker_concurrency = self._window + min(self._pausing, MOST_PAUSING)
        if change > 0 and self._more:
            self._bell.ring()

    def stop(self) -> None:
        self._bell.stop()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)


def claimed_beside_others(database: SystemDatabase, claim: Callable[[], T], nothing: Callable[[], T]) -> T:
    """Return what a claim gives: DBOS would leave it to the next look where another process is claiming just now."""
    for _ in range(RIVALS):
        try:
            return claim()
        except sa.exc.DBAPIError as error:
            if not (database.is_lock_conflict(error) or database.is_serialization_conflict(error)):
                raise
            time.sleep(random.uniform(0.005, 0.05))
    return nothing()

"""Moving windows that all nodes share, in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from legato.core.clock import Clock
from legato.core.errors import StorageUnavailable
from legato.policies.windows import Full, Window
from legato.storage.statement import Transaction
from legato.storage.windows import Use, forget_windows, give_back_window, look_windows, take_windows

if TYPE_CHECKING:
    from legato.storage.postgres_aside import Aside

log = structlog.get_logger(__name__)

FORGET_S: Final = 60.0
"""How often windows that are over are deleted, while there are calls."""
FORGET_MOST: Final = 1000
"""Rows deleted in one transaction."""


class _NoRoom(Exception):
    """Undoes what was counted already."""

    def __init__(self, full: Full) -> None:
        self.full = full


class DatabaseWindows:
    """Windows of all nodes on one database; a crash of PostgreSQL empties them.

    Where the database is away, `take` and `look` raise StorageUnavailable: nothing is let in uncounted.

    Args:
        connection: On which everything is asked.
        clock: For the pauses between two deletions; what counts is the database's.
        now_ms: In place of the database's clock.
    """

    def __init__(self, connection: Aside, clock: Clock, *, now_ms: Callable[[], int] | None = None) -> None:
        self._run = connection.run
        self._clock = clock
        self._now_ms: Callable[[], int | None] = now_ms or (lambda: None)
        self._forgot_s = clock.monotonic_s()
        self._forgetting: asyncio.Task[None] | None = None

    async def take(self, windows: Sequence[Window]) -> tuple[float, ...] | Full:
        if self._clock.monotonic_s() - self._forgot_s >= FORGET_S and self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().create_task(self._forget())
        uses, now_ms = _uses(windows), self._now_ms()

        def take(tx: Transaction) -> tuple[float, ...]:
            marks = take_windows(tx, uses, now_ms)
            full = [place for place, mark in enumerate(marks) if mark is None]
            if full:
                looks = look_windows(tx, [uses[place] for place in full], now_ms)
                raise _NoRoom(Full(waits_s={place: look[1] for place, look in zip(full, looks, strict=True)}))
            return tuple(float(mark) for mark in marks if mark is not None)

        try:
            return await self._run(take)
        except _NoRoom as refused:
            return refused.full

    async def give_back(self, windows: Sequence[Window], marks: Sequence[float]) -> None:
        pairs = sorted(zip(_uses(windows), marks, strict=True), key=lambda pair: (pair[0].key, pair[0].window_s))

        def give_back(tx: Transaction) -> None:
            for use, mark in pairs:
                give_back_window(tx, use, int(mark))

        try:
            await self._run(give_back)
        except StorageUnavailable as error:
            # It leaves the window with time.
            log.warning("what was counted cannot be given back", error=error.code)

    async def look(self, windows: Sequence[Window]) -> list[tuple[int, float]]:
        return await self._run(partial(look_windows, uses=_uses(windows), now_ms=self._now_ms()))

    async def _forget(self) -> None:
        try:
            while await self._run(partial(forget_windows, most=FORGET_MOST, now_ms=self._now_ms())) == FORGET_MOST:
                pass
        except StorageUnavailable as error:
            log.warning("rate windows that are over cannot be deleted", error=error.code)
        finally:
            self._forgot_s = self._clock.monotonic_s()
            self._forgetting = None


def _uses(windows: Sequence[Window]) -> list[Use]:
    return [Use(key=key, amount=rate.amount, window_s=rate.window_s) for key, rate in windows]

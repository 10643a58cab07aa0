"""What another server says, asked for once and kept: whoever comes meanwhile waits for the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from legato.core.clock import Clock
from legato.core.errors import LegatoError

T = TypeVar("T")


class Fetched(Generic[T]):
    """One thing of another server's: one fetch at a time, whose answer or failure all get who want it.

    A failure is remembered too: who comes next is told it at once, rather than to wait for as long again.

    Args:
        failed_s: For so long it is not asked again after it has failed.
    """

    def __init__(self, clock: Clock, *, failed_s: float) -> None:
        self._clock = clock
        self._failed_s = failed_s
        self._found: tuple[T, float] | None = None
        self._failed: tuple[LegatoError, float] | None = None
        self._flight: asyncio.Task[None] | None = None

    async def get(self, fetch: Callable[[], Awaitable[T]], *, most_age_s: float) -> T:
        """Return what was said at most `most_age_s` seconds ago, asking where it is older.

        Raises:
            LegatoError: The fetch raised it, now or within the last `failed_s`.
        """
        while True:
            now_s = self._clock.monotonic_s()
            if self._found is not None and now_s - self._found[1] < most_age_s:
                return self._found[0]
            if self._failed is not None and now_s - self._failed[1] < self._failed_s:
                raise self._failed[0].with_traceback(None)
            if self._flight is None:
                self._flight = asyncio.create_task(self._fetch(fetch))
            # Who goes away meanwhile takes it from nobody.
            await asyncio.shield(self._flight)

    async def _fetch(self, fetch: Callable[[], Awaitable[T]]) -> None:
        try:
            found = await fetch()
            self._found, self._failed = (found, self._clock.monotonic_s()), None
        except LegatoError as error:
            self._failed = (error, self._clock.monotonic_s())
        finally:
            self._flight = None

"""Reads a log from inside the process: wakes whoever waits for it to grow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from legato.core.event import LogItem
from legato.core.log import RunLog


class Waker:
    """A sink that takes nothing, and wakes whoever reads the log itself.

    Attributes:
        cut: The log will not grow any more here.
    """

    paused = False

    def __init__(self) -> None:
        self.cut = False
        self._woken = asyncio.Event()

    async def wait(self) -> None:
        """Return once the log has grown, has ended or is cut, since the last time."""
        await self._woken.wait()
        self._woken.clear()

    def write(self, frames: bytes) -> None:
        self._woken.set()

    def finish(self) -> None:
        self._woken.set()

    def abort(self) -> None:
        self.cut = True
        self._woken.set()


class Nothing:
    """Renders whatever comes as one byte: there is something new."""

    def __init__(self, run_id: str, log: RunLog) -> None:
        pass

    def render(self, first: int, items: Sequence[LogItem]) -> bytes:
        return b"."

"""Replies that are not over before a test has looked: of scripted models in this process, and of a server's; and time
limits of policies that are not."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace

import pytest

WAITING_BOT = '''\
import asyncio
from pathlib import Path

from legato import Legato

app = Legato()


@app.tool()
async def wait() -> str:
    """Waits until it is let go."""
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return "went on"
'''
"""A server's bot whose tool waits for a file `go` in its folder: the reply that calls it is not over before."""


class HeldModels:
    """All scripted models of this process: of replies with `delay_ms` each says so many tokens until it is let go.

    Args:
        tokens: How many; a test may raise it.
    """

    def __init__(self, patch: pytest.MonkeyPatch, tokens: float = 0) -> None:
        self.tokens = tokens
        self._said: Counter[asyncio.Task[object] | None] = Counter()
        patch.setattr("legato.providers.scripted.asyncio", SimpleNamespace(sleep=self._sleep))

    def let_go(self) -> None:
        """Let all say the rest."""
        self.tokens = math.inf

    async def _sleep(self, delay_s: float) -> None:
        task = asyncio.current_task()
        await asyncio.sleep(delay_s)
        while self._said[task] >= self.tokens:  # noqa: ASYNC110 - how many they may say is a plain number
            await asyncio.sleep(0.005)
        self._said[task] += 1


class HeldLimits:
    """All time limits of policies of this process: none is over before a test says so, however slow the machine is.

    Attributes:
        asked_s: What the policies have asked for.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked_s: set[float] = set()
        self._made: list[asyncio.Timeout] = []
        patch.setattr("legato.policies.moderation.chain.asyncio", SimpleNamespace(timeout=self._timeout))

    def end(self) -> None:
        """Have those that are under way be over."""
        now_s = asyncio.get_running_loop().time()
        for limit in self._made:
            # Of a verdict that is there.
            with suppress(RuntimeError):
                limit.reschedule(now_s)
        self._made.clear()

    def _timeout(self, delay_s: float) -> asyncio.Timeout:
        self.asked_s.add(delay_s)
        limit = asyncio.timeout(None)
        self._made.append(limit)
        return limit

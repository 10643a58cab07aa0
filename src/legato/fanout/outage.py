"""The time that the other end of the hints is away: said once, and growing pauses between the attempts."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final
from urllib.parse import quote

import structlog

log = structlog.get_logger(__name__)

SHORTEST_S: Final = 0.05
LONGEST_S: Final = 5.0
SETTLED_S: Final = 5.0
"""A connection that lived for so long was a good one: the pauses begin anew after it."""
MOST_CHARACTERS: Final = 200


class Outage:
    """Whether the other end is there.

    Args:
        end: What it is, for the log: "postgresql", "redis".
        secret: The password of its address, which no log may hold; None if it has none.
        longest_s: Seconds of the longest pause.
    """

    def __init__(self, end: str, secret: str | None, *, longest_s: float = LONGEST_S) -> None:
        self._end = end
        self._secrets = {secret, quote(secret), quote(secret, safe="")} if secret else set()
        self._longest_s = longest_s
        # Of each connection: failed attempts of an outage, and those of the one before.
        self._away: dict[str, int] = {}
        self._attempts: dict[str, int] = {}
        self._connected_s: dict[str, float] = {}
        self._since_s = 0.0

    def over(self, connection: str = "") -> None:
        """A connection is there."""
        now_s = self._connected_s[connection] = time.monotonic()
        if connection in self._away:
            self._attempts[connection] = self._away.pop(connection)
            if not self._away:
                log.info("hints are back", end=self._end, away_s=round(now_s - self._since_s, 3))

    def begin(self, error: BaseException, connection: str = "") -> float:
        """A connection is away, or still away; return the seconds to wait before the next attempt."""
        if connection not in self._away:
            now_s = time.monotonic()
            if not self._away:
                self._since_s = now_s
                log.warning(
                    "hints are away: nodes look by themselves until then", end=self._end, error=self._words(error)
                )
            settled = now_s - self._connected_s.get(connection, 0.0) > SETTLED_S
            self._away[connection] = 0 if settled else self._attempts.get(connection, 0)
        attempts = self._away[connection]
        self._away[connection] = min(attempts + 1, 20)
        pause_s: float = min(self._longest_s, SHORTEST_S * 2.0**attempts)
        # All nodes lose it at the same moment: they should not come back at the same one.
        return pause_s * random.uniform(0.5, 1.0)

    async def wait(self, error: BaseException, connection: str = "") -> None:
        """Begin, and wait."""
        await asyncio.sleep(self.begin(error, connection))

    def _words(self, error: BaseException) -> str:
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        for secret in self._secrets:
            words = words.replace(secret, "…")
        return words[:MOST_CHARACTERS]

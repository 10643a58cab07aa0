"""What anybody may try without a credential, and how often from one address."""

from __future__ import annotations

import math
from typing import Final

from starlette.requests import Request

from legato.core.errors import RateLimited
from legato.http.rate_limits import client_address
from legato.policies.client_address import TrustedProxies
from legato.policies.rates import Rate
from legato.policies.windows import Full, MemoryWindows
from legato.runs.node import Node

WINDOW_S: Final = 60
SIGN_INS: Final = 10
"""Wrong keys from one address within WINDOW_S."""
VISITORS: Final = 30
"""New visitors of widgets from one address within WINDOW_S."""


class Throttle:
    """A moving window for each address, or for all that come from none that is known.

    Args:
        most: So many within WINDOW_S.
        what: What is counted, in the plural, for the refusal.
    """

    def __init__(self, node: Node, most: int, what: str) -> None:
        self._windows = MemoryWindows(node.clock.monotonic_s)
        self._rate = Rate(amount=most, window_s=WINDOW_S)
        self._proxies = TrustedProxies(node.settings.trusted_proxies)
        self._what = what

    async def take(self, request: Request) -> tuple[str, float]:
        """Count one; return the mark to give it back with.

        Raises:
            RateLimited: There were too many; says when to try again.
        """
        address = client_address(request.scope, self._proxies) or ""
        found = await self._windows.take([(address, self._rate)])
        if isinstance(found, Full):
            wait_s = max(1, math.ceil(found.waits_s[0]))
            raise RateLimited(
                f"at most {self._rate.amount} {self._what} a minute are taken from one address: "
                f"try again in {wait_s} s",
                wait_s,
            )
        return address, found[0]

    async def give_back(self, mark: tuple[str, float]) -> None:
        """Undo a `take`."""
        await self._windows.give_back([(mark[0], self._rate)], mark[1:])

"""What anybody may try without a credential from one address, and how often."""

from __future__ import annotations

import math
from typing import Final

from starlette.requests import Request

from legato.core.errors import RateLimited
from legato.http.rate_limits import client_address
from legato.policies.client_address import TrustedProxies
from legato.policies.rates import Rate
from legato.policies.windows import Full, Window
from legato.runs.node import Node

WINDOW_S: Final = 60
SIGN_INS: Final = 10
"""Wrong keys and passwords from one address within WINDOW_S."""
VISITORS: Final = 30
"""New visitors of widgets from one address within WINDOW_S."""
FLOWS: Final = 30
"""Sign-ins at an issuer that are begun or come back, from one address within WINDOW_S."""

Mark = tuple[Window, float]
"""What was counted, to be given back."""


class Throttle:
    """A moving window for each address, or for all that come from none that is known; over all nodes.

    Args:
        kind: What is counted, in a word: nothing else is counted under it.
        most: So many within WINDOW_S.
        what: The same in the plural, for the refusal.
    """

    def __init__(self, node: Node, kind: str, most: int, what: str) -> None:
        self._windows = node.windows
        self._kind = kind
        self._rate = Rate(amount=most, window_s=WINDOW_S)
        self._proxies = TrustedProxies(node.settings.trusted_proxies)
        self._what = what

    async def take(self, request: Request) -> Mark:
        """Count one; return the mark to give it back with.

        Raises:
            RateLimited: There were too many; says when to try again.
        """
        window = self.window(request)
        found = await self._windows.take([window])
        if isinstance(found, Full):
            raise refused(self.said, found.waits_s[0])
        return window, found[0]

    async def give_back(self, mark: Mark) -> None:
        """Undo a `take`."""
        await self._windows.give_back([mark[0]], [mark[1]])

    def address(self, request: Request) -> str:
        """Return where a request comes from, IPv6 as its /64; empty where that is not known."""
        return client_address(request.scope, self._proxies) or ""

    def window(self, request: Request) -> Window:
        """Return what a request is counted in."""
        return f"{self._kind}\x1f{self.address(request)}", self._rate

    @property
    def said(self) -> str:
        """Of what there is a most."""
        return f"at most {self._rate.amount} {self._what} a minute are taken from one address"


def refused(said: str, wait_s: float) -> RateLimited:
    """Return the refusal of what there was too much of."""
    seconds = max(1, math.ceil(wait_s))
    return RateLimited(f"{said}: try again in {seconds} s", seconds)

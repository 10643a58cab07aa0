"""What anybody may try without a credential, and how often: from one address, and for one account."""

from __future__ import annotations

import hashlib
import math
from typing import Final

from starlette.requests import Request

from legato.core.errors import RateLimited
from legato.http.rate_limits import client_address
from legato.policies.client_address import TrustedProxies
from legato.policies.rates import Rate
from legato.policies.windows import Full, Window, Windows
from legato.runs.node import Node

WINDOW_S: Final = 60
SIGN_INS: Final = 10
"""Wrong keys and passwords from one address within WINDOW_S."""
VISITORS: Final = 30
"""New visitors of widgets from one address within WINDOW_S."""
FLOWS: Final = 30
"""Sign-ins at an issuer that are begun or come back, from one address within WINDOW_S."""
OF_ACCOUNT: Final = Rate(amount=10, window_s=600)
"""Wrong passwords for one account's name, from wherever they come."""

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
        address = client_address(request.scope, self._proxies) or ""
        return await _take(
            self._windows,
            (f"{self._kind}\x1f{address}", self._rate),
            f"at most {self._rate.amount} {self._what} a minute are taken from one address",
        )

    async def give_back(self, mark: Mark) -> None:
        """Undo a `take`."""
        await _give_back(self._windows, mark)


class AccountThrottle:
    """A moving window for each name that somebody tries passwords for, whether there is such an account or not."""

    def __init__(self, node: Node) -> None:
        self._windows = node.windows

    async def take(self, name: str) -> Mark:
        """Count a try; return the mark to give it back with.

        Args:
            name: As accounts are looked up by.

        Raises:
            RateLimited: There were too many; says when to try again.
        """
        key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        minutes = OF_ACCOUNT.window_s // 60
        said = f"at most {OF_ACCOUNT.amount} wrong passwords in {minutes} minutes are taken for one name"
        return await _take(self._windows, (f"sign-in-name\x1f{key}", OF_ACCOUNT), said)

    async def give_back(self, mark: Mark) -> None:
        """Undo a `take`."""
        await _give_back(self._windows, mark)


async def _take(windows: Windows, window: Window, said: str) -> Mark:
    found = await windows.take([window])
    if isinstance(found, Full):
        wait_s = max(1, math.ceil(found.waits_s[0]))
        raise RateLimited(f"{said}: try again in {wait_s} s", wait_s)
    return window, found[0]


async def _give_back(windows: Windows, mark: Mark) -> None:
    await windows.give_back([mark[0]], [mark[1]])

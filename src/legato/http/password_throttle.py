"""How often somebody may try passwords: from one address, for one name from there, and for one name from anywhere.

Who tries wrong ones keeps nobody else out, but from the same address. The bound on a name from anywhere is high, since
it does: and it is not for an address that has signed in by that name before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from legato.http.throttle import Throttle, refused
from legato.policies.rates import Rate
from legato.policies.windows import Full, Window
from legato.runs.node import Node

FROM_HERE: Final = Rate(amount=10, window_s=600)
"""Wrong passwords for one name from one address, or on a page that is signed in."""
FROM_ANYWHERE: Final = Rate(amount=100, window_s=600)
"""Wrong passwords for one name, from addresses that have not signed in by it."""
KNOWN: Final = Rate(amount=1, window_s=1_209_600)
"""For 14 days an address has signed in by a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What was counted, to be given back where the password was right, or was not compared."""

    windows: tuple[Window, ...]
    marks: tuple[float, ...]


class PasswordThrottle:
    """Counts tries in the windows that all nodes share, for a name that is there as for one that is not.

    Args:
        addresses: Counts wrong keys and passwords of an address.
    """

    def __init__(self, node: Node, addresses: Throttle) -> None:
        self._windows = node.windows
        self._addresses = addresses

    async def take(self, request: Request, name: str) -> Tries:
        """Count a try at the door.

        Args:
            name: As accounts are looked up by.

        Raises:
            RateLimited: There were too many; says when to try again.
        """
        address = self._addresses.address(request)
        here = (self._addresses.window(request), self._addresses.said), _of_name(FROM_HERE, name, address)
        anywhere = _of_name(FROM_ANYWHERE, name)
        found = await self._take(*here, anywhere)
        if isinstance(found, Full) and found.waits_s.keys() == {len(here)} and await self._is_known(name, address):
            found = await self._take(*here)
        if isinstance(found, Full):
            place, wait_s = max(found.waits_s.items(), key=lambda each: each[1])
            raise refused((*here, anywhere)[place][1], wait_s)
        return found

    async def take_on_page(self, name: str) -> Tries:
        """Count a try of the present password on a page that is signed in, which nobody else has a hand in.

        Raises:
            RateLimited: There were too many; says when to try again.
        """
        counted = _of_name(FROM_HERE, name, "a page")
        found = await self._take(counted)
        if isinstance(found, Full):
            raise refused(counted[1], found.waits_s[0])
        return found

    async def give_back(self, tries: Tries) -> None:
        """Undo a `take`."""
        await self._windows.give_back(tries.windows, tries.marks)

    async def know(self, request: Request, name: str) -> None:
        """Remember that this address has signed in by a name."""
        await self._windows.take([_known(name, self._addresses.address(request))])

    async def _take(self, *counted: tuple[Window, str]) -> Tries | Full:
        windows = tuple(window for window, _ in counted)
        found = await self._windows.take(windows)
        return found if isinstance(found, Full) else Tries(windows=windows, marks=found)

    async def _is_known(self, name: str, address: str) -> bool:
        ((count, _),) = await self._windows.look([_known(name, address)])
        return count > 0


def _of_name(rate: Rate, name: str, place: str | None = None) -> tuple[Window, str]:
    where, key = ("", _digest(name)) if place is None else (" from one address", _digest(f"{name}\x1f{place}"))
    said = f"at most {rate.amount} wrong passwords in {rate.window_s // 60} minutes are taken for one name{where}"
    return (f"sign-in-name\x1f{key}", rate), said


def _known(name: str, address: str) -> Window:
    digest = _digest(f"{name}\x1f{address}")
    return f"sign-in-known\x1f{digest}", KNOWN


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

"""How many messages a caller may post in a time: all of it, in each session of it, and from each address.

A message counts where it is accepted. What is refused, for whatever reason, costs nothing; nor does a repeat of a known
key. The principal's limit holds over all its sessions, so that another session id gains nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from legato.core.clock import Clock
from legato.core.errors import ConfigurationError, RateLimited
from legato.core.principal import key_of_visitor
from legato.policies.client_address import TrustedProxies
from legato.policies.rates import Rate, parse_rates
from legato.policies.windows import Full, MemoryWindows, Window, Windows
from legato.settings import Settings

if TYPE_CHECKING:
    from legato.storage.postgres_aside import Aside

DEFAULT_WITH_KEYS: Final = "10/minute"

_OF_WHAT: Final = {
    "principal": "from one caller",
    "session": "in one session",
    "address": "from one address",
    "widget": "through this widget",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One rate of one kind (`principal`, `session`, `address`, `widget`); its name tells it from the others."""

    name: str
    kind: str
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left of a limit: `remaining` now, more in `reset_s` seconds (its whole window while it is unused)."""

    limit: Limit
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was counted for one message, to be given back if it is not accepted after all."""

    windows: tuple[Window, ...]
    marks: tuple[float, ...]


class RateLimits:
    """The limits of a node, and what has been counted.

    Args:
        rates: Of a principal, and of an address where one is given.
        session_rates: Of a session within its principal.
        proxies: Whose word on a client's address is taken; None limits no address.
        widget_rates: Of all visitors of one publishable key together; no visitor is told how much is left of it.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        rates: tuple[Rate, ...],
        session_rates: tuple[Rate, ...] = (),
        proxies: TrustedProxies | None = None,
        widget_rates: tuple[Rate, ...] = (),
    ) -> None:
        self._windows = windows
        self.proxies = proxies
        self._of_principal = _limits("principal", rates)
        self._of_session = _limits("session", session_rates)
        self._of_address = _limits("address", rates)
        self._of_widget = _limits("widget", widget_rates)

    async def take(self, principal_id: str, session_id: str | None, address: str | None) -> Taken:
        """Count one message in all limits, or in none of them.

        Raises:
            RateLimited: A limit is reached; says which, and when to try again.
        """
        keys = [*self._keys(principal_id, session_id, address), *self._widget_keys(principal_id)]
        windows = tuple((key, limit.rate) for limit, key in keys)
        found = await self._windows.take(windows)
        if isinstance(found, Full):
            place = max(found.waits_s, key=found.waits_s.__getitem__)
            raise _refusal(keys[place][0], found.waits_s[place])
        return Taken(windows=windows, marks=found)

    async def give_back(self, taken: Taken) -> None:
        """Undo a `take`: the message was not accepted, for another reason."""
        await self._windows.give_back(taken.windows, taken.marks)

    async def standings(self, principal_id: str, session_id: str | None, address: str | None) -> list[Standing]:
        """Return what is left of each limit."""
        keys = self._keys(principal_id, session_id, address)
        looks = await self._windows.look([(key, limit.rate) for limit, key in keys])
        return [_standing(limit, *look) for (limit, _), look in zip(keys, looks, strict=True)]

    async def describe(self, principal_id: str, session_id: str | None = None) -> dict[str, Any]:
        """Return what is left to a principal, and to a session of it if one is named, as JSON: each limit by its name.

        `limit`: the most messages within `windowS` seconds; `remaining` of them; `resetS`: seconds until there is one
        more.
        """
        return {
            each.limit.name: {
                "limit": each.limit.rate.amount,
                "windowS": each.limit.rate.window_s,
                "remaining": each.remaining,
                "resetS": math.ceil(each.reset_s),
            }
            for each in await self.standings(principal_id, session_id, None)
        }

    def _keys(self, principal_id: str, session_id: str | None, address: str | None) -> list[tuple[Limit, str]]:
        # No id holds the separator.
        keys = [(limit, f"principal\x1f{principal_id}") for limit in self._of_principal]
        if session_id is not None:
            keys += [(limit, f"session\x1f{principal_id}\x1f{session_id}") for limit in self._of_session]
        if address is not None:
            keys += [(limit, f"address\x1f{address}") for limit in self._of_address]
        return keys

    def _widget_keys(self, principal_id: str) -> list[tuple[Limit, str]]:
        return [(limit, f"widget\x1f{key_of_visitor(principal_id)}") for limit in self._of_widget]


def _standing(limit: Limit, used: int, reset_s: float) -> Standing:
    rate = limit.rate
    return Standing(limit=limit, remaining=max(0, rate.amount - used), reset_s=reset_s if used else rate.window_s)


def create_windows(connection: Aside | None, clock: Clock) -> Windows:
    """Return where is counted: in the database that all nodes share, or in the memory of the only process."""
    if connection is None:
        return MemoryWindows(clock.monotonic_s)
    from legato.policies.database_windows import DatabaseWindows

    return DatabaseWindows(connection, clock)


def create_limits(settings: Settings, windows: Windows) -> RateLimits | None:
    """Return the limits that are configured, counted in `windows`, or None where nothing is limited.

    Raises:
        ConfigurationError: A setting is wrong; says what would be right.
    """
    text = settings.rate_limit
    if text is None:
        text = DEFAULT_WITH_KEYS if settings.auth != "none" else "off"
    rates = parse_rates("LEGATO_RATE_LIMIT", text)
    session_rates = parse_rates("LEGATO_SESSION_RATE_LIMIT", settings.session_rate_limit)
    proxies = TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None
    if session_rates and not rates:
        raise ConfigurationError(
            "LEGATO_SESSION_RATE_LIMIT is set and LEGATO_RATE_LIMIT is off: a caller would only have to change its "
            "session id, so set LEGATO_RATE_LIMIT too, such as 60/minute"
        )
    if not rates:
        return None
    return RateLimits(windows, rates=rates, session_rates=session_rates, proxies=proxies)


def create_visitor_limits(settings: Settings, windows: Windows) -> RateLimits | None:
    """Return the limits of a widget's visitors, or None where nothing is limited, or nobody can be a visitor.

    An address has no limit of its own here: the visitors of one office or telephone network may share it.

    Raises:
        ConfigurationError: A setting is wrong; says what would be right.
    """
    rates = parse_rates("LEGATO_WIDGET_RATE_LIMIT", settings.widget_rate_limit)
    widget_rates = parse_rates("LEGATO_WIDGET_KEY_RATE_LIMIT", settings.widget_key_rate_limit)
    if settings.auth == "none" or not (rates or widget_rates):
        return None
    return RateLimits(windows, rates=rates, widget_rates=widget_rates)


def _limits(kind: str, rates: tuple[Rate, ...]) -> tuple[Limit, ...]:
    if len(rates) == 1:
        return (Limit(name=kind, kind=kind, rate=rates[0]),)
    return tuple(Limit(name=f"{kind}-{rate.window_s}", kind=kind, rate=rate) for rate in rates)


def _refusal(limit: Limit, wait_s: float) -> RateLimited:
    wait_s = max(1, math.ceil(wait_s))
    return RateLimited(f"at most {limit.rate} are taken {_OF_WHAT[limit.kind]}: try again in {wait_s} s", wait_s)

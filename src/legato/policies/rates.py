"""A rate: so many in so long, as it is written in the settings.

Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from legato.core.errors import ConfigurationError

OFF: Final = "off"
MOST_AMOUNT: Final = 100_000
"""A moving window keeps a time for each that it counts: 32 bytes, so 3 MB for this many."""
MOST_WINDOW_S: Final = 366 * 24 * 3600

_HOW: Final = "write a number of messages in a time, such as 10/minute, 100/hour or 10/minute;200/day, or off"
_SPANS: Final = ((86_400, "day", "a day"), (3600, "hour", "an hour"), (60, "minute", "a minute"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `amount` (from 1) within any `window_s` seconds (from 1)."""

    amount: int
    window_s: int

    def __str__(self) -> str:
        return f"{self.amount} {'message' if self.amount == 1 else 'messages'} {_span(self.window_s)}"


def parse_rates(setting: str, text: str) -> tuple[Rate, ...]:
    """Return the rates of a setting, the shortest window first; none for `off`.

    Of several with one window only the smallest counts.

    Raises:
        ConfigurationError: It is no rate; names `setting` and what would be right.
    """
    if text.strip().lower() == OFF:
        return ()
    # Only those who limit pay for its import.
    from limits import parse_many

    try:
        found = parse_many(text)
    except ValueError:
        found = []
    # The library takes 10/0minute for 10/minute, and a colon before a separator.
    if not found or ":" in text or any(int(number) == 0 for number in re.findall("[0-9]+", text)):
        raise ConfigurationError(f"{setting} is {text[:200]!r}: {_HOW}")
    rates: dict[int, Rate] = {}
    for item in found:
        amount, window_s = item.amount, item.get_expiry()
        if amount > MOST_AMOUNT or window_s > MOST_WINDOW_S:
            raise ConfigurationError(
                f"{setting} is {text[:200]!r}: a rate is of {MOST_AMOUNT} messages at most, within a year at most"
            )
        if window_s not in rates or amount < rates[window_s].amount:
            rates[window_s] = Rate(amount=amount, window_s=window_s)
    return tuple(rates[window_s] for window_s in sorted(rates))


def _span(seconds: int) -> str:
    for unit_s, name, one in _SPANS:
        if seconds == unit_s:
            return one
        if seconds % unit_s == 0:
            return f"in {seconds // unit_s} {name}s"
    return "a second" if seconds == 1 else f"in {seconds} seconds"

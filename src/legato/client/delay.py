"""How long to wait before the next connection. Pure; the cases of protocol/delays.json hold for it."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.1
MOST_S: Final = 5.0
MOST_ASKED_S: Final = 60.0
"""Most that a server may ask for: a mistake in a proxy must not silence a reader for hours."""


def reconnect_delay(attempt: int, *, jitter: float, asked_s: float = 0.0) -> float:
    """Return how long to wait before the next connection.

    Args:
        attempt: Failed tries since the last event, >= 1.
        jitter: Uniform draw in [0, 1), so that readers that were cut together do not come back together.
        asked_s: What `Retry-After` or the stream's `retry:` asks for, in seconds; 0 where nothing does.

    Returns:
        Seconds: 0.05 to 0.1 at first, doubling, 2.5 to 5 at most, and never less than the server asks for.
    """
    most_s = min(MOST_S, FIRST_S * 2.0 ** min(attempt - 1, 16))
    return max(most_s * (0.5 + jitter / 2), min(asked_s, MOST_ASKED_S))

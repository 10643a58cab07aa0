"""The seam through which everything reads the time."""

from __future__ import annotations

import time
from typing import Final, Protocol

# On Linux the monotonic clock stands still in suspend, elsewhere it does not.
_ELAPSED: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Three clocks: one for stamps that people read, two for durations."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...

    def elapsed_s(self) -> float:
        """Return seconds of a clock that never goes back, and that goes on while the machine is suspended."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def elapsed_s(self) -> float:
        return time.clock_gettime(_ELAPSED)

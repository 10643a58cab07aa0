"""Moving windows: what was counted for a key within the last seconds, each with its own time.

Exact: at no moment are there more within a window than its rate allows. `Windows` is the seam for a store that
several processes share.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from legato.policies.rates import Rate

FORGET_MOST: Final = 1000
"""Keys whose windows are over that one call removes at most (0.2 ms), so that none has to wait for all of them."""


Window = tuple[str, Rate]
"""A key, and the most that may be counted for it in a time. A key and the length of its window belong to one rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """Why nothing was counted: the seconds until the oldest leaves, of each window that is full, by its place."""

    waits_s: dict[int, float]


class Windows(Protocol):
    """Counts under keys."""

    async def take(self, windows: Sequence[Window]) -> tuple[float, ...] | Full:
        """Count one in each window, and return the marks to give them back with; or in none where one is full."""
        ...

    async def give_back(self, windows: Sequence[Window], marks: Sequence[float]) -> None:
        """Undo a `take`; nothing happens to what has left its window."""
        ...

    async def look(self, windows: Sequence[Window]) -> list[tuple[int, float]]:
        """Return how many are within each window, and the seconds until the oldest leaves it (0.0 if there is none)."""
        ...


class MemoryWindows:
    """Windows of this process; they begin anew with it.

    A call costs the same however many keys there are. A key is forgotten once its window is over, by the calls that
    come after.

    Args:
        now_s: Seconds of a clock that never goes back.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        # For each length of window: times under keys, the key that counted last at the end.
        self._windows: dict[int, OrderedDict[str, list[float]]] = {}

    def __len__(self) -> int:
        """How many windows are kept."""
        return sum(map(len, self._windows.values()))

    async def take(self, windows: Sequence[Window]) -> tuple[float, ...] | Full:
        # Nothing else runs in between: there is no await.
        marks = [self._take(*window) for window in windows]
        full = [place for place, mark in enumerate(marks) if mark is None]
        if not full:
            return tuple(mark for mark in marks if mark is not None)
        for window, mark in zip(windows, marks, strict=True):
            if mark is not None:
                self._give_back(*window, mark)
        return Full(waits_s={place: self._look(*windows[place])[1] for place in full})

    async def give_back(self, windows: Sequence[Window], marks: Sequence[float]) -> None:
        for window, mark in zip(windows, marks, strict=True):
            self._give_back(*window, mark)

    async def look(self, windows: Sequence[Window]) -> list[tuple[int, float]]:
        return [self._look(*window) for window in windows]

    def _take(self, key: str, rate: Rate) -> float | None:
        now_s = self._now_s()
        windows = self._windows.get(rate.window_s)
        if windows is None:
            windows = self._windows[rate.window_s] = OrderedDict()
        over_s = now_s - rate.window_s
        for _ in range(FORGET_MOST):
            oldest = next(iter(windows), None)
            if oldest is None or windows[oldest][-1] > over_s:
                break
            del windows[oldest]
        times = windows.get(key)
        if times is None:
            windows[key] = [now_s]
            return now_s
        if times[0] <= over_s:
            del times[: bisect_right(times, over_s)]
        if len(times) >= rate.amount:
            return None
        times.append(now_s)
        windows.move_to_end(key)
        return now_s

    def _give_back(self, key: str, rate: Rate, mark: float) -> None:
        times = self._windows[rate.window_s].get(key)
        if times is None:
            return
        place = bisect_left(times, mark)
        if place < len(times) and times[place] == mark:
            del times[place]
        if not times:
            del self._windows[rate.window_s][key]

    def _look(self, key: str, rate: Rate) -> tuple[int, float]:
        windows = self._windows.get(rate.window_s)
        times = windows.get(key) if windows is not None else None
        if windows is None or times is None:
            return 0, 0.0
        now_s = self._now_s()
        if times[0] <= now_s - rate.window_s:
            del times[: bisect_right(times, now_s - rate.window_s)]
        if not times:
            del windows[key]
            return 0, 0.0
        return len(times), times[0] + rate.window_s - now_s

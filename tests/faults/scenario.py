"""What a fault scenario is given, and how its trials are chosen, seeded and counted."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.faults.oracle import Tally

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(slots=True)
class Context:
    """One run of the faults.

    Attributes:
        seed: All choices follow from it and the trial's name.
        quick: A small count of each fault.
        only: Name of the one scenario or `scenario:trial` to run, None for all.
        step: Called with the number of trials done.
        share: Part of a full run's trials, for scenarios that take long.
        streams: Replies at once for scenarios with a crowd; None is their own number.
        workers: Servers at once.
        fail_fast: Raise what the first trial that goes wrong has found.
    """

    folder: Path
    seed: int = 1
    quick: bool = False
    only: str | None = None
    share: float = 1.0
    streams: int | None = None
    workers: int = 2
    fail_fast: bool = False
    step: Callable[[int], None] = lambda done: None
    tally: Tally = field(default_factory=Tally)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _folders: int = 0

    def new_folder(self) -> Path:
        """Return an empty folder for one server."""
        with self._lock:
            self._folders += 1
            return self.folder / f"server-{self._folders}"

    def draw(self, name: str) -> random.Random:
        """Return the random numbers of one trial."""
        return random.Random(f"{self.seed}/{name}")

    def chosen(self, trials: Iterable[str]) -> list[str]:
        """Return those trials that `only` names: one, or several with `+` between them."""
        _, _, wanted = (self.only or "").partition(":")
        return [name for name in trials if not wanted or name in wanted.split("+")]

    def add(self, tally: Tally, done: int = 1) -> None:
        """Count what a trial found.

        Raises:
            AssertionError: With `fail_fast`, if anything was wrong in this or an earlier trial.
        """
        with self._lock:
            self.tally.merge(tally)
        self.step(done)
        if self.fail_fast and self.tally.violations:
            raise AssertionError("\n".join(self.tally.notes))

    def attempt(self, name: str, trial: Callable[P, Tally], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run one trial and count what it found; one that cannot be brought to its end is a violation too."""
        try:
            tally = trial(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            tally = Tally()
            where = traceback.extract_tb(error.__traceback__)[-1]
            tally.violate("unfinished", f"{name}: {error!r} in {where.name}, line {where.lineno}")
        self.add(tally)

    def spread(self, items: list[T], work: Callable[[list[T]], None]) -> None:
        """Share `items` out to the workers; each works its share off alone, in a thread."""
        shares = [share for n in range(self.workers) if (share := items[n :: self.workers])]
        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            for each in [pool.submit(work, share) for share in shares]:
                each.result()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named group of trials.

    Attributes:
        trials: Names of its trials, for a context.
        run: Runs the chosen ones.
    """

    name: str
    about: str
    trials: Callable[[Context], list[str]]
    run: Callable[[Context, list[str]], None]


def numbered(prefix: str, numbers: Iterable[int]) -> Iterator[str]:
    """Return trial names `prefix-<n>`."""
    return (f"{prefix}-{n}" for n in numbers)

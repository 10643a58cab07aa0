"""`state.update` per second: 1 and 50 writers on one key, every update read back afterwards.

Alone: `python -m bench.state`.
"""

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.figure import Figure, figure
from bench.process import Cores, running
from bench.state_writers import PLACE, WARM_UP_S, Report
from bench.toolchain import HERE, BenchError
from legato.storage.database import Durability
from legato.storage.migrate import migrate

START_S = 1.5
"""About what starting the writers takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUpdates:
    """How many writers, for how long, how often."""

    window_s: float
    rounds: int
    writers: Sequence[int] = (1, 50)
    durability: Durability = "power"

    @property
    def expected_s(self) -> float:
        """Seconds that all rounds should take."""
        return self.rounds * len(self.writers) * (START_S + WARM_UP_S + self.window_s)


def measure_state(
    cores: Cores, folder: Path, plan: StateUpdates, note: Callable[[str], None] = lambda text: None
) -> list[Figure]:
    """Measure every number of writers once a round, each on a database of its own.

    Args:
        cores: The writers' process gets the server's core.
        folder: Where the databases go; a disk, not a RAM disk.
        note: Shows a line a reading.

    Raises:
        BenchError: The writers failed, or an acknowledged update is not in the database.
    """
    readings: dict[int, list[Report]] = {writers: [] for writers in plan.writers}
    for number in range(1, plan.rounds + 1):
        for writers in plan.writers:
            report = _measure(cores, folder / f"state-{writers}-{number}", writers, plan)
            readings[writers].append(report)
            note(
                f"state {number}/{plan.rounds}: {writers} writers, {report.updates / report.window_s:,.0f} updates/s, "
                f"{report.p50_ms:.2f}/{report.p99_ms:.2f} ms"
            )
    return [
        figure("state", "legato", f"{name}_{writers}", [of(report) for report in reports])
        for writers, reports in readings.items()
        for name, of in FIGURES.items()
    ]


FIGURES: Mapping[str, Callable[[Report], float]] = {
    "updates_per_s": lambda report: report.updates / report.window_s,
    "update_p50_ms": lambda report: report.p50_ms,
    "update_p99_ms": lambda report: report.p99_ms,
    "update_cpu_ms": lambda report: report.cpu_s * 1e6 / report.updates,
}
"""Each gets the number of writers behind its name."""


def _measure(cores: Cores, folder: Path, writers: int, plan: StateUpdates) -> Report:
    folder.mkdir()
    path, log = folder / "legato.db", folder / "log"
    migrate(path)
    arguments = [str(path), str(writers), str(plan.window_s), plan.durability]
    command = [sys.executable, "-m", "bench.state_writers", *arguments]
    with running(command, cores=cores.server, log=log, cwd=HERE.parent) as process:
        try:
            process.wait(timeout=plan.window_s + 60)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"state: {writers} writers did not end") from error
    text = log.read_text()
    if process.returncode:
        raise BenchError(f"state: {writers} writers ended with status {process.returncode}:\n{text[-2000:]}")
    report = msgspec.json.decode(text, type=Report)
    if (kept := _kept(path)) != report.acknowledged:
        raise BenchError(f"state: {report.acknowledged} updates were acknowledged, {kept} are in the database")
    if not report.updates:
        raise BenchError(f"state: no update ended within {plan.window_s} s")
    return report


def _kept(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        text, version = database.execute(
            'SELECT value, version FROM state WHERE "group" = ? AND key = ?', PLACE
        ).fetchone()
    total: int = msgspec.json.decode(text)["totalMessages"]
    if total != version:
        raise BenchError(f"state: a total of {total} has version {version}")
    return total


def main() -> None:
    """Measure this scenario alone and print it."""
    plan = StateUpdates(window_s=5, rounds=3)
    with tempfile.TemporaryDirectory(prefix="legato-bench-") as made:
        figures = measure_state(Cores.split(), Path(made), plan, print)
    for each in figures:
        print(f"{each.name}: {each.value:,.2f} ({min(each.rounds):,.2f} to {max(each.rounds):,.2f})")
    print("nothing lost: every acknowledged update was read back")


if __name__ == "__main__":
    main()

"""The queue: from enqueueing a job to its end at 1, 10 and 100 jobs a second, and what an idle queue costs.

Alone: `python -m bench.queue`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.figure import Figure, figure
from bench.process import Cores, running
from bench.queue_feeder import WARM_UP_S, Report
from bench.toolchain import HERE, BenchError
from legato.storage.database import Durability

START_S = 1.5
"""About what starting a process takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueJobs:
    """How many jobs a second, for how long, how often."""

    window_s: float
    idle_s: float
    rounds: int
    rates: Sequence[int] = (1, 10, 100)
    durability: Durability = "power"

    @property
    def expected_s(self) -> float:
        """Seconds that all rounds should take."""
        fed_s = len(self.rates) * (START_S + 3 * WARM_UP_S + self.window_s)
        return self.rounds * (fed_s + START_S + WARM_UP_S + self.idle_s)


def measure_queue(
    cores: Cores, folder: Path, plan: QueueJobs, note: Callable[[str], None] = lambda text: None
) -> list[Figure]:
    """Measure every rate once a round, each on a file of its own.

    Args:
        cores: The queue's process gets the server's core.
        folder: Where the files go; a disk, not a RAM disk.
        note: Shows a line a reading.

    Raises:
        BenchError: The process failed, or not every job was done.
    """
    busy: dict[int, list[Report]] = {rate: [] for rate in plan.rates}
    idle: list[Report] = []
    for number in range(1, plan.rounds + 1):
        for rate in plan.rates:
            report = _measure(cores, folder / f"queue-{rate}-{number}", rate, plan.window_s, plan)
            busy[rate].append(report)
            note(
                f"queue {number}/{plan.rounds}: {rate} jobs/s, {report.p50_ms:.1f}/{report.p99_ms:.1f} ms, "
                f"loop {report.lag_p99_ms:.1f}/{report.lag_max_ms:.1f} ms late, "
                f"{report.cpu_s / report.jobs * 1e3:.2f} ms CPU a job"
            )
        idle.append(_measure(cores, folder / f"queue-idle-{number}", 0, plan.idle_s, plan))
        note(f"queue {number}/{plan.rounds}: idle, {_idle_percent(idle[-1]):.2f} % of a core")
    figures = [
        figure("queue", "legato", f"{name}_{rate}", [of(report) for report in reports])
        for rate, reports in busy.items()
        for name, of in FIGURES.items()
    ]
    return [*figures, figure("queue", "legato", "queue_idle_percent", [_idle_percent(report) for report in idle])]


def _idle_percent(report: Report) -> float:
    return report.cpu_s / report.window_s * 100


FIGURES: Mapping[str, Callable[[Report], float]] = {
    "queue_p50_ms": lambda report: report.p50_ms,
    "queue_p99_ms": lambda report: report.p99_ms,
    "queue_cpu_ms": lambda report: report.cpu_s / report.jobs * 1e3,
    "queue_lag_p99_ms": lambda report: report.lag_p99_ms,
    "queue_lag_max_ms": lambda report: report.lag_max_ms,
}
"""What is told of each rate."""


def _measure(cores: Cores, folder: Path, rate: int, window_s: float, plan: QueueJobs) -> Report:
    folder.mkdir(parents=True)
    arguments = [str(folder / "queue.db"), str(rate), str(window_s), plan.durability]
    log = folder / "feeder.log"
    with running(
        [sys.executable, "-m", "bench.queue_feeder", *arguments], cores=cores.server, log=log, cwd=HERE.parent
    ) as process:
        try:
            status = process.wait(timeout=window_s * 3 + 60)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"the queue did not end: {log.read_text()[-500:]}") from error
    if status != 0:
        raise BenchError(f"the queue ended with status {status}: {log.read_text()[-500:]}")
    last = log.read_text().splitlines()[-1]
    report = msgspec.json.decode(last, type=Report)
    if report.jobs < rate * window_s * 0.9:
        raise BenchError(f"{report.jobs} jobs were done of about {rate * window_s:.0f}")
    return report


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="legato-bench-queue-") as made:
        for each in measure_queue(Cores.split(), Path(made), QueueJobs(window_s=10, idle_s=20, rounds=1), print):
            print(f"{each.name:24} {each.value:10.2f}")

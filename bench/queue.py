"""The queue: from ctx.enqueue to the end of a handler at 1, 10 and 100 jobs a second, and what an idle server costs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.figure import Figure, figure
from bench.steps import QUEUE_PATH, QueueLoad, QueueReport, bot_server
from bench.throughput import START_S, Bench
from bench.toolchain import BenchError

IDLE, STEPLESS = "idle", "idle, steps off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """How many jobs a second, for how long, how often."""

    window_s: float
    idle_s: float
    """Over which the CPU of idle servers is taken."""
    rounds: int
    settle_s: float = 2.0
    rates: Sequence[int] = (1, 10, 100)

    @property
    def expected_s(self) -> float:
        """Seconds that all rounds should take."""
        fed_s = len(self.rates) * (3 * self.settle_s + self.window_s)
        return self.rounds * (2 * START_S + 4 * self.settle_s + self.idle_s + fed_s)


def measure_queue(bench: Bench, plan: Queue) -> list[Figure]:
    """Measure an idle server, then each rate, once a round; each round on a fresh server.

    Raises:
        BenchError: The server failed, or not every job was done.
    """
    idle: dict[str, list[float]] = {IDLE: [], STEPLESS: []}
    fed: dict[int, list[QueueReport]] = {rate: [] for rate in plan.rates}
    for number in range(1, plan.rounds + 1):
        with (
            bench.board.step(f"queue {number}/{plan.rounds}", plan.expected_s / plan.rounds),
            bot_server(bench.cores, bench.folder / f"queue-{number}") as server,
        ):
            # The queue is opened behind the listening socket, and what is loaded on first use is loaded.
            server.ask(QUEUE_PATH, QueueLoad(rate=10, window_s=1, settle_s=plan.settle_s), QueueReport)
            # Side by side: together they take a hundredth of the core, and what disturbs one disturbs both.
            with bot_server(bench.cores, bench.folder / f"stepless-{number}", module="bench.stepless") as other:
                time.sleep(plan.settle_s)
                trees = {IDLE: server.tree, STEPLESS: other.tree}
                before = {name: tree.cpu_s() for name, tree in trees.items()}
                begun_s = time.monotonic()
                time.sleep(plan.idle_s)
                for name, tree in trees.items():
                    idle[name].append((tree.cpu_s() - before[name]) / (time.monotonic() - begun_s) * 100)
            bench.board.note(
                f"queue {number}/{plan.rounds}: idle, {idle[IDLE][-1]:.2f} % of a core; "
                f"{idle[STEPLESS][-1]:.2f} % with steps off"
            )
            for rate in plan.rates:
                load = QueueLoad(rate=rate, window_s=plan.window_s, settle_s=plan.settle_s)
                report = server.ask(QUEUE_PATH, load, QueueReport)
                if report.jobs != round(rate * plan.window_s):
                    raise BenchError(f"queue: {report.jobs} jobs were done of {rate * plan.window_s:.0f}")
                fed[rate].append(report)
                bench.board.note(
                    f"queue {number}/{plan.rounds}: {rate} jobs/s, done in {report.p50_ms:.0f}/{report.p99_ms:.0f} ms, "
                    f"loop {report.lag_p99_ms:.1f}/{report.lag_max_ms:.1f} ms late, "
                    f"{report.cpu_s / report.jobs * 1e3:.2f} ms CPU a job"
                )
    figures = [figure("queue", name, "idle_percent", rounds) for name, rounds in idle.items()]
    return figures + [
        figure("queue", "1 job/s" if rate == 1 else f"{rate} jobs/s", name, [of(report) for report in reports])
        for rate, reports in fed.items()
        for name, of in REPORT_FIGURES.items()
    ]


REPORT_FIGURES: Mapping[str, Callable[[QueueReport], float]] = {
    "done_p50_ms": lambda report: report.p50_ms,
    "done_p99_ms": lambda report: report.p99_ms,
    "job_cpu_ms": lambda report: report.cpu_s / report.jobs * 1e3,
    "lag_p99_ms": lambda report: report.lag_p99_ms,
    "lag_max_ms": lambda report: report.lag_max_ms,
}

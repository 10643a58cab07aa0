"""CPU, added latency and first chunks under a steady number of streams, in interleaved rounds."""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.figure import Figure, figure
from bench.load import DRAIN, WINDOW, Load, LoadResult, Mock, mock_upstream, run_client
from bench.process import Cores, Tree, busy_s
from bench.products import PRODUCTS
from bench.progress import Board
from bench.target import TARGETS, Target, serving
from bench.toolchain import BenchError, Programs

START_S = 3.0
"""About what starting and stopping a server and its mock takes, for the progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every scenario needs."""

    programs: Programs
    cores: Cores
    folder: Path
    certificate: tuple[Path, Path] | None
    board: Board


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One configuration, measured for several targets in turn."""

    name: str
    title: str
    load: Load
    targets: Sequence[str]
    rounds: int
    tls: bool = False

    def load_for(self, target: Target) -> Load:
        """Return the load, cut to what the target can still serve."""
        most = target.most_streams
        return self.load.but(streams=min(self.load.streams, most)) if most else self.load

    @property
    def expected_s(self) -> float:
        """Seconds that all rounds should take."""
        return self.rounds * len(self.targets) * (self.load.expected_s + START_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one target showed in one round."""

    target: str
    round: int
    streams: int
    cpu_ms: float
    """CPU milliseconds of the server's tree per 1,000 chunks delivered in the window."""
    rate: float
    """Chunks per second delivered in the window."""
    others_percent: float
    """What other programs took of the server's core in the window: it spoils latencies."""
    calls_per_stream: float
    result: LoadResult


class Window:
    """CPU between the window's two ends: the server's, and what others took of its core."""

    def __init__(self, tree: Tree, cores: Cores) -> None:
        self._tree, self._cores = tree, cores
        self._marks: list[tuple[float, float, float]] = []

    def mark(self, phase: int) -> None:
        """Read the clocks when the window opens (WINDOW) and closes (DRAIN)."""
        if phase in (WINDOW, DRAIN):
            self._marks.append((time.monotonic(), self._tree.cpu_s(), busy_s(self._cores.server)))

    def cpu_ms_per_1000(self, chunks: int) -> float:
        """Return CPU milliseconds per 1,000 chunks."""
        if len(self._marks) != 2 or not chunks:
            raise BenchError("the window did not open and close: nothing was delivered in it")
        return (self._marks[1][1] - self._marks[0][1]) * 1e6 / chunks

    def others_percent(self) -> float:
        """Return how much of the server's core other programs and guests took, percent."""
        opened, closed = self._marks
        others = (closed[2] - opened[2]) - (closed[1] - opened[1])
        return max(0.0, others) / (closed[0] - opened[0]) * 100


def mock_counters(mock: Mock) -> dict[str, int]:
    """Ask a plain-text mock for its counters."""
    url = mock.url.replace("/v1", "/stats")
    with urllib.request.urlopen(url, timeout=5) as answer:
        counters: dict[str, int] = json.load(answer)
    return counters


def measure(bench: Bench, plan: Throughput, target: Target, round_number: int) -> Sample:
    """Run one target once, on a fresh server and a fresh mock.

    Raises:
        BenchError: A stream was not whole, or the server did not start.
    """
    load = plan.load_for(target)
    folder = bench.folder / f"{plan.name}-{target.name}-{round_number}"
    folder.mkdir()
    certificate = bench.certificate if plan.tls else None
    with (
        mock_upstream(bench.programs, bench.cores, folder, load=load, certificate=certificate) as mock,
        serving(target, mock, bench.cores, folder) as server,
    ):
        window = Window(server.tree, bench.cores)
        result = run_client(
            bench.programs,
            bench.cores,
            folder,
            port=server.port,
            protocol=target.protocol,
            load=load,
            on_phase=window.mark,
            on_tick=bench.board.tick,
            path=target.path,
            token=server.token,
        )
        counters = {} if plan.tls else mock_counters(mock)
    if fault := result.fault():
        raise BenchError(f"{plan.name}: {target.name} did not deliver: {fault}")
    return Sample(
        target=target.name,
        round=round_number,
        streams=load.streams,
        cpu_ms=window.cpu_ms_per_1000(result.window_tokens),
        rate=result.window_tokens / load.window_s,
        others_percent=window.others_percent(),
        calls_per_stream=counters.get("requests", result.started) / result.started,
        result=result,
    )


def measure_floor(bench: Bench, plan: Throughput) -> LoadResult:
    """Run the load with no server between: what mock and client show of themselves."""
    folder = bench.folder / f"{plan.name}-floor"
    folder.mkdir()
    with mock_upstream(bench.programs, bench.cores, folder, load=plan.load) as mock:
        result = run_client(
            bench.programs,
            bench.cores,
            folder,
            port=mock.port,
            protocol="openai",
            load=plan.load,
            on_tick=bench.board.tick,
        )
    if fault := result.fault():
        raise BenchError(f"{plan.name}: mock and client alone: {fault}")
    return result


def run_rounds(bench: Bench, plan: Throughput) -> list[Sample]:
    """Measure every target once a round, round after round."""
    samples: list[Sample] = []
    for number in range(1, plan.rounds + 1):
        for name in plan.targets:
            what = f"{plan.name} {number}/{plan.rounds} {name}"
            with bench.board.step(what, plan.load.expected_s + START_S):
                sample = measure(bench, plan, {**TARGETS, **PRODUCTS}[name], number)
            samples.append(sample)
            bench.board.note(
                f"{what}: {sample.streams:,} streams, {sample.rate:,.0f} chunks/s, "
                f"{sample.cpu_ms:.1f} ms/1,000, "
                f"+{sample.result.chunk_added_us.p50 / 1e3:.2f}/"
                f"{sample.result.chunk_added_us.p99 / 1e3:.2f} ms"
                + (f", others {sample.others_percent:.0f} %" if sample.others_percent > 3 else "")
            )
    return samples


def figures_of(plan: Throughput, samples: Sequence[Sample]) -> list[Figure]:
    """Return the figures of a configuration; ratios are taken within a round."""
    figures: list[Figure] = []
    for name in plan.targets:
        own = [sample for sample in samples if sample.target == name]
        for key, of in SAMPLE_FIGURES.items():
            figures.append(figure(plan.name, name, key, [of(sample) for sample in own]))
        for other in ("nginx", "relay", "tutorial", *PRODUCTS):
            ratios = _ratios(samples, name, other)
            if ratios and other != name:
                figures.append(figure(plan.name, name, f"cpu_x_{other}", ratios))
    return figures


SAMPLE_FIGURES: Mapping[str, Callable[[Sample], float]] = {
    "streams": lambda sample: sample.streams,
    "rate": lambda sample: sample.rate,
    "cpu_ms": lambda sample: sample.cpu_ms,
    "added_p50_ms": lambda sample: sample.result.chunk_added_us.p50 / 1e3,
    "added_p99_ms": lambda sample: sample.result.chunk_added_us.p99 / 1e3,
    "added_max_ms": lambda sample: sample.result.chunk_added_us.max / 1e3,
    "first_p50_ms": lambda sample: sample.result.first_added_us.p50 / 1e3,
    "first_p99_ms": lambda sample: sample.result.first_added_us.p99 / 1e3,
    "others_percent": lambda sample: sample.others_percent,
    "calls_per_stream": lambda sample: sample.calls_per_stream,
}


def floor_figures(plan: Throughput, result: LoadResult) -> list[Figure]:
    """Return the floor's figures, under the target name `(none)`."""
    chunk = result.chunk_added_us
    values = {
        "streams": float(result.streams),
        "rate": result.window_tokens / plan.load.window_s,
        "added_p50_ms": chunk.p50 / 1e3,
        "added_p99_ms": chunk.p99 / 1e3,
        "added_max_ms": chunk.max / 1e3,
    }
    return [figure(plan.name, "(none)", key, [value]) for key, value in values.items()]


def _ratios(samples: Sequence[Sample], name: str, other: str) -> list[float]:
    mine = {sample.round: sample.cpu_ms for sample in samples if sample.target == name}
    theirs = {sample.round: sample.cpu_ms for sample in samples if sample.target == other}
    return [mine[number] / theirs[number] for number in mine if number in theirs]


def spread_percent(samples: Sequence[Sample]) -> float:
    """Return how far CPU figures of one target differ between rounds, percent of the median."""
    widest = 0.0
    for name in {sample.target for sample in samples}:
        values = [sample.cpu_ms for sample in samples if sample.target == name]
        widest = max(widest, (max(values) - min(values)) / median(values) * 100)
    return widest

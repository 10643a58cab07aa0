"""Memory: per active stream, per idle stream, and what is left when the streams are gone."""

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.figure import Figure, figure
from bench.load import Live, Load, LoadResult, Mock, mock_upstream, run_client
from bench.process import Tree
from bench.target import TARGETS, serving
from bench.throughput import Bench
from bench.toolchain import BenchError

COUNTED_S = 20.0
"""Longest wait for the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How many streams memory is measured with."""

    few: int
    many: int
    """The slope per active stream is taken between `few` and `many`."""
    idle_few: int
    idle_many: int
    """The slope per idle stream is taken between these; all of `idle_many` are open at once."""
    tokens: int
    targets: tuple[str, ...]
    release_s: float
    """Seconds over which the idle streams end."""
    settle_s: float
    """Seconds given to a server to give back what it can, before the base line is compared."""

    @property
    def active_load(self) -> Load:
        """The load with `many` active streams."""
        return Load.steady(self.many, tokens=self.tokens, window_s=self.tokens / 20)

    def idle_load(self, streams: int) -> Load:
        """The load whose streams stay open and silent until they are released."""
        return Load(streams=streams, tokens=1, ramp_s=max(1.0, streams / 400), window_s=60, once=True)

    @property
    def expected_s(self) -> float:
        """Seconds for all targets."""
        idle = sum(self.idle_load(n).ramp_s + self.release_s + 3 for n in (self.idle_few, self.idle_many))
        return len(self.targets) * (2 * self.active_load.expected_s + idle + self.settle_s + 8)


def measure_memory(bench: Bench, plan: Memory) -> list[Figure]:
    """Measure every target once.

    Raises:
        BenchError: A stream was not whole.
    """
    figures: list[Figure] = []
    for name in plan.targets:
        with bench.board.step(f"memory {name}", plan.expected_s / len(plan.targets)):
            values = _active(bench, plan, name) | _idle(bench, plan, name)
        figures.extend(figure("memory", name, key, [value]) for key, value in values.items())
        bench.board.note(
            f"memory {name}: {values['active_kb']:.1f} kB active, {values['idle_kb']:.1f} kB idle, "
            f"{values['left_over_mb']:.1f} MB and {values['left_over_files']:.0f} files left over"
        )
    return figures


def _active(bench: Bench, plan: Memory, name: str) -> dict[str, float]:
    target = TARGETS[name]
    folder = bench.folder / f"memory-active-{name}"
    folder.mkdir()
    pss: dict[int, float] = {}
    with (
        mock_upstream(bench.programs, bench.cores, folder, load=plan.active_load) as mock,
        serving(target, mock, bench.cores, folder) as server,
    ):
        for streams in (plan.few, plan.many):
            readings: list[float] = []

            def read(live: Live, seen: list[float] = readings, want: int = streams) -> None:
                bench.board.tick(live)
                # Smaps walks the whole address space: a few readings a second are enough.
                if live.open == want and live.whole:
                    seen.append(server.tree.pss_kb())

            result = run_client(
                bench.programs,
                bench.cores,
                folder,
                port=server.port,
                protocol=target.protocol,
                load=plan.active_load.but(streams=streams),
                on_tick=read,
            )
            _check(result, name)
            if not readings:
                raise BenchError(f"memory: {streams} streams were never open at once at {name}")
            pss[streams] = median(readings)
    return {"active_kb": (pss[plan.many] - pss[plan.few]) / (plan.many - plan.few)}


def _idle(bench: Bench, plan: Memory, name: str) -> dict[str, float]:
    target = TARGETS[name]
    folder = bench.folder / f"memory-idle-{name}"
    folder.mkdir()
    pss: dict[int, float] = {}
    with (
        mock_upstream(
            bench.programs,
            bench.cores,
            folder,
            load=plan.idle_load(1),
            silent=True,
            release_s=plan.release_s,
        ) as mock,
        serving(target, mock, bench.cores, folder) as server,
    ):
        # A few streams first: what a server loads on first use belongs to its base line.
        warm_up = min(100, plan.idle_few)
        _hold(bench, plan.idle_load(warm_up), name, mock, server.port, server.tree.pss_kb)
        if name == "legato":
            _wait_for_steps(server.port, warm_up)
        time.sleep(1)
        base_kb, base_files = server.tree.pss_kb(), server.tree.open_files()
        for streams in (plan.idle_few, plan.idle_many):
            pss[streams] = _hold(bench, plan.idle_load(streams), name, mock, server.port, server.tree.pss_kb)
        left_kb, left_files = _settle(server.tree, base_kb, base_files, plan.settle_s)
    return {
        "idle_kb": (pss[plan.idle_many] - pss[plan.idle_few]) / (plan.idle_many - plan.idle_few),
        "open_streams": plan.idle_many,
        "base_mb": base_kb / 1024,
        "left_over_mb": left_kb / 1024,
        "left_over_share": left_kb / base_kb,
        "left_over_files": left_files,
    }


def _wait_for_steps(port: int, replies: int) -> None:
    """Wait until Legato's own steps have counted so many replies.

    The queue is opened behind the listening socket, and takes its memory then.
    """
    deadline = time.monotonic() + COUNTED_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/analytics?by=none", timeout=5) as answer:
            if json.load(answer)["rows"][0]["messages"] >= replies:
                return
        time.sleep(0.1)
    raise BenchError(f"memory: {replies} replies were not counted within {COUNTED_S:.0f} s")


def _hold(bench: Bench, load: Load, name: str, mock: Mock, port: int, read: Callable[[], int]) -> int:
    """Open all streams, read memory once all have their first chunk, then let them end.

    Returns:
        The reading, kB.
    """
    complete_at: float | None = None
    reading: int | None = None

    def watch(live: Live) -> None:
        nonlocal complete_at, reading
        bench.board.tick(live)
        if reading is None and live.first == load.streams:
            complete_at = complete_at or time.monotonic()
            if time.monotonic() - complete_at > 1.0:
                reading = read()
                mock.release_silent()

    result = run_client(
        bench.programs,
        bench.cores,
        bench.folder,
        port=port,
        protocol=TARGETS[name].protocol,
        load=load,
        on_tick=watch,
    )
    _check(result, name)
    if reading is None:
        raise BenchError(f"memory: {load.streams} idle streams were never open at once at {name}")
    return reading


def _settle(tree: Tree, base_kb: int, base_files: int, limit_s: float) -> tuple[int, int]:
    """Wait until memory and files are back, at most `limit_s`; return what is left (kB, files)."""
    deadline = time.monotonic() + limit_s
    while True:
        left = tree.pss_kb() - base_kb, tree.open_files() - base_files
        if time.monotonic() > deadline or (left[0] <= 0 and left[1] <= 0):
            return max(0, left[0]), max(0, left[1])
        time.sleep(0.5)


def _check(result: LoadResult, name: str) -> None:
    if fault := result.fault():
        raise BenchError(f"memory: {name} did not deliver: {fault}")

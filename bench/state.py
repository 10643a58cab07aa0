"""`ctx.state.update` per second: 1 and 50 writers on one key, every update read back afterwards."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.figure import Figure, figure
from bench.steps import STATE_GROUP, STATE_PATH, StateLoad, StateReport, bot_server
from bench.throughput import START_S, Bench
from bench.toolchain import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How many writers, for how long, how often."""

    window_s: float
    rounds: int
    writers: Sequence[int] = (1, 50)

    @property
    def expected_s(self) -> float:
        """Seconds that all rounds should take."""
        return self.rounds * (START_S + len(self.writers) * (self.window_s + 0.5))


def measure_state(bench: Bench, plan: State) -> list[Figure]:
    """Measure every number of writers once a round, each on a key of its own; each round on a fresh server.

    Raises:
        BenchError: The server failed, or an acknowledged update is not in the database.
    """
    readings: dict[int, list[StateReport]] = {writers: [] for writers in plan.writers}
    for number in range(1, plan.rounds + 1):
        with (
            bench.board.step(f"state {number}/{plan.rounds}", plan.expected_s / plan.rounds),
            bot_server(bench.cores, bench.folder / f"state-{number}") as server,
        ):
            for writers in plan.writers:
                key = f"counters-{writers}"
                load = StateLoad(writers=writers, window_s=plan.window_s, key=key)
                report = server.ask(STATE_PATH, load, StateReport)
                if (kept := _kept(server.database, key)) != report.acknowledged:
                    raise BenchError(f"state: {report.acknowledged} updates were acknowledged, {kept} are kept")
                readings[writers].append(report)
                bench.board.note(
                    f"state {number}/{plan.rounds}: {_name(writers)}, {report.updates / plan.window_s:,.0f} updates/s, "
                    f"{report.p50_ms:.2f}/{report.p99_ms:.2f} ms, none lost"
                )
    figures: Mapping[str, Callable[[StateReport], float]] = {
        "updates_per_s": lambda report: report.updates / plan.window_s,
        "update_p50_ms": lambda report: report.p50_ms,
        "update_p99_ms": lambda report: report.p99_ms,
        "update_cpu_ms": lambda report: report.cpu_s * 1e6 / report.updates,
    }
    return [
        figure("state", _name(writers), name, [of(report) for report in reports])
        for writers, reports in readings.items()
        for name, of in figures.items()
    ]


def _name(writers: int) -> str:
    return f"{writers} writers" if writers > 1 else "1 writer"


def _kept(path: Path, key: str) -> int:
    """Return the count that is in the database."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        query = 'SELECT value, version FROM state WHERE "group" = ? AND key = ?'
        text, version = database.execute(query, (STATE_GROUP, key)).fetchone()
    total: int = msgspec.json.decode(text)["totalMessages"]
    if total != version:
        raise BenchError(f"state: a total of {total} has version {version}")
    return total

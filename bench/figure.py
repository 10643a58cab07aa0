"""Figures and the bars that they are held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Verdict = Literal["pass", "FAIL", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The most that a figure may be, in the figure's own unit."""

    at_most: float
    why: str


BARS: Mapping[tuple[str, str, str], Bar] = {
    ("main", "legato", "cpu_x_nginx"): Bar(at_most=2.0, why="CPU beside nginx"),
    ("main", "legato", "cpu_x_tutorial"): Bar(at_most=0.125, why="CPU beside the tutorials"),
    ("main", "legato", "added_p50_ms"): Bar(at_most=6.0, why="added latency per chunk"),
    ("main", "legato", "added_p99_ms"): Bar(at_most=20.0, why="added latency per chunk"),
    ("first", "legato", "first_p50_ms"): Bar(at_most=10.0, why="first chunk over the upstream's"),
    ("memory", "legato", "active_kb"): Bar(at_most=60.0, why="memory of an active stream"),
    ("memory", "legato", "idle_kb"): Bar(at_most=10.0, why="memory of an idle stream"),
    ("memory", "legato", "left_over_share"): Bar(at_most=0.15, why="memory back to the base line"),
    ("memory", "legato", "left_over_files"): Bar(at_most=64, why="open files back to the base line"),
    ("turns", "legato", "start_cpu_x_deep"): Bar(at_most=1.5, why="turn start, long conversation"),
    ("turns", "legato", "start_wall_x_deep"): Bar(at_most=1.5, why="turn start, long conversation"),
    ("turns", "legato", "start_cpu_x_wide"): Bar(at_most=1.5, why="turn start, many conversations"),
    ("turns", "legato", "start_wall_x_wide"): Bar(at_most=1.5, why="turn start, many conversations"),
    ("postgres", "PostgreSQL + Redis, 2 nodes", "cpu_x_nginx"): Bar(at_most=2.5, why="CPU beside nginx"),
    ("nodes", "PostgreSQL, 2 nodes", "cross_p50_ms"): Bar(at_most=10.0, why="readers at another node"),
    ("nodes", "PostgreSQL, 2 nodes", "cross_p99_ms"): Bar(at_most=40.0, why="readers at another node"),
    ("nodes", "PostgreSQL + Redis, 2 nodes", "cross_p50_ms"): Bar(at_most=10.0, why="readers at another node"),
    ("nodes", "PostgreSQL + Redis, 2 nodes", "cross_p99_ms"): Bar(at_most=40.0, why="readers at another node"),
    ("queue", "idle", "idle_percent"): Bar(at_most=1.0, why="CPU of a server with nothing to do"),
    ("queue", "100 jobs/s", "lag_p99_ms"): Bar(at_most=10.0, why="jobs do not hold up streams"),
}
"""(scenario, target, figure) to its bar. Other figures are shown and not judged."""

TITLES: Mapping[str, str] = {
    "cpu_ms": "CPU ms per 1,000 chunks",
    "cpu_x_nginx": "CPU × nginx",
    "cpu_x_relay": "CPU × relay",
    "cpu_x_tutorial": "CPU × tutorial",
    "cpu_x_litellm": "CPU × LiteLLM",
    "cpu_x_open-webui": "CPU × Open WebUI",
    "added_p50_ms": "added latency p50, ms",
    "added_p99_ms": "added latency p99, ms",
    "added_max_ms": "added latency max, ms",
    "cross_p50_ms": "to a client at the other node p50, ms",
    "cross_p99_ms": "to a client at the other node p99, ms",
    "db_cpu_ms": "CPU ms of the database per 1,000 chunks",
    "redis_cpu_ms": "CPU ms of Redis per 1,000 chunks",
    "rows_written": "rows written per 1,000 tokens",
    "wal_kb": "kB of write-ahead log per 1,000 tokens",
    "followed": "replies read at the other node",
    "follower_cpu_ms": "CPU ms of the other node per 1,000 chunks read there",
    "first_p50_ms": "first chunk over the upstream's p50, ms",
    "first_p99_ms": "first chunk over the upstream's p99, ms",
    "rate": "chunks per second",
    "streams": "streams",
    "others_percent": "of the server's core taken by other programs, %",
    "calls_per_stream": "upstream calls per stream",
    "active_kb": "kB per active stream",
    "idle_kb": "kB per idle stream",
    "base_mb": "base line, MB",
    "open_streams": "streams open at once",
    "left_over_mb": "left over after them, MB",
    "left_over_share": "left over after them, share of the base line",
    "left_over_files": "open files left over after them",
    "start_cpu_ms": "CPU per turn, ms",
    "start_wall_ms": "POST to upstream call p50, ms",
    "start_cpu_x_deep": "CPU per turn × with the long conversation",
    "start_wall_x_deep": "POST to upstream call × with the long conversation",
    "start_cpu_x_wide": "CPU per turn × with many conversations",
    "start_wall_x_wide": "POST to upstream call × with many conversations",
    "idle_percent": "of a core, %",
    "done_p50_ms": "enqueue to done p50, ms",
    "done_p99_ms": "enqueue to done p99, ms",
    "job_cpu_ms": "CPU per job, ms",
    "lag_p99_ms": "the event loop late p99, ms",
    "lag_max_ms": "the event loop late max, ms",
    "updates_per_s": "updates per second",
    "update_p50_ms": "update p50, ms",
    "update_p99_ms": "update p99, ms",
    "update_cpu_ms": "CPU ms per 1,000 updates",
}
"""What each figure is, with its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: the median over rounds, the rounds themselves and the bar, if there is one."""

    scenario: str
    target: str
    name: str
    value: float
    rounds: Sequence[float]
    bar: Bar | None

    @property
    def verdict(self) -> Verdict:
        """Say whether the bar holds; empty without a bar."""
        if self.bar is None:
            return ""
        return "pass" if self.value <= self.bar.at_most else "FAIL"


def figure(scenario: str, target: str, name: str, rounds: Sequence[float]) -> Figure:
    """Make a figure of its values in each round."""
    return Figure(
        scenario=scenario,
        target=target,
        name=name,
        value=median(rounds),
        rounds=tuple(rounds),
        bar=BARS.get((scenario, target, name)),
    )

"""Random schedules over PostgreSQL: whatever happens between several processes, a log stays a log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from legato.runs.feed import Gap
from legato.storage import postgres_writer
from legato.storage.committer import Committer
from legato.storage.followed import read_followed
from legato.storage.pieces import append_pieces
from legato.storage.postgres import PostgresDatabase
from tests import schedule_world
from tests.schedule_process import HeldTail, Process
from tests.schedule_world import PROCESSES, Schedules

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.fixture
def schedules(postgres_url: str) -> Iterator[type[Schedules]]:
    """The machine, its processes connected."""
    PostgresDatabase(postgres_url).migrate()
    loop = asyncio.new_event_loop()

    async def open_processes() -> list[Process]:
        return [Process(postgres_url) for _ in range(PROCESSES)]

    processes = loop.run_until_complete(open_processes())
    yield type("Schedules", (Schedules,), {"loop": loop, "processes": processes})
    for process in processes:
        loop.run_until_complete(process.close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def run(machine: type[Schedules], examples: int, *, seeded: bool, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=seeded,
            database=None,
            phases=phases,
            suppress_health_check=QUIET,
        ),
    )


def test_a_log_stays_a_log(schedules: type[Schedules]) -> None:
    """Appends, crashes, zombies, takeovers, stops, ends and readers in any order; 60 schedules of up to 30 steps."""
    run(schedules, 60, seeded=False)


def _never_look_at_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_writer, "append_pieces", lambda tx, pieces, *, node_key: append_pieces(tx, pieces))


def _show_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    append, show = Committer.append, HeldTail.publish

    def eager(self: Committer, tail: Any, item: Any) -> None:
        append(self, tail, item)
        show(tail, [item])

    monkeypatch.setattr(Committer, "append", eager)
    monkeypatch.setattr(HeldTail, "publish", lambda self, items: None if self.end > 2 else show(self, items))


def _read_one_event_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(tx: Any, ends: dict[int, int], asked: set[int]) -> Any:
        return read_followed(tx, {key: end + (end > 0) for key, end in ends.items()}, asked)

    monkeypatch.setattr(schedule_world, "read_followed", late)


@pytest.mark.parametrize("plant", [_never_look_at_the_fence, _show_before_the_commit, _read_one_event_late])
def test_planted_bugs_are_caught(
    schedules: type[Schedules], monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """A schedule that finds each of them is among the first hundred."""
    plant(monkeypatch)
    with pytest.raises((AssertionError, Gap, ExceptionGroup)):
        run(schedules, 100, seeded=True, phases=(Phase.generate,))

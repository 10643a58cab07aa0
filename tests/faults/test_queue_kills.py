"""Several processes on one queue, and one of them is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli_process import ended
from tests.postgres import Postgres
from tests.queue_world import make_queue_database

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "queue.db")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = make_queue_database(postgres)
    yield url
    postgres.drop_database(url)


class Child:
    """One of the processes."""

    def __init__(self, address: str, folder: Path, stack: ExitStack) -> None:
        command = [sys.executable, "-m", "tests.faults.queue_child", address, str(folder)]
        made = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process = stack.enter_context(ended(made))
        word, self.executor = self._answer().split()
        assert word == "open"

    def order(self, text: str) -> None:
        """Have it do something, and return when it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()
        assert self._answer() == "done\n"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def told(folder: Path, name: str) -> list[tuple[str, int]]:
    """Return what the children have noted, each with the pid of who did."""
    lines = (folder / name).read_text().splitlines()
    return [(id_, int(pid)) for id_, pid in map(str.split, lines)]


@pytest.mark.slow
def test_a_tick_is_run_once_over_all_processes(address: str, tmp_path: Path) -> None:
    """Three on one queue, and one of them is killed."""
    with ExitStack() as stack:
        lives = [Child(address, tmp_path, stack) for _ in range(3)]
        # In the middle of a second: nobody here takes up what a process has taken when it dies.
        time.sleep(3.5 - time.time() % 1)
        lives[0].kill()
        time.sleep(3)
    ticks = [int(id_.rpartition(":")[2]) for id_, _ in told(tmp_path, "ticks.log")]
    assert len(ticks) >= 5
    assert sorted(ticks) == list(range(min(ticks), min(ticks) + len(ticks)))


@pytest.mark.slow
def test_what_a_killed_process_had_taken_is_done_by_the_others(address: str, tmp_path: Path) -> None:
    """Once it is said that it is dead, all is done; only what it was at work on is done a second time."""
    with ExitStack() as stack:
        dying, living = (Child(address, tmp_path, stack) for _ in range(2))
        dying.order("give 600")
        until = time.monotonic() + WITHIN_S
        while len({pid for _, pid in told(tmp_path, "events.log")}) < 2 or len(told(tmp_path, "events.log")) < 100:
            assert time.monotonic() < until
            time.sleep(0.02)
        dying.kill()
        before = len(told(tmp_path, "events.log"))
        living.order(f"up {dying.executor}")
        while len(done := told(tmp_path, "events.log")) < 600 or len({id_ for id_, _ in done}) < 600:
            assert time.monotonic() < until, len(done)
            time.sleep(0.05)
        time.sleep(0.5)
        done = told(tmp_path, "events.log")
    assert before < 600, "it was killed too late"
    assert len({id_ for id_, _ in done}) == 600
    # Jobs that ended in the moment of the kill, and were noted; at most as many as ran at once.
    assert len(done) <= 604

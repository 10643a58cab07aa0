"""Several processes on one queue, and one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from legato.steps.engine_letters import open_letters
from tests.cli_process import ended
from tests.faults.queue_child import CLEAN, CONCURRENCY, EVERY_S, FREE, WORK
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

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """Have it stand still; return when it does."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def unfinished(address: str, step: str) -> int:
    """Return how many jobs of a step wait or are taken."""
    with open_letters(address if "://" in address else Path(address)) as letters:
        assert letters is not None
        count = letters.counts().get(step)
    return 0 if count is None else count.waiting + count.taken


def ticks_of(folder: Path) -> list[int]:
    """Return the seconds of the ticks that were run, in their order."""
    return sorted(int(id_.rpartition(":")[2]) for id_, _ in told(folder, "ticks.log"))


def each_once(ticks: list[int]) -> list[int]:
    """Return what the seconds from the first to the last must be."""
    return list(range(min(ticks), max(ticks) + 1, EVERY_S))


def stop_between_ticks(child: Child, address: str, folder: Path) -> int:
    """Have a process stand still when all ticks that are due are done, so that it has none; return the last of them."""
    until = time.monotonic() + WITHIN_S
    while True:
        child.stop()
        due = int(time.time()) // EVERY_S * EVERY_S
        if due in ticks_of(folder) and not unfinished(address, CLEAN.name):
            return due
        child.go_on()
        assert time.monotonic() < until
        time.sleep(0.1)


def told(folder: Path, name: str) -> list[tuple[str, int]]:
    """Return what the children have noted, each with the pid of who did."""
    lines = (folder / name).read_text().splitlines()
    return [(id_, int(pid)) for id_, pid in map(str.split, lines)]


@pytest.mark.slow
def test_a_tick_is_run_once_over_all_processes(address: str, tmp_path: Path) -> None:
    """Three on one queue, and one of them is killed."""
    with ExitStack() as stack:
        lives = [Child(address, tmp_path, stack) for _ in range(3)]
        until = time.monotonic() + WITHIN_S
        while len(ticks_of(tmp_path)) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        # Nobody here takes up what a process has taken when it dies.
        last = stop_between_ticks(lives[0], address, tmp_path)
        lives[0].kill()
        ticks = ticks_of(tmp_path)
        while (len(ticks) < 5 or max(ticks) < last + 2 * EVERY_S or ticks != each_once(ticks)) and (
            time.monotonic() < until
        ):
            time.sleep(0.05)
            ticks = ticks_of(tmp_path)
    assert len(ticks) >= 5
    assert max(ticks) >= last + 2 * EVERY_S
    assert ticks == each_once(ticks)


@pytest.mark.slow
def test_what_a_killed_process_had_taken_is_done_by_the_others(address: str, tmp_path: Path) -> None:
    """Once it is said that it is dead, all is done; only what it was at work on is done a second time."""
    with ExitStack() as stack:
        dying, living = (Child(address, tmp_path, stack) for _ in range(2))
        hold = tmp_path / "hold"
        hold.touch()
        dying.order("give 600")
        until = time.monotonic() + WITHIN_S
        by = {each.pid: FREE - 1 + CONCURRENCY for each in (dying, living)}
        # Both are at work, and the queue knows of all that they are not at work on.
        while Counter(pid for _, pid in told(tmp_path, "events.log")) != by:
            assert time.monotonic() < until
            time.sleep(0.02)
        while unfinished(address, WORK.name) != 600 - 2 * (FREE - 1):
            assert time.monotonic() < until
            time.sleep(0.02)
        dying.kill()
        before = len(told(tmp_path, "events.log"))
        hold.unlink()
        living.order(f"up {dying.executor}")
        while len(done := told(tmp_path, "events.log")) < 600 or len({id_ for id_, _ in done}) < 600:
            assert time.monotonic() < until, len(done)
            time.sleep(0.05)
        time.sleep(0.5)
        done = told(tmp_path, "events.log")
    assert before < 600, "it was killed too late"
    assert len({id_ for id_, _ in done}) == 600
    # What it was at work on, and had noted; at most as many as ran at once.
    assert len(done) <= 604

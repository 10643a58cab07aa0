"""Several processes on one queue file, and one of them is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli_process import ended

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_tick_is_run_once_over_all_processes(tmp_path: Path) -> None:
    """Three on one file, and one of them is killed."""
    command = [sys.executable, "-m", "tests.faults.queue_child", str(tmp_path)]
    with ExitStack() as stack:
        lives = []
        for _ in range(3):
            lives.append(stack.enter_context(ended(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))))
            output = lives[-1].stdout
            assert output is not None
            assert output.readline() == b"open\n"
        # In the middle of a second: nobody here takes up what a process has taken when it dies.
        time.sleep(3.5 - time.time() % 1)
        lives[0].kill()
        time.sleep(3)
    ticks = [int(line.rpartition(":")[2]) for line in (tmp_path / "ticks.log").read_text().splitlines()]
    assert len(ticks) >= 5
    assert sorted(ticks) == list(range(min(ticks), min(ticks) + len(ticks)))

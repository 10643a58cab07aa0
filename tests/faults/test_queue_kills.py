"""kill -9 under the queue: the quick share of the fault scenario, and a job that kills its process itself."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.faults.queue_kills import QUICK, Life, accept, kill_queue, make_folder


@pytest.mark.slow
def test_nothing_accepted_is_lost_by_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each accepted event has its effect, in order within a key; what is repeated is counted and shown."""
    jobs, kills = QUICK
    found = kill_queue(tmp_path / "queue", jobs=jobs, kills=kills, seed=1)
    with capsys.disabled():
        print(f"\n{found}")
    assert (found.missing, found.effects, found.disordered, found.dead) == (0, jobs, 0, 0)


@pytest.mark.slow
def test_a_job_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    """After a few deaths it is a dead letter that says so; the jobs that ran beside it are done, slow ones too."""
    folder = tmp_path / "queue"
    make_folder(folder)
    accept(folder, 0, 1, poison=True)
    accept(folder, 1, 29)
    accept(folder, 30, 1, slow=True)
    lives = 0
    while True:
        lives += 1
        assert lives <= 6
        last = Life(folder, "--drain", "--most-cuts", "2", "--cut-pause-s", "0.05")
        said = last.end()
        if last.process.returncode == 0:
            break
    (letter,) = json.loads(said)
    assert letter["id"] == "plain:e00000"
    assert letter["error_type"] == "Interrupted"
    effects = {line.split()[1] for line in (folder / "effects.log").read_text().splitlines()}
    assert effects == {f"e{n:05d}" for n in range(1, 31)}
    assert lives == 4


@pytest.mark.slow
def test_a_tick_is_run_once_over_all_processes(tmp_path: Path) -> None:
    """Three on one file, and one of them is killed."""
    folder = tmp_path / "queue"
    make_folder(folder)
    lives = [Life(folder, "--cron")]
    assert lives[0].saw("open", 1)
    lives += [Life(folder, "--cron") for _ in range(2)]
    assert all(life.saw("open", 1) for life in lives)
    # In the middle of a second: nobody here takes up what a process has taken when it dies.
    time.sleep(3.5 - time.time() % 1)
    lives.pop().kill()
    time.sleep(3)
    for life in lives:
        life.kill()
    ticks = [int(line.rpartition(":")[2]) for line in (folder / "effects.log").read_text().splitlines()]
    assert len(ticks) >= 5
    assert sorted(ticks) == list(range(min(ticks), min(ticks) + len(ticks)))

"""kill -9 under a bot's steps: the quick share of `make faults --only steps`, each on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.oracle import Tally
from tests.faults.scenario import Context
from tests.faults.steps_kills import check_counts, kill_under_steps
from tests.faults.steps_oracle import ACCEPTED, EFFECTS


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A quick run with the usual seed."""
    return Context(tmp_path, quick=True, fail_fast=True)


@pytest.mark.slow
def test_no_job_is_lost_by_kills(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever was accepted has its effect once by its event's id, and is counted once; repeats are shown."""
    kill_under_steps(context, ["jobs-0"])
    with capsys.disabled():
        print(f"\n{', '.join(f'{name}: {times}' for name, times in sorted(context.tally.counts.items()))}")
    assert context.tally.counts["kills at seams of a job"] == 2
    assert context.tally.counts["jobs accepted: effects by event id"] == context.tally.counts["jobs accepted"] >= 24
    assert context.tally.counts["replies counted exactly"] > 0


@pytest.mark.slow
def test_a_time_that_was_missed_is_made_up_for_once(context: Context) -> None:
    """The last of several hours, also where the server dies in the midst of it; a step that skips them is not run."""
    kill_under_steps(context, ["times"])
    assert context.tally.counts["kills"] == 4


@pytest.mark.slow
def test_a_job_that_ends_its_server_is_given_up(context: Context) -> None:
    """After a few deaths it is a dead letter that says so; the jobs that were accepted beside it are done."""
    kill_under_steps(context, ["poison"])
    assert context.tally.counts["kills"] == 3


@pytest.mark.parametrize(
    ("kills", "accepted", "effects", "faults"),
    [(207, 1003, 1003, 0), (199, 1000, 1000, 1), (207, 999, 999, 1), (207, 1003, 1002, 1)],
)
def test_a_full_run_must_reach_its_counts(kills: int, accepted: int, effects: int, faults: int) -> None:
    """Fewer kills or jobs, or an effect too few, is a violation."""
    tally = Tally()
    check_counts(tally, {"kills": kills, ACCEPTED: accepted, EFFECTS: effects})
    assert tally.violations["count"] == faults

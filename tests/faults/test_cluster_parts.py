"""What the faults of a cluster are made of: what counts the calls, what ends a node, what judges memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.cluster_breaks import seam_of
from tests.faults.cluster_oracle import Accounts, RunRow
from tests.faults.cluster_server import Arm, ArmedFuse
from tests.faults.oracle import Tally
from tests.faults.scenario import Context
from tests.faults.soak import slope


class _Witness(ArmedFuse):
    """Notes that it burns, and lets the process live."""

    burnt = 0

    def burn(self) -> None:
        self.burnt += 1


def test_a_fuse_burns_at_the_chosen_pass_of_the_chosen_place_once_it_is_armed(tmp_path: Path) -> None:
    """A node that runs is told where to end: passes before that, and of other places, do not count."""
    arm = Arm(tmp_path / "fuse")
    fuse = _Witness(tmp_path / "fuse")
    fuse.passes("commit-before")
    arm.set("commit-before", 2, "kill")
    for seam in ("commit-before", "commit-after", "append-after"):
        fuse.passes(seam)
    assert fuse.burnt == 0
    fuse.passes("commit-before")
    fuse.passes("commit-before")
    assert fuse.burnt == 1
    arm.set("commit-before", 1, "stop")
    arm.unset()
    fuse.passes("commit-before")
    assert fuse.burnt == 1
    arm.set("append-after", 1, "stop")
    fuse.passes("append-after")
    assert fuse.burnt == 2


def test_a_seam_stands_in_the_name_of_its_trial() -> None:
    """So a trial's name alone brings it back."""
    assert seam_of("cluster:seam-stop-end-apply-before-1") == ("stop", "end-apply-before")


def test_several_trials_are_chosen_by_their_names(tmp_path: Path) -> None:
    """A reply that went wrong under two trials names both."""
    context = Context(tmp_path, only="cluster:kill-3+roll-0")
    assert context.chosen(["kill-2", "kill-3", "roll-0"]) == ["kill-3", "roll-0"]


@pytest.mark.parametrize(
    ("made", "runs", "wrong"),
    [
        (("a",), 1, {}),
        (("a", "a"), 1, {}),
        ((), 1, {"calls": 1}),
        (("a", "a", "a"), 1, {"calls": 1}),
        (("a", "b"), 1, {"calls": 1}),
        (("a",), 0, {"lost": 1}),
        (("a",), 2, {"duplicated": 1}),
    ],
)
def test_every_call_is_accounted_for(tmp_path: Path, made: tuple[str, ...], runs: int, wrong: dict[str, int]) -> None:
    """Two calls are logged, one was heard: one or two were made, none of another run; each turn has one run."""
    journal = tmp_path / "journal.jsonl"
    journal.write_text("".join(json.dumps({"run": run}) + "\n" for run in made))
    accounts, tally = Accounts(), Tally()
    row = RunRow(state="finished", epoch=1, takeovers=1, calls=("first", "takeover"), spoken=1, events=(), charged=[])
    accounts.check_run(tally, "cluster:kill-0", "a", row)
    accounts.close(tally, "cluster", [journal], runs, posted=1)
    assert tally.violations == wrong


def test_calls_that_no_adoption_explains_are_found() -> None:
    """Logged = 1 + adoptions + retries."""
    tally = Tally()
    row = RunRow(state="finished", epoch=0, takeovers=0, calls=("first", "takeover"), spoken=1, events=(), charged=[])
    Accounts().check_run(tally, "cluster:kill-0", "a", row)
    assert tally.violations == {"calls": 1}


def test_a_rush_does_not_bend_the_slope_of_memory() -> None:
    """A megabyte a minute is seen through two minutes that were a hundred too high."""
    points = [(float(minute), 100.0 + minute) for minute in range(20)]
    points[7] = (7.0, 210.0)
    points[18] = (18.0, 220.0)
    assert slope(points) == pytest.approx(1.0, abs=0.01)
    assert slope(points[:2]) is None

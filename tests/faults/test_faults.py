"""The quick share of `make faults`: a few of each fault on real servers, chosen to take seconds.

Each test is one scenario of tests.faults with some of its trials; nothing may be lost, repeated, reordered or changed,
each run ends once, the transcript is what was shown, and every call of the model is accounted for, and charged once.
Those with a bound on how long something takes run alone: it is the server's time that is meant, not the machine's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import cuts, disk, drains, kills, stalls, stops, tools, upstream
from tests.faults.scenario import Context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A quick run with the usual seed."""
    return Context(tmp_path, quick=True, fail_fast=True)


def _nothing_is_wrong(context: Context) -> None:
    assert not context.tally.violations, "\n".join(context.tally.notes)


@pytest.mark.slow
def test_a_response_that_is_cut_at_any_byte_goes_on_from_its_cursor(context: Context) -> None:
    """What comes after the cursor of the last whole event is exactly the rest."""
    cuts.cut_responses(context, cuts.response_trials(context))
    _nothing_is_wrong(context)
    assert context.tally.counts["cuts"] >= cuts.QUICK_CUTS // 2


@pytest.mark.slow
def test_a_request_that_is_cut_and_repeated_with_its_key_is_one_turn(context: Context) -> None:
    """However much of it arrived at first, one run answers one message."""
    cuts.cut_requests(context, cuts.request_trials(context))
    _nothing_is_wrong(context)


@pytest.mark.slow
def test_a_stalled_reader_is_cut_and_holds_nobody_up(context: Context) -> None:
    """Fast readers read on, memory stays, and the stalled one resumes exactly."""
    stalls.stall(context, stalls.trials(context))
    _nothing_is_wrong(context)
    assert context.tally.counts["readers stalled"] == 1


@pytest.mark.alone
@pytest.mark.slow
def test_a_reply_survives_kills_at_its_tokens(context: Context) -> None:
    """Two kills under one reply: it goes on from what was shown, within two seconds of the listening socket."""
    kills.kill_at_tokens(context, ["token-3", "token-20"])
    _nothing_is_wrong(context)
    assert context.tally.counts["kills"] == 4


@pytest.mark.alone
@pytest.mark.slow
def test_a_reply_survives_kills_between_append_commit_show_and_send(context: Context) -> None:
    """There is no place at which a kill loses or repeats anything; a turn is begun once and ends once."""
    inside = [f"{seam}-5" for seam in ("append", "commit-before", "commit-after", "publish-before", "write-after")]
    edges = [f"{seam}-1" for seam in ("start-apply-after", "end-apply-after", "end-committed-before")]
    kills.kill_at_seams(context, inside + edges)
    _nothing_is_wrong(context)
    assert context.tally.counts["kills"] == len(inside + edges)


@pytest.mark.alone
@pytest.mark.slow
def test_an_encrypted_reply_survives_kills(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in clear: what was shown is read again with its key, wherever the server died."""
    monkeypatch.setenv("FAULTS_ENCRYPTION_KEYS", "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    seams = ["append-5", "start-apply-after-1", "end-apply-after-1"]
    kills.kill_at_seams(context, seams)
    _nothing_is_wrong(context)
    assert context.tally.counts["kills"] == len(seams)


@pytest.mark.slow
def test_no_tool_call_is_lost_or_run_twice(context: Context) -> None:
    """Killed before and after a call, its start, its run and its result: done once, or told to be unknown."""
    inside = ["called-before-1", "called-after-2", "started-before-1", "started-after-1", "ran-before-3"]
    behind = ["noted-after-1", "ran-after-1", "resulted-before-2", "resulted-after-1", "twice-started-after-1"]
    tools.kill_in_rounds(context, inside + behind)
    _nothing_is_wrong(context)
    assert context.tally.counts["kills"] == len(inside + behind) + 1
    assert context.tally.counts["outcomes unknown"] >= 3


@pytest.mark.slow
def test_a_persons_decision_survives_kills(context: Context) -> None:
    """Asked once, decided once; a yes that was answered holds, and the call runs at most once."""
    tools.kill_in_rounds(
        context, ["ask-waited-before-1", "ask-waited-after-1", "ask-decided-after-1", "ask-ran-after-1"]
    )
    _nothing_is_wrong(context)
    assert context.tally.counts["decisions"] == 4


@pytest.mark.slow
def test_queued_turns_survive_kills_in_order(context: Context) -> None:
    """Several conversations and a queue of turns: each is answered once, in the order of the posts."""
    kills.kill_a_crowd(context, kills.crowd_trials(context))
    _nothing_is_wrong(context)


@pytest.mark.alone
@pytest.mark.slow
def test_a_reply_that_loses_three_servers_ends_as_interrupted(context: Context) -> None:
    """It ends with one explicit error and keeps its text; the turn behind it is answered once."""
    kills.kill_thrice(context, kills.third_trials(context))
    _nothing_is_wrong(context)


@pytest.mark.slow
def test_a_stop_is_kept_whatever_happens_next(context: Context) -> None:
    """A stop that was answered holds across a kill, and the turns behind it are answered."""
    stops.stop(context, [f"{way}-0" for way in ("running", "killed", "queued", "queued-killed")])
    _nothing_is_wrong(context)
    assert context.tally.counts["replies stopped"] == 4


@pytest.mark.alone
@pytest.mark.slow
def test_sigterm_drains_short_replies_and_hands_long_ones_over(context: Context) -> None:
    """New posts get 503 meanwhile; the next start goes on with what was left."""
    drains.terminate(context, ["mixed-0"])
    _nothing_is_wrong(context)


@pytest.mark.alone
@pytest.mark.slow
def test_hand_overs_do_not_count_as_crashes(context: Context) -> None:
    """A long reply outlives more planned restarts than it would outlive crashes."""
    drains.terminate(context, ["ten-1"])
    _nothing_is_wrong(context)


@pytest.mark.slow
def test_a_broken_upstream_gives_one_whole_reply_or_one_error(context: Context) -> None:
    """Cut, stalled, refused or garbled: never a repeat, and the next call goes on from what was shown."""
    upstream.break_upstream(context, upstream.fault_trials(context))
    _nothing_is_wrong(context)


@pytest.mark.alone
@pytest.mark.slow
def test_an_upstream_that_nobody_needs_is_closed_within_a_second(context: Context) -> None:
    """After a stop, a deletion and any limit; not when a reader goes."""
    upstream.close_upstream(context, ["stop-0", "length-0", "delete-0", "drop-0"])
    _nothing_is_wrong(context)
    assert context.tally.counts["upstreams closed"] == 3


@pytest.mark.alone
@pytest.mark.slow
def test_a_full_disk_shows_nothing_that_is_not_written(context: Context) -> None:
    """Readers are cut without an end, posts get 503, and when there is room again each run ends once."""
    disk.fill(context, disk.trials(context))
    _nothing_is_wrong(context)
    assert context.tally.counts["full disks"] == 1


@pytest.mark.slow
def test_a_clock_that_jumps_hurts_nothing(context: Context) -> None:
    """Durations are never negative, streams are whole, and a repeat within the day finds its run."""
    drains.jump_clock(context, drains.clock_trials(context))
    _nothing_is_wrong(context)

"""Runs that go from node to node: taken over, handed over, queued, stopped and deleted where they are not made."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql

from legato.core.event import RunStopped
from legato.core.principal import LOCAL
from legato.providers.scripted import reply
from legato.runs.conversations import Conversations
from legato.runs.drain import drain
from legato.runs.end import Stopped, end
from legato.runs.take_up import take_up
from legato.storage.codec import SegmentPiece
from legato.storage.pieces import read_pieces
from legato.storage.runs import find_run
from legato.storage.statement import Prepared, Transaction
from tests.feed_world import SOON_S, ends, until
from tests.integration.held_models import HeldModels
from tests.postgres import Postgres
from tests.two_nodes import LEASE_S, Mate, calls_of, open_mates, rows, terminals_of

SLEEP = Prepared(sql("SELECT pg_sleep(CAST(:seconds AS float8)) IS NULL"))
UNFINISHED = "SELECT count(*) FROM run WHERE state IN ('queued', 'running')"


async def _die(dead: Mate) -> None:
    """Have a node's writes refused and nothing of it done any more, as that of a process which was killed."""
    await dead.gate.shut_off()
    dead.clock.late_s -= 1000


async def test_many_runs_of_a_dead_node_are_each_taken_once(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever is faster, in pages; each goes on from what was shown to one end."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path, 3) as (ann, ben, eve):
        runs = [await ann.begin(f"c{n}", f"seed={n} tokens=200 delay_ms=20") for n in range(80)]
        await until(lambda: all(run.tail.end > 3 for run in ann.node.live.values()))
        await _die(ann)
        await until(lambda: len(ben.node.live) + len(eve.node.live) == 80)
        assert not ben.node.live.keys() & eve.node.live.keys()
        models.let_go()
        for number, run_id in enumerate(runs):
            text, events = await eve.ended(run_id)
            assert (text, terminals_of(events)) == (reply(number, 200), ["run-finished"])
            assert calls_of(events) == [("first", 0), ("takeover", 1)]
        assert rows(eve, "SELECT DISTINCT epoch, takeovers, state, node_key FROM run") == [(1, 1, "finished", None)]
        assert rows(eve, "SELECT count(*) FROM run_log") == [(80,)]


async def test_a_run_that_has_lost_three_nodes_ends(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be what kills them."""
    HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=5 tokens=100 delay_ms=20")
        await until(lambda: ann.node.live[run_id].tail.end > 3)
        rows(ann, f"UPDATE run SET takeovers = 2 WHERE id = '{run_id}' RETURNING 1")
        await _die(ann)
        _, events = await ben.ended(run_id)
        assert terminals_of(events) == ["run-failed"]
        assert calls_of(events) == [("first", 0)]


async def test_a_run_is_handed_over_at_once(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the lease has run out, and it does not count as a crash; who reads it is cut without an end."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path, drain_s=30) as (ann, ben):
        runs = [await ann.begin(f"c{n}", f"seed={n} tokens=100 delay_ms=20") for n in range(40)]
        await until(lambda: all(run.tail.end > 3 for run in ann.node.live.values()))
        wire = await ann.read(runs[0])
        # No reply ends, and no time passes, until they are handed over.
        monkeypatch.setattr(ann.clock, "monotonic_s", lambda: 0.0)
        async with asyncio.timeout(SOON_S):
            await drain(ann.node)
        await until(lambda: len(ben.node.live) == 40)
        living = f"SELECT fenced_at IS NULL FROM node WHERE key = {ann.node.key}"
        assert rows(ben, living) == [(True,)]
        models.let_go()
        assert await ends(wire) == ["aborted"]
        for number, run_id in enumerate(runs):
            text, events = await ben.ended(run_id)
            assert (text, terminals_of(events)) == (reply(number, 100), ["run-finished"])
        assert rows(ben, "SELECT DISTINCT epoch, takeovers, state FROM run") == [(1, 0, "finished")]


async def test_the_last_node_lets_its_replies_end(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would take them; what outlasts the drain is taken by the next that starts, without waiting."""
    HeldModels(monkeypatch, 20)
    async with open_mates(postgres, tmp_path, drain_s=1.5) as (ann, ben):
        await drain(ben.node)
        short = await ann.begin("c", "seed=1 tokens=20 delay_ms=20")
        long = await ann.begin("d", "seed=2 tokens=400 delay_ms=20")
        now_s = ann.clock.monotonic_s()
        monkeypatch.setattr(ann.clock, "monotonic_s", lambda: now_s)
        draining = asyncio.create_task(drain(ann.node))
        await until(lambda: ann.node.draining)
        await ann.ended(short)
        now_s += 1.5
        await draining
        assert rows(ann, f"SELECT state FROM run WHERE id = '{short}'") == [("finished",)]
        assert rows(ann, f"SELECT state, node_key, takeovers FROM run WHERE id = '{long}'") == [("running", None, -1)]


async def test_queued_turns_are_made_by_whoever_ends_the_turn_before(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Posted at one node, begun at another, stopped at a third: in the order of the posts, each with one end."""
    models = HeldModels(monkeypatch)
    async with open_mates(postgres, tmp_path, 3) as (ann, ben, eve):
        first = await ann.begin("c", "seed=1 tokens=40 delay_ms=20")
        second = await ben.begin("c", "seed=2 tokens=60 delay_ms=20")
        third = await eve.begin("c", "seed=3 tokens=5")
        assert await ben.state(second) == await eve.state(third) == "queued"
        assert not ben.node.live
        assert not eve.node.live
        wire = await ben.read(second)
        # The first whole, and the second not before it is stopped.
        models.tokens = 40
        assert (await ann.ended(first))[0] == reply(1, 40)
        await until(lambda: ann.is_making(second))
        await until(lambda: len(wire.data) > 1000)
        await eve.runs.stop(second)
        _, events = await ben.ended(second)
        assert terminals_of(events) == ["run-stopped"]
        assert await ends(wire) == ["finished"]
        assert (await eve.ended(third))[0] == reply(3, 5)


async def test_a_queued_turn_is_stopped_anywhere(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without a call of a model; those behind it go on."""
    models = HeldModels(monkeypatch)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        first = await ann.begin("c", "seed=1 tokens=40 delay_ms=20")
        second = await ann.begin("c", "seed=2 tokens=5")
        third = await ann.begin("c", "seed=3 tokens=5")
        await ben.runs.stop(second)
        assert await ann.state(second) == "stopped"
        _, events = await ann.ended(second)
        assert (terminals_of(events), calls_of(events)) == (["run-stopped"], [])
        models.let_go()
        assert (await ann.ended(first))[0] == reply(1, 40)
        assert (await ben.ended(third))[0] == reply(3, 5)


async def test_a_turn_that_was_let_run_is_not_ended_as_one_that_waits(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops a turn that waits has read it a moment before: what it says since then would be lost."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path, 1) as (ann,):
        first = await ann.begin("c", "seed=1 tokens=400 delay_ms=20")
        second = await ann.begin("c", "seed=2 tokens=40 delay_ms=20")

        def find(tx: Transaction) -> tuple[Any, list[SegmentPiece]]:
            row = find_run(tx, LOCAL.id, second)
            assert row is not None
            return row, read_pieces(tx, [row.key])[row.key]

        waiting = take_up(ann.node, *await ann.node.database.read(find), queued=True)
        await ann.runs.stop(first)
        await until(lambda: ann.is_making(second) and ann.node.live[second].tail.end > 3)
        assert await end(ann.node, waiting, Stopped("user")) is None
        models.let_go()
        text, events = await ann.ended(second)
        assert (text, terminals_of(events)) == (reply(2, 40), ["run-finished"])


async def test_a_log_that_cannot_be_read_holds_no_other_up(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose log a newer version wrote is left; those that are taken over with it go on."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        newer = await ann.begin("newer", "seed=1 tokens=100 delay_ms=20")
        known = await ann.begin("known", "seed=2 tokens=60 delay_ms=20")
        await until(lambda: all(run.tail.end > 3 for run in ann.node.live.values()))
        await _die(ann)
        change = "UPDATE piece SET format = 99 WHERE run_key = (SELECT key FROM run WHERE id = %s)"
        with postgres.connect(ben.node.settings.database_url) as connection:
            connection.execute(change, [newer])
        await until(lambda: ben.is_making(known))
        models.let_go()
        assert (await ben.ended(known))[0] == reply(2, 60)
        assert newer not in ben.node.live


async def test_queued_turns_outlive_their_nodes(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn that ran is taken over, and the one behind it begins when that has ended."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        first = await ann.begin("c", "seed=1 tokens=100 delay_ms=20")
        second = await ann.begin("c", "seed=2 tokens=5")
        await until(lambda: ann.node.live[first].tail.end > 3)
        await _die(ann)
        await until(lambda: ben.is_making(first))
        models.let_go()
        assert (await ben.ended(first))[0] == reply(1, 100)
        assert (await ben.ended(second))[0] == reply(2, 5)
        assert rows(ben, UNFINISHED) == [(0,)]


async def test_a_stop_reaches_the_node_that_makes_the_reply(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a hint at once, without one with the next renewal."""
    HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        for hints in (True, False):
            run_id = await ann.begin(f"c{hints}", "seed=1 tokens=400 delay_ms=20")
            if not hints:
                ben.node.wakes.tell = lambda *args: None  # type: ignore[method-assign]
            before: list[object] = []
            run = ann.node.live[run_id]
            await ben.runs.stop(run_id)
            # What the run knew of the stop when each renewal from then on was answered.
            ann.gate.on_renewed = lambda run=run, before=before: before.append(run.stop_cause)  # type: ignore[misc]
            _, events = await ann.ended(run_id)
            # One that was on its way; the next brings it.
            assert before.count(None) <= 2
            assert isinstance(events[-1], RunStopped)
            assert events[-1].by == "user"


async def test_a_stop_is_kept_by_who_takes_the_run_over(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a further call of a model."""
    HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=1 tokens=400 delay_ms=20")
        await until(lambda: ann.node.live[run_id].tail.end > 3)
        await _die(ann)
        await ben.runs.stop(run_id)
        _, events = await ben.ended(run_id)
        assert (terminals_of(events), calls_of(events)) == (["run-stopped"], [("first", 0)])


async def test_a_deleted_conversation_is_answered_no_more(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever node makes the reply lets go of it; nothing of it is left."""
    HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=1 tokens=400 delay_ms=20")
        await until(lambda: ann.node.live[run_id].tail.end > 3)
        run = ann.node.live[run_id]
        await Conversations(ben.node, LOCAL).delete("c")
        await until(lambda: run_id not in ann.node.live)
        assert run.is_let_go
        again = await ann.begin("c", "seed=2 tokens=3")
        assert (await ben.ended(again))[0] == reply(2, 3)


async def test_a_run_that_was_lost_on_the_way_is_made(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a node by its row, and in no node's memory: it is noticed, and somebody takes it."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=1 tokens=100 delay_ms=20")
        run = ann.node.live[run_id]
        await until(lambda: run.tail.end > 3)
        del ann.node.live[run_id]
        run.let_go()
        await until(lambda: ann.is_making(run_id) or ben.is_making(run_id))
        models.let_go()
        text, events = await ben.ended(run_id)
        assert (text, terminals_of(events)) == (reply(1, 100), ["run-finished"])


async def test_a_run_of_which_the_node_hears_late_is_not_given_away(postgres: Postgres, tmp_path: Path) -> None:
    """Its start is committed, and what is written in one go with it takes its time: the row alone proves nothing."""
    async with open_mates(postgres, tmp_path) as (ann, ben):
        before = asyncio.create_task(ann.node.committer.write(lambda tx: tx.tuples(SLEEP, seconds=0.5)))
        await asyncio.sleep(0.05)
        posting = asyncio.create_task(ann.begin("c", "seed=1 tokens=20"))
        await until(lambda: ann.node.starting)
        behind = asyncio.create_task(ann.node.committer.write(lambda tx: tx.tuples(SLEEP, seconds=1.5 * LEASE_S)))
        await asyncio.gather(before, behind)
        text, events = await ben.ended(await posting)
        assert (text, terminals_of(events)) == (reply(1, 20), ["run-finished"])
        assert calls_of(events) == [("first", 0)]
        assert rows(ben, "SELECT epoch, takeovers FROM run") == [(0, 0)]


async def test_pieces_of_ended_runs_go(postgres: Postgres, tmp_path: Path) -> None:
    """A moment after the end: by then the packed log is read."""
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=1 tokens=10")
        await ann.ended(run_id)
        pieces = "SELECT count(*) FROM piece"
        assert rows(ben, pieces) != [(0,)]
        await until(lambda: rows(ben, pieces) == [(0,)])
        await until(lambda: not ann.node.ended)

"""The lease of a node: what it does when it cannot renew, when it was fenced, and whom it fences itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text as sql

from legato.core.errors import StorageUnavailable
from legato.providers.scripted import reply
from legato.storage.statement import Prepared
from tests.feed_world import ends, until
from tests.integration.held_models import HeldModels
from tests.postgres import Postgres
from tests.two_nodes import LEASE_S, calls_of, open_mates, rows, terminals_of

LEADING = """
FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE datname = current_database() AND locktype = 'advisory' AND classid = 1818584929 AND objid = 2
"""
LEADERS = f"SELECT substr(application_name, 8) {LEADING}"
NOTHING = Prepared(sql("SELECT 1"))
SLOW = "seed=5 tokens=60 delay_ms=20"


async def test_one_node_leads_and_another_when_it_leaves(postgres: Postgres, tmp_path: Path) -> None:
    """What one is to do for all is never done by two."""
    async with open_mates(postgres, tmp_path) as (ann, ben):
        await until(lambda: ann.node.leads != ben.node.leads)
        leader, other = (ann, ben) if ann.node.leads else (ben, ann)
        assert leader.node.key is not None
        assert rows(other, LEADERS) == [(leader.node.executor_id,)]
        await leader.gate.shut_off()
        rows(other, f"SELECT pg_terminate_backend(pid) {LEADING}")
        await until(lambda: other.node.leads)
        assert rows(other, LEADERS) == [(other.node.executor_id,)]
        leader.gate.open()
        await until(lambda: not leader.node.leads)


async def test_the_limit_is_counted_from_the_sending_of_a_renewal(postgres: Postgres, tmp_path: Path) -> None:
    """The database counted from when it was asked: an answer that came late prolongs nothing."""
    async with open_mates(postgres, tmp_path, 1) as (ann,):

        def be_late() -> None:
            ann.gate.on_renewed = lambda: None
            ann.clock.late_s += 0.7 * LEASE_S
            ann.gate.shut()

        ann.gate.on_renewed = be_late
        await until(lambda: ann.clock.late_s > 0)
        await asyncio.sleep(0)
        ann.clock.late_s += 0.5 * LEASE_S
        # Several looks at the limit, and less time than would be left of a lease from the answer on.
        await asyncio.sleep(0.25 * LEASE_S)
        assert ann.node.suspended


async def test_a_node_past_its_limit_shows_and_asks_nothing(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readers are cut without an end and posts are refused; when it may, the same call is made once more."""
    models = HeldModels(monkeypatch, 40)
    async with open_mates(postgres, tmp_path, 1, storage_wait_s=1) as (ann,):
        run_id = await ann.begin("c", SLOW)
        wire = await ann.read(run_id)
        await until(lambda: len(wire.data) > 500)
        ann.gate.shut()
        ann.clock.late_s += LEASE_S
        assert await ends(wire) == ["aborted"]
        assert b"complete" not in wire.data
        tail = ann.node.live[run_id].tail
        with pytest.raises(StorageUnavailable):
            await ann.begin("d", "tokens=1")
        with pytest.raises(StorageUnavailable):
            await ann.tail(run_id)
        # Behind all that was on its way.
        await ann.node.committer.write(lambda tx: tx.tuples(NOTHING))
        end = tail.end
        await asyncio.sleep(0.3)
        assert tail.end == end
        models.let_go()
        ann.gate.open()
        text, events = await ann.ended(run_id)
        assert (text, terminals_of(events)) == (reply(5, 60), ["run-finished"])
        assert calls_of(events) == [("first", 0), ("retry", 0)]
        assert ann.node.incarnation == 1


async def test_a_fenced_node_lets_go_and_serves_on(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one goes on from what was shown; what the fenced one still says is nowhere; it comes back as new."""
    models = HeldModels(monkeypatch, 40)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=5 tokens=150 delay_ms=20")
        wire = await ann.read(run_id)
        await until(lambda: len(wire.data) > 500)
        run = ann.node.live[run_id]
        ann.gate.shut()
        await until(lambda: ben.is_making(run_id))
        shown = ben.node.live[run_id].tail.end
        models.let_go()
        # Its own call goes on, in a node that is deaf; its limit is past before it hears of the fence, or behind it.
        assert await ends(wire) == ["aborted"]
        assert b"complete" not in wire.data
        ann.gate.open()
        await until(lambda: ann.node.incarnation == 2 and not ann.node.suspended)
        assert run_id not in ann.node.live
        assert run.is_let_go
        text, events = await ben.ended(run_id)
        assert (text, terminals_of(events)) == (reply(5, 150), ["run-finished"])
        assert calls_of(events) == [("first", 0), ("takeover", 1)]
        assert shown < len(events) + 150
        # It follows what the other has made, and makes replies itself.
        assert (await ann.ended(run_id))[0] == text
        again = await ann.begin("d", "seed=6 tokens=3")
        assert (await ann.ended(again))[0] == reply(6, 3)
        assert rows(ann, f"SELECT epoch, takeovers, state FROM run WHERE id = '{run_id}'") == [(1, 1, "finished")]


async def test_what_a_fenced_node_writes_is_refused(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its own clock, which may have stood still: by its row, in the statement that writes."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path, 1) as (ann,):
        run_id = await ann.begin("c", "seed=5 tokens=150 delay_ms=20")
        tail = ann.node.live[run_id].tail
        await until(lambda: tail.end > 5)
        # It believes that it has all the time in the world, and nobody else writes.
        ann.clock.late_s -= 1000
        await ann.gate.shut_off()
        rows(ann, "UPDATE node SET fenced_at = clock_timestamp() RETURNING key")
        committed = "SELECT max(first_seq + count) FROM piece"
        end = rows(ann, committed)
        models.let_go()
        await until(lambda: ann.node.committer.stalled_s > 0.3)
        assert rows(ann, committed) == end == [(tail.end,)]
        ann.gate.open()
        text, events = await ann.ended(run_id)
        assert (text, terminals_of(events)) == (reply(5, 150), ["run-finished"])
        assert calls_of(events) == [("first", 0), ("takeover", 1)]


async def test_nobody_is_fenced_behind_an_outage(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All leases have run out then: who comes back within a lease of its own goes on."""
    models = HeldModels(monkeypatch, 10)
    async with open_mates(postgres, tmp_path) as (ann, ben):
        run_id = await ann.begin("c", "seed=5 tokens=100 delay_ms=20")
        await until(lambda: ann.node.live[run_id].tail.end > 5)
        for each in (ann, ben):
            await each.gate.shut_off()
        await until(lambda: ann.node.suspended and ben.node.suspended)
        await until(lambda: rows(ann, "SELECT bool_and(until < clock_timestamp()) FROM node") == [(True,)])
        # Ann is back within a lease of Ben's, however long it takes her.
        for each in (ann, ben):
            each.clock.stand()
        models.let_go()
        ben.gate.open()
        await until(lambda: not ben.node.suspended)
        ben.clock.late_s += 0.3 * LEASE_S
        await asyncio.sleep(0.3 * LEASE_S)
        ann.gate.open()
        text, events = await ann.ended(run_id)
        assert (text, ann.node.incarnation, ben.node.incarnation) == (reply(5, 100), 1, 1)
        assert {epoch for _, epoch in calls_of(events)} == {0}


async def test_most_of_all_nodes_have_one_more_lease(postgres: Postgres, tmp_path: Path) -> None:
    """Where more than half would be dead, it is likelier the database's clock that has jumped."""
    async with open_mates(postgres, tmp_path, 3) as (ann, ben, eve):
        for each in (ann, ben):
            each.clock.late_s -= 1000
            await each.gate.shut_off()
        together = "UPDATE node SET until = now() + interval '0.3 s' WHERE key IN ({}, {}) RETURNING key"
        rows(eve, together.format(ann.node.key, ben.node.key))
        late = (
            f"SELECT count(*), max(fenced_at - until) >= interval '{LEASE_S} s' FROM node WHERE fenced_at IS NOT NULL"
        )
        await until(lambda: rows(eve, late) == [(2, True)])

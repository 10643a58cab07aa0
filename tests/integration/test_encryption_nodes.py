"""Encryption among processes of one database: who was away, who comes at the same moment, who is not done yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from legato.core.errors import ConfigurationError, StorageUnavailable
from legato.core.search_text import Phrase
from legato.providers.scripted import reply
from legato.steps.job_seal import JobSeal
from legato.storage.conversations import create_conversation
from legato.storage.encryption import forget_roots, read_record, write_record
from legato.storage.nodes import NodeRow, register
from legato.storage.outbox import OutboxEvent, first_events, put_event
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_transaction import PostgresTransaction
from legato.storage.root_keys import make_root_key
from legato.storage.rotation import count_by_root, rewrap_page
from legato.storage.search_words import asked_phrases, kept_words
from legato.storage.shredding import shred
from legato.storage.sqlite import SqliteDatabase
from legato.storage.statement import Prepared, Transaction
from tests.feed_world import until
from tests.integration.held_models import HeldModels
from tests.integration.test_encryption import ONE, TWO
from tests.integration.test_encryption_keys import sealing_of, with_keys
from tests.postgres import Postgres
from tests.postgres_world import migrated
from tests.two_nodes import open_mates, rows

ROW = NodeRow(id="n", host="h", pid=1, executor_id="e", lease_ms=60_000, version="1")
_UNFENCED = Prepared(text("SELECT count(*) FROM node WHERE fenced_at IS NULL"))
WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A database of the newest schema."""
    with migrated(postgres) as found:
        yield found


def keyed(url: str, keys: str) -> PostgresDatabase:
    """Return a database, as a process with keys has it."""
    database = PostgresDatabase(url)
    with_keys(database, keys)
    return database


@contextmanager
def held(database: PostgresDatabase) -> Iterator[Transaction]:
    """Open a transaction that is committed at the block's end."""
    session = database.connect()
    session.ask(b"BEGIN")
    tx = database.transaction(session)
    try:
        yield tx
        session.commit()
        tx.settled(True)
    finally:
        database.release(session)


def plain_titles(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT title FROM conversation WHERE title NOT LIKE '%s1:%'")]


def waits_for_lock(url: str) -> None:
    """Wait until some session waits for another."""
    until_s = time.monotonic() + 10
    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute(WAITING).rowcount:
            assert time.monotonic() < until_s, "nobody waits"
            time.sleep(0.01)


async def test_a_node_that_was_away_never_goes_on_in_clear(postgres: Postgres, tmp_path: Path) -> None:
    """Its lease had run out when encryption was turned on: back again it writes nothing, and its server is stopped."""
    async with open_mates(postgres, tmp_path, 1, storage_wait_s=0.1) as (ann,):
        told: list[bool] = []
        ann.node.on_outcast = lambda: told.append(True)
        assert isinstance(ann.node.database, PostgresDatabase)
        database = keyed(ann.node.database.url, ONE)
        with pytest.raises(ConfigurationError, match="servers without encryption use the database"):
            database.open()
        await ann.gate.shut_off()
        rows(ann, "UPDATE node SET until = clock_timestamp() RETURNING key")
        database.open()
        # It has not heard of it yet.
        with pytest.raises(StorageUnavailable):
            await ann.begin("c", "tokens=1")
        ann.gate.open()
        await until(lambda: ann.node.outcast is not None)
        await until(lambda: told == [True])
        assert ann.node.outcast is not None
        assert "is encrypted (encryption keys: one)" in ann.node.outcast.message
        assert ann.node.suspended
        with pytest.raises(StorageUnavailable):
            await ann.begin("d", "tokens=1")
        assert rows(ann, "SELECT count(*) FROM run") == [(0,)]
        assert told == [True]
        database.close()


async def test_a_turn_that_waits_and_does_not_open_can_be_stopped(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a node that does not hold it; those before and behind it go on."""
    models = HeldModels(monkeypatch)
    async with open_mates(postgres, tmp_path, encryption_keys=ONE) as (ann, ben):
        first = await ann.begin("c", "seed=1 tokens=60 delay_ms=20")
        second = await ann.begin("c", "seed=2 tokens=5")
        third = await ann.begin("c", "seed=3 tokens=5")
        changed = rows(
            ann,
            "UPDATE piece SET data = set_byte(data, 20, get_byte(data, 20) # 1) FROM run"
            f" WHERE run.key = piece.run_key AND run.id = '{second}' RETURNING piece.first_seq",
        )
        assert changed == [(0,)]
        await ben.runs.stop(second)
        assert await ann.state(second) in ("stopped", "failed")
        models.let_go()
        assert (await ann.ended(first))[0] == reply(1, 60)
        assert (await ben.ended(third))[0] == reply(3, 5)


def test_who_writes_without_keys_and_who_turns_it_on_see_each_other(url: str) -> None:
    """Whichever of the two comes first, the other one waits for it, and is refused or takes it into account."""
    plain, database = PostgresDatabase(url), keyed(url, ONE)
    with ThreadPoolExecutor(1) as pool:
        with held(plain) as tx:
            assert register(tx, ROW) is not None
            taking = pool.submit(database.open)
            waits_for_lock(url)
        with pytest.raises(ConfigurationError, match="servers without encryption"):
            taking.result()
        assert plain.transact(lambda tx: tx.tuples(_UNFENCED), writes=False) == [(1,)]
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM node")

        def write(tx: Transaction) -> Future[None]:
            taking = pool.submit(database.open)
            waits_for_lock(url)
            create_conversation(tx, "ann", "c1", 1, title="plain")
            return taking

        plain.transact(write, writes=True).result()
    assert plain_titles(url) == ["plain"]
    # What was written by a command that had begun before may be plain.
    assert database.transact(lambda tx: read_record(tx, sealing_of(database)), writes=False).plain["conversation"] == 1
    with pytest.raises(ConfigurationError, match="is encrypted"), held(plain) as tx:
        register(tx, ROW)
    with pytest.raises(ConfigurationError, match="is encrypted"):
        plain.transact(lambda tx: create_conversation(tx, "ann", "c2", 1, title="late"), writes=True)
    plain.close()
    database.close()


def test_one_root_key_at_a_time_is_current(url: str) -> None:
    """Whoever comes with another one at the same time waits, and a process that has not heard of it changes nothing."""
    first, second = keyed(url, f"{ONE},{TWO}"), keyed(url, f"{TWO},{ONE}")
    first.open()
    stale = sealing_of(first)
    with held(second) as tx, ThreadPoolExecutor(1) as pool:
        assert isinstance(tx, PostgresTransaction)
        second._take(tx, sealing_of(second))
        other = keyed(url, f"{make_root_key('three')},{ONE}")
        taking = pool.submit(other.open)
        waits_for_lock(url)
        tx.session.commit()
        # It is refused as every process is that lacks the current key.
        with pytest.raises(ConfigurationError, match="encryption key 'two'"):
            taking.result()
    with held(first) as tx:
        assert stale.current.id == "one"
        write_record(tx, stale, read_record(tx, stale, keep=True).moved("run", 5))
    assert second.transact(lambda tx: read_record(tx, sealing_of(second)), writes=False).done == {"run": 5}
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT id FROM encryption_root WHERE current").fetchall() == [("two",)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("UPDATE encryption_root SET current = true")
    for each in (first, second):
        each.close()


def test_a_root_key_is_not_forgotten_while_something_is_wrapped_under_it(url: str) -> None:
    """What is not committed yet is waited for, and counts."""
    first, second = keyed(url, f"{ONE},{TWO}"), keyed(url, f"{TWO},{ONE}")
    first.open()
    with ThreadPoolExecutor(1) as pool:
        with held(first) as tx:
            create_conversation(tx, "ann", "c1", 1, title="said")
            second.open()
            assert second.transact(lambda tx: rewrap_page(tx, sealing_of(second)), writes=True) == 0
            forgetting = pool.submit(second.transact, forget_roots, writes=True)
            waits_for_lock(url)
        assert forgetting.result() == []
    assert second.transact(count_by_root, writes=False) == {"one": 1}
    assert second.transact(lambda tx: rewrap_page(tx, sealing_of(second)), writes=True) == 1
    assert second.transact(forget_roots, writes=True) == ["one"]
    # It has not heard of it, and wraps nothing under the old one.
    with held(first) as tx:
        create_conversation(tx, "ann", "c2", 1, title="said")
    assert second.transact(count_by_root, writes=False) == {"two": 2}
    for each in (first, second):
        each.close()


def test_a_key_that_another_process_made_anew_is_learnt(tmp_path: Path) -> None:
    """Somebody was erased there and came back: jobs, texts and searches here are under the new key from then on."""
    here, there = (with_keys(SqliteDatabase(tmp_path / "legato.db"), ONE) for _ in range(2))
    with closing(here), closing(there):
        here.open()
        seals = JobSeal(here), JobSeal(there)
        seals[0].seal("dan", "job.payload", "j0", "{}")
        there.transact(lambda tx: shred(tx, "dan"), writes=True)
        event = OutboxEvent(id="e", owner="dan", topic="t", payload={}, trace_id=None, at_ms=1)
        there.transact(lambda tx: put_event(tx, event), writes=True)
        sealed = seals[1].seal("dan", "job.payload", "j1", "said")
        new = there.transact(lambda tx: kept_words(tx, "dan", "whale"), writes=True)
        whale = Phrase(words=("whale",), prefix=False)
        asked = here.transact(lambda tx: asked_phrases(tx, "dan", [whale]), writes=False)
        assert asked is not None
        assert asked[0].words == (new,)
        # A search has learnt of it; forget that again.
        stale = sealing_of(here)
        stale.hold([("dan", stale.make()[1])], seen=stale.generation)
        assert seals[0].open("dan", "job.payload", "j1", sealed) == "said"
        stale.hold([("dan", stale.make()[1])], seen=stale.generation)
        # As the relay does it: it reads the event, and hands it to the queue.
        assert len(here.transact(lambda tx: first_events(tx, 10), writes=False)) == 1
        handed = seals[0].seal("dan", "job.payload", "j2", "handed")
        assert seals[1].open("dan", "job.payload", "j2", handed) == "handed"

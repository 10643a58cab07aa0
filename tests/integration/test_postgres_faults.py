"""What breaks between a server and PostgreSQL loses nothing that was shown, and does nothing twice."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from legato.app import open_node
from legato.core.errors import StorageUnavailable
from legato.runs.replies import Runs
from legato.storage.codec import SegmentPiece
from legato.storage.committer import Committer
from legato.storage.pieces import read_pieces
from legato.storage.postgres import PostgresDatabase
from legato.storage.statement import Transaction
from legato.storage.writer import Batch, Lane, NodeFenced, Unit
from tests.conftest import node_settings
from tests.contract.upstream_server import Do, Step, UpstreamServer, chunked, head
from tests.contract.upstream_shapes import text
from tests.live_log import Log
from tests.postgres import Postgres, PostgresServer
from tests.postgres_proxy import Cut, PostgresProxy, open_proxy
from tests.postgres_world import NODE, names, node_database, put, write
from tests.service_world import ANN
from tests.statements import execute


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with node_database(postgres) as found:
        yield found


@pytest.fixture
def proxy(url: str) -> Iterator[PostgresProxy]:
    with open_proxy(url) as found:
        yield found


@pytest.mark.parametrize("cut", ["before", "answer"])
def test_a_command_takes_place_once_wherever_its_connection_breaks_off(
    url: str, proxy: PostgresProxy, cut: Cut
) -> None:
    """At each message of it, from the connect to the COMMIT; its value comes back, and the next one passes."""
    direct = PostgresDatabase(url)
    expected = []
    for message in itertools.count(1):
        database = PostgresDatabase(proxy.url)
        writer = database.writer(Lane.COMMAND)
        cuts = proxy.cuts
        proxy.cut_at(message, cut)
        for part in ("a", "b"):
            name = f"{message}{part}"
            expected.append(name)
            unit = Unit(apply=partial(put, name=name))
            write(database, Batch(units=[unit], node_key=NODE), writer)
            assert (unit.value, unit.error, unit.done, unit.unsure) == (name, None, True, False)
        database.close()
        if proxy.cuts == cuts:
            break
    assert message > 15, "a connect and two commands have more messages than that"
    assert direct.transact(names, writes=False) == expected


@pytest.mark.parametrize("cut", ["before", "answer"])
def test_pieces_are_written_once_wherever_the_connection_breaks_off(url: str, proxy: PostgresProxy, cut: Cut) -> None:
    """At each message; no piece is refused, and none is there twice."""
    expected: list[SegmentPiece] = []
    for message in itertools.count(1):
        database = PostgresDatabase(proxy.url)
        writer = database.writer(Lane.APPEND)
        cuts = proxy.cuts
        proxy.cut_at(message, cut)
        for _ in range(2):
            pieces: list[SegmentPiece] = [(run_key, len(expected), 0, ["x"]) for run_key in (1, 2, 3)]
            expected.append(pieces[0])
            batch: Batch[Any] = Batch(pieces=pieces, node_key=NODE)
            write(database, batch, writer)
            assert batch.refused == {}
        database.close()
        if proxy.cuts == cuts:
            break
    assert message > 6, "a connect and two appends have more messages than that"
    found = PostgresDatabase(url).transact(lambda tx: read_pieces(tx, [1, 2, 3]), writes=False)
    assert {len(each) for each in found.values()} == {len(expected)}
    assert found[1] == expected


def test_a_command_of_no_node_whose_answer_is_lost_is_not_run_again(url: str, proxy: PostgresProxy) -> None:
    """It cannot be looked up: whoever waits is told so, and the next one passes."""
    database = PostgresDatabase(proxy.url)
    writer = database.writer(Lane.COMMAND)
    write(database, Batch(units=[Unit(apply=partial(put, name="a"))]), writer)
    unit, after = Unit(apply=partial(put, name="b")), Unit(apply=partial(put, name="c"))
    # BEGIN, two statements that are known by now, COMMIT.
    proxy.cut_at(4, "answer")
    write(database, Batch(units=[unit, after]), writer)
    assert isinstance(unit.error, StorageUnavailable)
    assert (after.value, after.error) == ("c", None)
    assert database.transact(names, writes=False) == ["a", "b", "c"]
    database.close()


@pytest.mark.parametrize("cut", ["before", "answer"])
async def test_a_command_that_was_given_up_while_nobody_knew_is_not_written_later(
    url: str, proxy: PostgresProxy, cut: Cut
) -> None:
    """If it was committed, what has to follow the commit follows; if not, it never will be."""
    database = PostgresDatabase(proxy.url)
    database.node_key = NODE
    committer = Committer(database)
    await committer.write(partial(put, name="a"))
    # BEGIN with the mark, two statements that are known by now, COMMIT.
    proxy.cut_at(4, cut, for_good=True)
    with pytest.raises(StorageUnavailable):
        await committer.write(partial(put, name="b"), wait_s=0.1)
    assert committer.stalled_s > 0
    proxy.start()
    await committer.write(partial(put, name="c"))
    assert await database.read(names) == (["a", "b", "c"] if cut == "answer" else ["a", "c"])
    await committer.close()
    database.close()


def test_a_fenced_node_writes_nothing(url: str) -> None:
    """Neither pieces nor commands; who is fenced while a command runs waits for its end."""
    database = PostgresDatabase(url)
    appends, commands = database.writer(Lane.APPEND), database.writer(Lane.COMMAND)
    database.transact(lambda tx: execute(tx, "UPDATE node SET fenced_at = now()"), writes=True)
    with pytest.raises(NodeFenced):
        appends.write(Batch(pieces=[(1, 0, 0, ["x"])], node_key=NODE))
    with pytest.raises(NodeFenced):
        commands.write(Batch(units=[Unit(apply=partial(put, name="a"))], node_key=NODE))
    assert database.transact(names, writes=False) == []
    assert database.transact(lambda tx: read_pieces(tx, [1]), writes=False) == {}
    database.close()


def test_who_fences_waits_for_what_is_being_written(url: str) -> None:
    """And what waited for the fence is refused."""
    database = PostgresDatabase(url)
    writer = database.writer(Lane.COMMAND)
    inside, go_on = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        put(tx, "a")
        inside.set()
        assert go_on.wait(1.5)

    held = threading.Thread(target=writer.write, args=(Batch(units=[Unit(apply=hold)], node_key=NODE),))
    with psycopg.connect(url, autocommit=True) as fencer, psycopg.connect(url, autocommit=True) as watcher:
        fencer.execute("SET lock_timeout = '20ms'")
        held.start()
        assert inside.wait(10)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            fencer.execute("SELECT FROM node WHERE key = 7 FOR UPDATE")
        go_on.set()
        held.join()
        fencer.execute("BEGIN")
        fencer.execute("SELECT FROM node WHERE key = 7 FOR UPDATE")
        fencer.execute("UPDATE node SET fenced_at = now() WHERE key = 7")
        refused: list[BaseException] = []

        def late() -> None:
            try:
                database.writer(Lane.APPEND).write(Batch(pieces=[(1, 0, 0, ["x"])], node_key=NODE))
            except NodeFenced as error:
                refused.append(error)

        append = threading.Thread(target=late)
        append.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while watcher.execute(waits).fetchone() == (0,):
            pass
        fencer.execute("COMMIT")
        append.join()
        assert len(refused) == 1
    assert database.transact(names, writes=False) == ["a"]
    assert database.transact(lambda tx: read_pieces(tx, [1]), writes=False) == {}
    database.close()


@pytest.mark.slow
async def test_what_is_shown_is_committed_while_sessions_are_killed_and_the_server_crashes(
    postgres_server: PostgresServer,
) -> None:
    """Each item of each log once, in its order, and never before it is in the database; each command once."""
    with node_database(postgres_server) as url:
        await _break_and_look(postgres_server, url)


async def _break_and_look(postgres_server: PostgresServer, url: str) -> None:
    database = PostgresDatabase(url)
    database.application_name, database.node_key = "legato:one", NODE
    committer = Committer(database)
    logs = [Log(key) for key in range(1, 21)]
    stop, done = asyncio.Event(), []

    def read_all(tx: Transaction) -> dict[int, list[SegmentPiece]]:
        return read_pieces(tx, [log.key for log in logs])

    async def stream(log: Log) -> None:
        while not stop.is_set():
            committer.append(log, f"{log.key}.{len(log.shown) + len(log.pending)} ")
            await asyncio.sleep(0.003)

    async def command(number: int) -> None:
        for each in itertools.count():
            if stop.is_set():
                return
            done.append(await committer.write(partial(put, name=f"{number}-{each}")))

    async def look() -> None:
        while not stop.is_set():
            ends = [len(log.shown) for log in logs]
            try:
                found = await database.read(read_all)
            except StorageUnavailable:
                continue
            for log, end in zip(logs, ends, strict=True):
                items = [item for piece in found.get(log.key, []) for item in piece[3]]
                assert log.shown[:end] == items[:end], "shown, and not there"
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(stream(log)) for log in logs]
    tasks += [asyncio.create_task(command(number)) for number in range(4)]
    tasks.append(asyncio.create_task(look()))
    for round_ in range(12):
        await asyncio.sleep(0.15)
        if round_ % 4 == 3:
            # Here: a server ends with the thread that has started it.
            postgres_server.restart("immediate")
        else:
            await asyncio.to_thread(postgres_server.end_sessions, database.application_name)
    await asyncio.sleep(0.5)
    stop.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks)
        await committer.flush()
    assert committer.stalled_s == 0
    found = await database.read(read_all)
    for log in logs:
        assert log.failed == []
        assert [item for piece in found[log.key] for item in piece[3]] == log.shown
    there = await database.read(names)
    assert sorted(there) == sorted(done)
    assert len(set(there)) == len(there) >= 4
    await committer.close()
    database.close()


@pytest.mark.slow
async def test_nothing_gathers_while_the_database_is_away(tmp_path: Path, proxy: PostgresProxy) -> None:
    """Models are not read, new messages are refused, and the reply goes on when the database is back."""
    pace: list[Step] = [chunked(text("x" * 50)), 0.002]
    script: list[Step] = [head(), *pace * 3000, Do.HOLD]
    async with UpstreamServer(scripts=deque([script])) as model:
        models = {"paced": {"base_url": model.base_url, "api_key": "k"}}
        settings = node_settings(
            tmp_path, database_url=proxy.url, model=["paced"], models=models, storage_wait_s=3, lease_s=60
        )
        async with open_node(settings) as node:
            runs = Runs(node, ANN)
            started = await runs.start("hello", conversation_id="c")
            tail = node.live[started.run_id].tail

            async def until(so: Callable[[], bool]) -> None:
                async with asyncio.timeout(10):
                    while not so():  # noqa: ASYNC110 - neither a log nor a stall has an event
                        await asyncio.sleep(0.005)

            await until(lambda: tail.end >= 20)
            proxy.stop()
            await until(lambda: node.committer.stalled_s > 0)
            shown, waits = tail.end, len(tail.pending)
            with pytest.raises(StorageUnavailable):
                await runs.start("and now?", conversation_id="d")
            await asyncio.sleep(0.5)
            assert tail.end == shown
            assert len(tail.pending) <= waits + 50, "what one read of the model brought, and no more"
            proxy.start()
            await until(lambda: tail.end >= shown + waits + 200)
            await runs.stop(started.run_id)

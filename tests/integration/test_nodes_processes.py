"""Real server processes on one PostgreSQL: killed, stopped and told to end while they make replies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from legato.providers.scripted import reply
from legato.storage.postgres import PostgresDatabase
from tests.budget_world import PRICES, TOKEN_NUSD, usd
from tests.client import Client, Event, Stream, text_of, wire_of
from tests.postgres import Postgres
from tests.server import ServerProcess

LEASE_S = 2.0
SOON_S = 30.0
BUDGET = {
    "prices": json.dumps({"scripted": PRICES["scripted"]}),
    "budgets": json.dumps([{"per": "server", "period": "month", "limit_usd": usd(10_000)}]),
}
LONG = "script: seed=7 tokens=100 delay_ms=30"


class Cluster:
    """Servers on one database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._servers: list[ServerProcess] = []
        self._clients: list[Client] = []

    def start(self, *, command: Sequence[str] = ("-m", "legato", "serve"), **settings: object) -> ServerProcess:
        """Start one more, and wait until it serves."""
        server = self.launch(command=command, **settings)
        server.wait_until_ready()
        return server

    def launch(self, *, command: Sequence[str] = ("-m", "legato", "serve"), **settings: object) -> ServerProcess:
        """Start one more."""
        given = {"database_url": self.url, "database_pool": 2, "lease_s": LEASE_S, "rate_limit": "off"} | settings
        server = ServerProcess(self._folder / str(len(self._servers)), given, command=command)
        self._servers.append(server)
        server.launch()
        return server

    def client(self, server: ServerProcess) -> Client:
        self._clients.append(Client(server.port))
        return self._clients[-1]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(sql.encode()).fetchall()

    def until(self, met: Callable[[], object]) -> None:
        """Wait until something is so."""
        end_s = time.monotonic() + SOON_S
        while not met():
            assert time.monotonic() < end_s, "\n".join(server.log for server in self._servers)
            time.sleep(0.02)

    def until_steady(self) -> None:
        """Wait until all have renewed for a whole lease, and would fence one that does not any more."""
        ((now,),) = self.rows("SELECT CAST(clock_timestamp() AS text)")
        steady = f"SELECT min(beat_at) > timestamptz '{now}' + interval '{LEASE_S} s' FROM node WHERE fenced_at IS NULL"
        self.until(lambda: self.rows(steady) == [(True,)])

    def waited_s(self) -> float:
        """How long after its last sign of life the one that was fenced was fenced, by the database's clock."""
        waited = "extract(epoch FROM fenced_at - beat_at)"
        ((waited_s,),) = self.rows(f"SELECT CAST({waited} AS float8) FROM node WHERE fenced_at IS NOT NULL")
        return float(waited_s)

    def calls(self) -> int:
        """How many calls of models there were."""
        return sum(len(server.calls()) for server in self._servers)

    def close(self) -> None:
        for client in self._clients:
            client.__exit__()
        for server in self._servers:
            # A process that is stopped is killed all the same.
            server.kill()


@pytest.fixture
def cluster(postgres: Postgres, tmp_path: Path) -> Iterator[Cluster]:
    postgres.make_template("legato", lambda url: PostgresDatabase(url).migrate())
    url = postgres.make_database("legato")
    found = Cluster(url, tmp_path)
    yield found
    found.close()
    postgres.drop_database(url)


def until_cut(stream: Stream) -> list[Event]:
    """Return what comes before a stream is cut, which is to be without its end."""
    events: list[Event] = []
    try:
        for event in stream.events():
            assert event.name != "complete", "ended where it was to be cut"
            events.append(event)
    except ConnectionError:
        return events
    raise AssertionError("the response ended properly, and without the last event")


def is_stopped(server: ServerProcess) -> bool:
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.alone
def test_a_killed_server_s_replies_go_on_elsewhere(cluster: Cluster) -> None:
    """Within the lease and a second; who read at the dead one goes on at any other, who reads there misses nothing.

    What it had reserved of a budget is settled there: what was spent is what was charged.
    """
    ann, ben = cluster.launch(**BUDGET), cluster.launch(**BUDGET)
    for server in (ann, ben):
        server.wait_until_ready()
    at_ann, at_ben = cluster.client(ann), cluster.client(ben)
    cluster.until_steady()
    stream = at_ann.post(LONG)
    seen = stream.take(10)
    other = at_ben.follow(stream.run_id)
    ((spent, reserved),) = cluster.rows("SELECT spent_nusd, reserved_nusd FROM budget_use")
    assert spent == 0 < reserved
    ann.kill()
    began_s = time.monotonic()
    seen += until_cut(stream)
    rest = at_ben.follow(stream.run_id, headers={"Last-Event-ID": str(seen[-1].id)}).rest()
    cluster.until(lambda: cluster.rows("SELECT takeovers FROM run") == [(1,)])
    whole = other.rest()
    assert wire_of(seen + rest) == wire_of(whole)
    assert text_of(whole) == reply(7, 100)
    assert [event.name for event in whole].count("complete") == 1
    assert cluster.calls() == 2
    ((charged,),) = cluster.rows("SELECT CAST(sum(cost_nusd) AS bigint) FROM charge")
    assert cluster.rows("SELECT spent_nusd, reserved_nusd FROM budget_use") == [(charged, 0)]
    assert cluster.rows("SELECT count(*) FROM budget_hold") == [(0,)]
    assert charged >= 100 * TOKEN_NUSD
    waited_s = cluster.waited_s()
    assert LEASE_S <= waited_s <= LEASE_S + 1
    assert time.monotonic() - began_s < SOON_S


@pytest.mark.alone
def test_a_server_stopped_inside_a_transaction_holds_nobody_up(cluster: Cluster, tmp_path: Path) -> None:
    """Its locks go with its sessions; the run that it was about to end is ended once, by another."""
    stop_file = tmp_path / "stop"
    os.environ["STOP_FILE"] = str(stop_file)
    try:
        ann = cluster.start(command=(str(Path(__file__).parents[1] / "stopping_server.py"), "serve"))
    finally:
        del os.environ["STOP_FILE"]
    ben = cluster.start()
    at_ann, at_ben = cluster.client(ann), cluster.client(ben)
    cluster.until_steady()
    stop_file.touch()
    stream = at_ann.post("script: seed=7 tokens=20 delay_ms=5", conversationId="c")
    behind = at_ben.post("script: seed=8 tokens=5", conversationId="c")
    cluster.until(lambda: is_stopped(ann))
    events = at_ben.follow(stream.run_id).rest()
    assert text_of(events) == reply(7, 20)
    assert text_of(behind.rest()) == reply(8, 5)
    assert cluster.waited_s() <= LEASE_S + 1
    os.kill(ann.pid, signal.SIGCONT)
    assert [event.name for event in until_cut(stream)].count("complete") == 0
    cluster.until(lambda: len(cluster.rows("SELECT FROM node")) == 3)
    assert wire_of(at_ann.follow(stream.run_id).rest()) == wire_of(events)
    assert cluster.rows("SELECT DISTINCT state FROM run") == [("finished",)]
    assert text_of(at_ann.say("script: seed=9 tokens=5")) == reply(9, 5)


def test_a_server_that_was_stopped_past_its_lease_is_out(cluster: Cluster) -> None:
    """What it still writes is refused, its readers see no end and come back; it registers as new and serves."""
    ann, ben = cluster.start(), cluster.start()
    at_ann, at_ben = cluster.client(ann), cluster.client(ben)
    cluster.until_steady()
    stream = at_ann.post(LONG)
    seen = stream.take(10)
    os.kill(ann.pid, signal.SIGSTOP)
    cluster.until(lambda: cluster.rows("SELECT takeovers FROM run") == [(1,)])
    at_ben.follow(stream.run_id).take(len(seen) + 5)
    os.kill(ann.pid, signal.SIGCONT)
    seen += until_cut(stream)
    # It may have asked for a cursor of before, and gets the rest here too.
    cluster.until(lambda: len(cluster.rows("SELECT FROM node")) == 3)
    rest = at_ann.follow(stream.run_id, headers={"Last-Event-ID": str(seen[-1].id)}).rest()
    whole = at_ben.follow(stream.run_id).rest()
    assert wire_of(seen + rest) == wire_of(whole)
    assert text_of(whole) == reply(7, 100)
    assert cluster.calls() == 2
    assert cluster.rows("SELECT epoch, takeovers, state FROM run") == [(1, 1, "finished")]
    assert text_of(at_ann.say("script: seed=9 tokens=5")) == reply(9, 5)


def test_a_server_that_is_told_to_end_hands_its_replies_over(cluster: Cluster) -> None:
    """At once, and it does not count as a crash; it ends well."""
    ann, ben = cluster.start(drain_s=60), cluster.start()
    at_ann, at_ben = cluster.client(ann), cluster.client(ben)
    cluster.until(lambda: len(cluster.rows("SELECT FROM node WHERE until > clock_timestamp()")) == 2)
    streams = [at_ann.post(f"script: seed={seed} tokens=100 delay_ms=30") for seed in range(10)]
    seen = [stream.take(3) for stream in streams]
    assert ann.terminate(limit_s=15) == 0
    for seed, stream in enumerate(streams):
        seen[seed] += until_cut(stream)
        rest = at_ben.follow(stream.run_id, headers={"Last-Event-ID": str(seen[seed][-1].id)}).rest()
        assert text_of(seen[seed] + rest) == reply(seed, 100)
        assert [event.name for event in rest].count("complete") == 1
    assert cluster.rows("SELECT DISTINCT epoch, takeovers, state FROM run") == [(1, 0, "finished")]
    assert cluster.calls() == 20


def test_the_only_server_takes_its_own_replies_up(cluster: Cluster) -> None:
    """After a crash when the lease of before has run out; readers come back to it."""
    ann = cluster.start()
    client = cluster.client(ann)
    # Its first call does not end before the crash.
    stream = client.post(f"{LONG} stall=60@1")
    seen = stream.take(10)
    ann.restart()
    seen += until_cut(stream)
    rest = client.follow(stream.run_id, headers={"Last-Event-ID": str(seen[-1].id)}).rest()
    assert text_of(seen + rest) == reply(7, 100)
    assert cluster.rows("SELECT epoch, takeovers, state FROM run") == [(1, 1, "finished")]


def test_a_node_that_is_told_to_stop_while_it_starts_leaves(cluster: Cluster, postgres: Postgres) -> None:
    """It is known to the others already: they need not wait until its lease has run out."""
    cluster.start()
    with postgres.connect(cluster.url) as holder:
        holder.execute("BEGIN")
        # What a node looks for once it has made itself known.
        holder.execute("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")
        late = cluster.launch()
        cluster.until(lambda: cluster.rows("SELECT count(*) FROM node") == [(2,)])
        os.kill(late.pid, signal.SIGTERM)
        time.sleep(0.2)
        holder.execute("ROLLBACK")
    assert late.wait() == 0
    left = "SELECT count(*) FROM node WHERE fenced_at IS NOT NULL AND fenced_at < until"
    assert cluster.rows(left) == [(1,)]

"""Legato on PostgreSQL, alone and with a second node, over NOTIFY and over Redis; several workers; readers elsewhere.

Database, Redis and the second node have the load's cores: the server's core is the node's own, as in the other
scenarios. The database writes to disk (fsync on), beside the bench's folder.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import quantiles
from urllib.parse import urlsplit

import psycopg

from bench.figure import Figure, figure
from bench.follower import Follower
from bench.load import DRAIN, WINDOW, Load, mock_upstream, run_client
from bench.process import Cores, Tree
from bench.target import TARGETS, Place, Server, Target, serving
from bench.throughput import START_S, Bench, Window
from bench.toolchain import BenchError
from tests.postgres import PostgresServer
from tests.valkey import ValkeyServer

NGINX, SQLITE, ALONE, NOTIFY, REDIS = (
    "nginx",
    "SQLite",
    "PostgreSQL",
    "PostgreSQL, 2 nodes",
    "PostgreSQL + Redis, 2 nodes",
)
_MEASURED = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """What is measured.

    Attributes:
        load: On one node, beside nginx, and on several workers.
        cross: On one node while some of its replies are read at another.
        followed: How many are.
        workers: Numbers of worker processes.
    """

    load: Load
    cross: Load
    followed: int
    workers: Sequence[int]
    rounds: int

    @property
    def expected_s(self) -> float:
        """Seconds that all rounds should take."""
        own = (5 + len(self.workers)) * (self.load.expected_s + 2 * START_S)
        return self.rounds * (own + 2 * (self.cross.expected_s + 3 * START_S))


@dataclass(slots=True)
class Machines:
    """The database and Redis of a run."""

    postgres: PostgresServer
    valkey: ValkeyServer

    def target(self, name: str, url: str, *, redis: bool = False, workers: int = 1) -> Target:
        """Return Legato on a database."""
        legato = TARGETS["legato"]
        more = {"LEGATO_DATABASE_URL": url, "LEGATO_WORKERS": str(workers)}
        more |= {"LEGATO_REDIS_URL": self.valkey.url} if redis else {}

        def env(place: Place) -> Mapping[str, str]:
            return {**legato.env(place), **more}

        return replace(legato, name=name, env=env)


class Written:
    """Rows and bytes of the log that a database has written within the window."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._marks: list[tuple[int, int]] = []

    def mark(self, phase: int) -> None:
        if phase in (WINDOW, DRAIN):
            with psycopg.connect(self._url, autocommit=True) as connection:
                ((wal, rows),) = connection.execute(_MEASURED).fetchall()
            self._marks.append((int(wal), int(rows or 0)))

    def per_1000(self, tokens: int) -> dict[str, float]:
        """Return kB of log and rows per 1,000 tokens."""
        (wal, rows), (last_wal, last_rows) = self._marks
        return {"wal_kb": (last_wal - wal) / 1.024 / tokens, "rows_written": (last_rows - rows) * 1000 / tokens}


@contextmanager
def _machines(bench: Bench) -> Iterator[Machines]:
    """Run a database and Redis on the load's cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, bench.cores.load)
    # Beside the own folder, which is for this user alone: as root the database runs as another one.
    postgres = PostgresServer((), place=bench.folder.parent)
    valkey = ValkeyServer()
    try:
        postgres.start()
        valkey.start()
        os.sched_setaffinity(0, before)
        yield Machines(postgres, valkey)
    finally:
        os.sched_setaffinity(0, before)
        valkey.close()
        postgres.close()


def measure_postgres(bench: Bench, plan: Postgres) -> list[Figure]:
    """Measure each target once a round; every one on a fresh database.

    Raises:
        BenchError: A stream was not whole, or a server did not start.
    """
    samples: dict[tuple[str, str], dict[str, list[float]]] = {}
    with _machines(bench) as machines:
        for number in range(1, plan.rounds + 1):
            for (scenario, name), of in _all(bench, plan, machines).items():
                expected_s = plan.cross.expected_s if scenario == "nodes" else plan.load.expected_s
                with bench.board.step(f"{scenario} {number}/{plan.rounds} {name}", expected_s + 2 * START_S):
                    values = of()
                bench.board.note(
                    f"{scenario} {number}/{plan.rounds} {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in values.items())
                )
                for key, value in values.items():
                    samples.setdefault((scenario, name), {}).setdefault(key, []).append(value)
            _compare(samples)
    return [
        figure(scenario, name, key, values)
        for (scenario, name), found in samples.items()
        for key, values in found.items()
    ]


def _compare(samples: dict[tuple[str, str], dict[str, list[float]]]) -> None:
    """Add the last round's CPU beside nginx."""
    nginx_ms = samples["postgres", NGINX]["cpu_ms"][-1]
    for (scenario, name), found in samples.items():
        if scenario != "nodes" and name != NGINX:
            found.setdefault("cpu_x_nginx", []).append(found["cpu_ms"][-1] / nginx_ms)


def _all(bench: Bench, plan: Postgres, machines: Machines) -> dict[tuple[str, str], "partial[dict[str, float]]"]:
    """Return what one round measures: scenario and target to how."""
    alone = partial(_measure, bench, plan.load, machines)
    found = {
        ("postgres", NGINX): partial(alone, NGINX),
        ("postgres", SQLITE): partial(alone, SQLITE),
        ("postgres", ALONE): partial(alone, ALONE),
        ("postgres", NOTIFY): partial(alone, NOTIFY, nodes=2),
        ("postgres", REDIS): partial(alone, REDIS, nodes=2, redis=True),
    }
    for count in plan.workers:
        name = "1 worker" if count == 1 else f"{count} workers"
        found["workers", name] = partial(alone, name, workers=count, redis=True)
    for name in (NOTIFY, REDIS):
        found["nodes", name] = partial(_measure_cross, bench, plan, machines, name, redis=name == REDIS)
    return found


def _measure(
    bench: Bench,
    load: Load,
    machines: Machines,
    name: str,
    *,
    nodes: int = 1,
    workers: int = 1,
    redis: bool = False,
) -> dict[str, float]:
    folder = bench.folder / f"postgres-{time.monotonic_ns()}"
    folder.mkdir()
    url = machines.postgres.make_database()
    shared = name not in (NGINX, SQLITE)
    target = TARGETS["nginx" if name == NGINX else "legato"]
    if shared:
        target = machines.target(target.name, url, redis=redis, workers=workers)
    with ExitStack() as stack:
        mock = stack.enter_context(mock_upstream(bench.programs, bench.cores, folder, load=load))
        server = stack.enter_context(serving(target, mock, bench.cores, folder))
        if nodes > 1:
            # Hints go out as soon as there is somebody else to hear them.
            other = folder / "other"
            other.mkdir()
            mate = Cores(server=bench.cores.load, load=bench.cores.load)
            stack.enter_context(serving(target, mock, mate, other))
        if shared:
            _wait_for(url, nodes * workers)
        window = Window(server.tree, bench.cores)
        beside = {
            "db_cpu_ms": Window(Tree(machines.postgres.pid), bench.cores),
            "redis_cpu_ms": Window(Tree(machines.valkey.pid), bench.cores),
        }
        written = Written(url)

        def mark(phase: int) -> None:
            window.mark(phase)
            for each in beside.values() if shared else ():
                each.mark(phase)
            if shared:
                written.mark(phase)

        result = run_client(
            bench.programs,
            bench.cores,
            folder,
            port=server.port,
            protocol=target.protocol,
            load=load,
            on_phase=mark,
            on_tick=bench.board.tick,
        )
    machines.postgres.drop_database(url)
    if fault := result.fault():
        raise BenchError(f"postgres: {name} did not deliver: {fault}")
    values = {
        "streams": float(load.streams),
        "rate": result.window_tokens / load.window_s,
        "cpu_ms": window.cpu_ms_per_1000(result.window_tokens),
        "added_p50_ms": result.chunk_added_us.p50 / 1e3,
        "added_p99_ms": result.chunk_added_us.p99 / 1e3,
        "others_percent": window.others_percent(),
    }
    if shared:
        values |= {key: each.cpu_ms_per_1000(result.window_tokens) for key, each in beside.items()}
        values |= written.per_1000(result.window_tokens)
    return values


def _measure_cross(bench: Bench, plan: Postgres, machines: Machines, name: str, *, redis: bool) -> dict[str, float]:
    """Measure from the upstream's write to the read of a client at another node than the one that makes the reply."""
    folder = bench.folder / f"nodes-{time.monotonic_ns()}"
    (folder / "other").mkdir(parents=True)
    url = machines.postgres.make_database()
    target = machines.target("legato", url, redis=redis)
    with ExitStack() as stack:
        mock = stack.enter_context(mock_upstream(bench.programs, bench.cores, folder, load=plan.cross))
        server: Server = stack.enter_context(serving(target, mock, bench.cores, folder))
        other: Server = stack.enter_context(serving(target, mock, bench.cores, folder / "other"))
        _wait_for(url, 2)
        follower = Follower(url, other.port, plan.followed)
        window = Window(other.tree, bench.cores)

        def mark(phase: int) -> None:
            window.mark(phase)
            if phase == WINDOW:
                follower.start()
            elif phase == DRAIN:
                follower.stop()

        result = run_client(
            bench.programs,
            bench.cores,
            folder,
            port=server.port,
            protocol=target.protocol,
            load=plan.cross,
            on_phase=mark,
            on_tick=bench.board.tick,
        )
        late_us = follower.finish()
    machines.postgres.drop_database(url)
    if fault := result.fault():
        raise BenchError(f"nodes: {name} did not deliver: {fault}")
    if len(late_us) < 100:
        raise BenchError(f"nodes: {name}: {len(late_us)} chunks came at the other node")
    cut = quantiles(late_us, n=100)
    return {
        "streams": float(plan.cross.streams),
        "followed": float(follower.followed),
        "added_p50_ms": result.chunk_added_us.p50 / 1e3,
        "added_p99_ms": result.chunk_added_us.p99 / 1e3,
        "cross_p50_ms": cut[49] / 1e3,
        "cross_p99_ms": cut[98] / 1e3,
        "follower_cpu_ms": window.cpu_ms_per_1000(len(late_us)),
    }


def _wait_for(url: str, nodes: int) -> None:
    """Wait until so many nodes are there, and have told each other."""
    until = time.monotonic() + START_S * 10
    with psycopg.connect(url, autocommit=True) as connection:
        while (count := _count_nodes(connection)) < nodes:
            if time.monotonic() > until:
                raise BenchError(f"{count} of {nodes} nodes of {urlsplit(url).path} are there")
            time.sleep(0.05)
    # Each learns of the others with its next renewal, a fifth of its lease later at most.
    time.sleep(1.5)


def _count_nodes(connection: psycopg.Connection) -> int:
    try:
        ((count,),) = connection.execute("SELECT count(*) FROM node").fetchall()
    except psycopg.errors.UndefinedTable:
        # Its socket takes connections before the tables are made.
        return 0
    return int(count)

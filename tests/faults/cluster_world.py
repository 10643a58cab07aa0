"""Three real servers over one real PostgreSQL, with a real Redis or without: started, killed, stopped, told to end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from legato.cli.exits import UNREACHABLE
from tests.faults.client import call
from tests.faults.cluster_server import Arm
from tests.faults.nursery import Nursery
from tests.faults.server import Server, python_path
from tests.faults.watcher import wait_until
from tests.postgres import PostgresServer
from tests.valkey import ValkeyServer

LEASE_S = 1.5
"""Of most trials; every one that waits for it is four times as quick as with the default."""
DEFAULT_LEASE_S = 5.0
MODULE = "tests.faults.cluster_server"
WHOLE_S = 120.0
"""How long the nodes may take to be all there again, on a busy machine."""
EXIT_S = 45.0

_LIVE = "SELECT pid FROM node WHERE fenced_at IS NULL AND until > clock_timestamp()"
_HELD = """
SELECT run.id FROM run JOIN node ON node.key = run.node_key
WHERE node.pid = %s AND run.state = 'running'
"""


class Node:
    """One server of a cluster.

    Attributes:
        up: Readers may be sent here.
        starts_repeated: How often it was started again since it could not reach the database.
        arm: What tells it at which place to end; a new one at each start.
    """

    arm: Arm

    def __init__(self, folder: Path, settings: Mapping[str, str], nursery: Nursery) -> None:
        self.server = Server(folder, settings, module=MODULE, nursery=nursery)
        self.starts_repeated = 0
        self.server.settings["FAULT_FUSE"] = str(folder / "fuse")
        self.up = False

    @property
    def stopped(self) -> bool:
        """Whether its process stands still."""
        try:
            return Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except FileNotFoundError:
            return False

    def launch(self) -> None:
        self.arm = Arm(self.server.folder / "fuse")
        self.server.launch()

    def serve(self) -> None:
        """Wait until it answers: its socket takes connections as soon as the process has begun.

        One that ends because the database did not answer is started again, as a service manager does: on a busy machine
        it may be fenced by the others before it has begun.

        Raises:
            RuntimeError: It ended for another reason, or does not answer.
        """
        until = time.monotonic() + WHOLE_S
        while not (self.server.listen() and wait_until(self._is_settled, WHOLE_S) and self.server.running):
            if self.server.running or time.monotonic() > until:
                raise RuntimeError(f"a node did not start: {self.server.log_end()}")
            self._start_again()
        self.up = True

    def look_after(self) -> None:
        """Start it again where it has ended by itself, as `serve` does."""
        if self.up and not self.server.running:
            self._start_again()
            self.serve()

    def _start_again(self) -> None:
        if self.server.wait() != UNREACHABLE:
            raise RuntimeError(f"a node has ended: {self.server.log_end()}")
        self.starts_repeated += 1
        self.launch()

    def _is_settled(self) -> bool:
        """Whether it serves, or has ended."""
        try:
            return call(self.server.port, "GET", "/health/ready").status == 200
        except OSError:
            return not self.server.running

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.server.pid, number)

    def close(self) -> None:
        if self.server.running:
            self.server.kill()


class Cluster:
    """Nodes of one database.

    Args:
        settings: Environment of each node, beside the defaults.
        redis: Hints go over Redis; over PostgreSQL's NOTIFY otherwise.
    """

    def __init__(
        self,
        folder: Path,
        draw: random.Random,
        *,
        count: int = 3,
        redis: bool = True,
        lease_s: float = LEASE_S,
    ) -> None:
        self.postgres = PostgresServer()
        self.valkey = ValkeyServer()
        self.redis = redis
        self._draw = draw
        self._url = ""
        self._sessions = threading.local()
        self._opened: list[psycopg.Connection] = []
        self._is_over = False
        self._nursery = Nursery(python_path())
        given = {
            "LEGATO_DATABASE_POOL": "2",
            "LEGATO_RATE_LIMIT": "off",
            "LEGATO_DRAIN_S": "30",
            "LEGATO_MAX_ACTIVE_RUNS": "8000",
            "LEGATO_LOG_FORMAT": "json",
        }
        self.nodes = [Node(folder / f"node-{n}", given, self._nursery) for n in range(count)]
        self.lease_s = lease_s
        self.tell(redis=redis, lease_s=lease_s)

    @property
    def port(self) -> int:
        """Of a living node, another one at each look."""
        found = [node for node in self.nodes if node.up] or self.nodes
        return self._draw.choice(found).server.port

    @property
    def valkey_runs(self) -> bool:
        return Path(f"/proc/{self.valkey.pid}").exists()

    @property
    def journals(self) -> list[Path]:
        return [node.server.journal for node in self.nodes]

    def start(self) -> Cluster:
        """Start everything; return once all nodes serve and know of each other."""
        self.postgres.start()
        self.valkey.start()
        self._url = self.postgres.make_database()
        for node in self.nodes:
            node.server.settings["LEGATO_DATABASE_URL"] = self._url
            node.launch()
        for node in self.nodes:
            node.serve()
        self.wait_whole()
        return self

    def switch(self, *, redis: bool, lease_s: float) -> None:
        """Have hints go another way, or leases last otherwise: each node is started anew."""
        self.tell(redis=redis, lease_s=lease_s)
        for node in self.nodes:
            self.restart(node)

    def tell(self, *, redis: bool, lease_s: float | None = None) -> None:
        """Say which way the hints of nodes go that are started from now on, and how long their leases are."""
        self.redis = redis
        self.lease_s = lease_s or self.lease_s
        for node in self.nodes:
            node.server.settings["LEGATO_LEASE_S"] = f"{self.lease_s:g}"
            if redis:
                node.server.settings["LEGATO_REDIS_URL"] = self.valkey.url
            else:
                node.server.settings.pop("LEGATO_REDIS_URL", None)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask the database, as an outsider; wait for it where it is on its way back."""
        until = time.monotonic() + WHOLE_S
        while True:
            try:
                return self._session().execute(sql.encode(), values).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > until or self._is_over:
                    raise
                time.sleep(0.02)

    def _session(self) -> psycopg.Connection:
        """Return this thread's own; a new one costs the machine as much as many questions."""
        session: psycopg.Connection | None = getattr(self._sessions, "session", None)
        if session is None or session.closed:
            session = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            self._sessions.session = session
            self._opened.append(session)
        return session

    def await_true(self, what: str, met: Callable[[], bool], within_s: float = WHOLE_S) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: It was not within the time; what the nodes said last stands in it.
        """
        until = time.monotonic() + within_s
        while not met():
            if time.monotonic() > until:
                ends = [node.server.log_end()[-700:] for node in self.nodes]
                raise TimeoutError(f"not within {within_s:g} s: {what}; {ends}")
            time.sleep(0.02)

    def wait_whole(self) -> None:
        """Wait until each process is one living node, and no other is."""
        self.await_true("each process is one living node", self._is_whole)

    def _is_whole(self) -> bool:
        for node in self.nodes:
            node.look_after()
        return sorted(pid for (pid,) in self.rows(_LIVE)) == sorted(node.server.pid for node in self.nodes)

    def held_by(self, node: Node) -> set[str]:
        """Return the runs that a node makes."""
        return {run_id for (run_id,) in self.rows(_HELD, [node.server.pid])}

    def taken_after_s(self, pid: int, held: set[str], since: float) -> float | None:
        """Wait until no run of a process is its own any more; return how long after `since` that was.

        Returns:
            None where it had none.

        Raises:
            TimeoutError: Nobody took them.
        """
        sql = "SELECT EXISTS (SELECT FROM run JOIN node ON node.key = run.node_key WHERE node.pid = %s"
        sql += " AND run.state = 'running')"
        self.await_true(f"the runs of {pid} are taken over", lambda: self.rows(sql, [pid]) == [(False,)])
        return time.monotonic() - since if held else None

    def restart(self, node: Node) -> int:
        """Tell a node to end and start it again; return how it ended."""
        node.up = False
        node.signal(signal.SIGTERM)
        code = node.server.wait(EXIT_S)
        self.start_again(node)
        return code

    def start_again(self, node: Node) -> None:
        """Start a node that has ended, and wait until all are there."""
        node.launch()
        node.serve()
        self.wait_whole()

    def await_end(self, node: Node, within_s: float) -> bool:
        """Wait until a node has killed or stopped itself; return whether it did."""
        done = wait_until(lambda: not node.server.running or node.stopped, within_s)
        node.up = node.up and not done
        return done

    def close(self) -> None:
        """End everything."""
        self._is_over = True
        for node in self.nodes:
            node.close()
        self._nursery.close()
        for session in self._opened:
            session.close()
        self.valkey.close()
        self.postgres.close()

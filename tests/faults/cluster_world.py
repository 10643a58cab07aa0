"""Three real servers over one real PostgreSQL, with a real Redis or without: started, killed, stopped, told to end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.client import call
from tests.faults.server import Server
from tests.faults.watcher import wait_until
from tests.postgres import PostgresServer
from tests.valkey import ValkeyServer

LEASE_S = 1.5
MODULE = "tests.faults.cluster_server"
WHOLE_S = 60.0
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
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.server = Server(folder, settings, module=MODULE)
        self.up = False

    @property
    def arm(self) -> Path:
        """The file that says that passes of a seam count from now on."""
        return self.server.folder / "armed"

    @property
    def stopped(self) -> bool:
        """Whether its process stands still."""
        try:
            return Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except FileNotFoundError:
            return False

    def launch(self, more: Mapping[str, str] | None = None) -> None:
        self.arm.unlink(missing_ok=True)
        self.server.launch(more)

    def serve(self) -> None:
        """Wait until it answers: its socket takes connections as soon as the process has begun.

        Raises:
            RuntimeError: It ended instead.
        """
        if not self.server.listen() or not wait_until(self._is_ready, WHOLE_S):
            raise RuntimeError(f"a node did not start: {self.server.log_end()}")
        self.up = True

    def _is_ready(self) -> bool:
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
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.postgres = PostgresServer()
        self.valkey = ValkeyServer()
        self.redis = redis
        self._draw = draw
        self._url = ""
        given = {
            "LEGATO_LEASE_S": f"{LEASE_S:g}",
            "LEGATO_DATABASE_POOL": "2",
            "LEGATO_RATE_LIMIT": "off",
            "LEGATO_DRAIN_S": "30",
            "LEGATO_MAX_ACTIVE_RUNS": "8000",
            "LEGATO_LOG_FORMAT": "json",
        } | dict(settings or {})
        self.nodes = [Node(folder / f"node-{n}", given) for n in range(count)]

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
        self.tell_redis(self.redis)
        for node in self.nodes:
            node.server.settings["LEGATO_DATABASE_URL"] = self._url
            node.launch()
        for node in self.nodes:
            node.serve()
        self.wait_whole()
        return self

    def switch(self, *, redis: bool) -> None:
        """Have hints go the other way: each node is started anew."""
        self.tell_redis(redis)
        for node in self.nodes:
            self.restart(node)

    def tell_redis(self, redis: bool) -> None:
        """Say which way the hints of nodes go that are started from now on."""
        self.redis = redis
        for node in self.nodes:
            if redis:
                node.server.settings["LEGATO_REDIS_URL"] = self.valkey.url
            else:
                node.server.settings.pop("LEGATO_REDIS_URL", None)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask the database, as an outsider; wait for it where it is on its way back."""
        until = time.monotonic() + WHOLE_S
        while True:
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
                    return connection.execute(sql.encode(), values).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

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

    def restart(self, node: Node, more: Mapping[str, str] | None = None) -> int:
        """Tell a node to end and start it again; return how it ended."""
        node.up = False
        node.signal(signal.SIGTERM)
        code = node.server.wait(EXIT_S)
        self.start_again(node, more)
        return code

    def start_again(self, node: Node, more: Mapping[str, str] | None = None) -> None:
        """Start a node that has ended, and wait until all are there."""
        node.launch(more)
        node.serve()
        self.wait_whole()

    def await_end(self, node: Node, within_s: float) -> bool:
        """Wait until a node has killed or stopped itself; return whether it did."""
        done = wait_until(lambda: not node.server.running or node.stopped, within_s)
        node.up = node.up and not done
        return done

    def close(self) -> None:
        """End everything."""
        for node in self.nodes:
            node.close()
        self.valkey.close()
        self.postgres.close()

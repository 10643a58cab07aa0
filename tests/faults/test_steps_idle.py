"""A server with steps and nothing to do leaves its disk alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.client import call
from tests.faults.server import Server
from tests.faults.watcher import wait_until

SETTLE_S = 2.0
SETTLED_S = 60.0
IDLE_S = 6.0


@pytest.mark.slow
def test_an_idle_server_writes_nothing(tmp_path: Path) -> None:
    """Its queue, its clock and its relay wait without a write: a disk may sleep, and a battery lasts."""
    server = Server(tmp_path / "server").start()
    data = server.database.parent

    def files() -> dict[str, tuple[int, int]]:
        found = [path for path in data.iterdir() if path.is_file()]
        return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    try:
        assert call(server.port, "POST", "/chat/stream", {"message": "script: tokens=3", "sessionId": "s-1"}).ended
        counted = "/session-stats/s-1"
        assert wait_until(lambda: call(server.port, "GET", counted).json()["totalMessages"] == 1, 10.0)
        # On a busy machine, what a start and a reply bring may take longer.
        before: dict[str, tuple[int, int]] = {}
        until = time.monotonic() + SETTLED_S
        while before != (now := files()) and time.monotonic() < until:
            before = now
            time.sleep(SETTLE_S)
        time.sleep(IDLE_S)
        assert files() == before
        assert {"legato.db", "queue.db", "queue.db-wal"} <= before.keys()
    finally:
        server.kill()

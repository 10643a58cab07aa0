"""/health: what a load balancer and a kubelet are told, however they ask, and that it costs next to nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from legato.app import Legato
from legato.core.errors import StorageUnavailable
from legato.storage.probe import answers
from tests.client import Client
from tests.integration.held_models import WAITING_BOT
from tests.page_world import open_site, until
from tests.server import ServerProcess

READY = {"status": "ready", "database": "ok", "queue": "ok", "server": "ok"}


@pytest.mark.parametrize("auth", ["none", "keys"])
@pytest.mark.parametrize("host", ["localhost", "10.1.2.3:3111", "legato-0.legato", "evil.example"])
async def test_probes_need_no_key_and_no_name(tmp_path: Path, auth: str, host: str) -> None:
    """Whatever the Host, with keys and without; every other route is as closed as before."""
    async with open_site(tmp_path, bot=Legato(), auth=auth) as site:
        for path, body in (("/health/live", {"status": "live"}), ("/health/ready", READY)):
            answer = await site.ask("GET", path, host=host, origin="https://evil.example")
            assert (answer.status, json.loads(answer.body)) == (200, body)
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers
        closed = await site.ask("GET", "/me", host=host)
        assert closed.status == (401 if auth == "keys" else 200 if host == "localhost" else 403)
        assert (await site.ask("GET", "/health/ready/", host=host)).status != 200
        assert (await site.ask("POST", "/health/live", {}, host=host)).status in (401, 403, 405)


async def test_the_queue_opens_after_the_server_listens(tmp_path: Path) -> None:
    """Until it does the server is not ready, and lives."""
    async with open_site(tmp_path) as site:
        answer = await site.ask("GET", "/health/ready")
        assert (answer.status, answer.json) == (503, READY | {"status": "not ready", "queue": "not open"})
        assert (await site.ask("GET", "/health/live")).status == 200


async def test_a_database_that_takes_no_writes_is_named(tmp_path: Path) -> None:
    """The first word of what is wrong, without a path; and ready again when it is back."""
    async with open_site(tmp_path, bot=Legato()) as site:
        with closing(sqlite3.connect(site.node.settings.database_path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageUnavailable):
                await site.node.committer.write(lambda tx: None, wait_s=0.1)
            answer = await site.ask("GET", "/health/ready")
            assert answer.status == 503
            assert answer.json == READY | {"status": "not ready", "database": "takes no writes"}
            assert (await site.ask("GET", "/health/live")).status == 200
            other.execute("ROLLBACK")
        await until(lambda: site.node.committer.stalled_s == 0)
        assert (await site.ask("GET", "/health/ready")).json == READY


async def test_probes_ask_the_database_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come, and a database that fails is told once a second too."""
    async with open_site(tmp_path, bot=Legato()) as site:
        # A hundred may take longer than a second.
        at_s = site.clock.monotonic_s()
        monkeypatch.setattr(site.clock, "monotonic_s", lambda: at_s + site.clock.shift_ms / 1000)
        asked = 0
        read = site.node.database.read

        async def counted(query: object) -> object:
            nonlocal asked
            asked += query is answers
            return await read(query)  # type: ignore[arg-type]

        site.node.database.read = counted  # type: ignore[method-assign, assignment]
        await asyncio.gather(*(site.ask("GET", "/health/ready") for _ in range(100)))
        assert asked == 1
        site.clock.shift_ms += 1500
        await asyncio.gather(*(site.ask("GET", "/health/ready") for _ in range(100)))
        assert asked == 2

        async def fails(query: object) -> object:
            if query is not answers:
                return await read(query)  # type: ignore[arg-type]
            raise StorageUnavailable("at /secret/path")

        site.node.database.read = fails  # type: ignore[method-assign, assignment]
        site.clock.shift_ms += 1500
        answer = await site.ask("GET", "/health/ready")
        assert (answer.status, answer.json["database"]) == (503, "does not answer")
        assert b"secret" not in answer.body


def test_a_server_that_is_stopped_says_so_while_replies_end(tmp_path: Path) -> None:
    """SIGTERM: not ready at once, alive until the end, and the reply ends whole."""
    server = ServerProcess(tmp_path / "server", {"drain_s": 20}, command=("-m", "legato", "serve", "bot.py"))
    (server.folder / "bot.py").write_text(WAITING_BOT)
    server.start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        client, probe = (stack.enter_context(Client(server.port)) for _ in range(2))
        while probe.ask("GET", "/health/ready").status != 200:
            time.sleep(0.02)
        stream = client.post("script: tokens=60 upto=2@1 tool=wait@1")
        stream.take(2)
        os.kill(server.pid, signal.SIGTERM)
        for _ in range(100):
            answer = probe.ask("GET", "/health/ready")
            if answer.status == 503:
                break
        assert (answer.status, answer.json) == (503, READY | {"status": "not ready", "server": "draining"})
        assert probe.ask("GET", "/health/live").json == {"status": "live"}
        (server.folder / "go").touch()
        assert stream.rest()[-1].name == "complete"
        assert server.wait() == 0

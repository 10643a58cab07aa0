"""`legato serve --workers N`: worker processes on PostgreSQL are nodes, and share one address."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import pytest

from legato.client import ChatEvent, Complete
from tests.chat_client import client_of, read, text_of
from tests.cli_process import legato
from tests.client import Client
from tests.page_world import until
from tests.postgres import Postgres
from tests.server import ServerProcess

pytestmark = pytest.mark.slow

WAIT_S = 20.0
REPLY = "script: tokens=60 delay_ms=30 seed=4"
LONG = "script: tokens=60 delay_ms=50 seed=4"
RUNNING: LiteralString = "SELECT node.pid FROM run JOIN node ON node.key = run.node_key WHERE run.state = 'running'"
LIVE: LiteralString = "SELECT pid FROM node WHERE fenced_at IS NULL AND until > clock_timestamp() ORDER BY pid"


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Served:
    """A server of two workers."""

    def __init__(self, process: ServerProcess, postgres: Postgres, url: str) -> None:
        self.process = process
        self.port = process.port
        self._postgres = postgres
        self._url = url

    def pids(self, query: LiteralString = LIVE) -> list[int]:
        with self._postgres.connect(self._url) as connection:
            return [pid for (pid,) in connection.execute(query).fetchall()]

    def wait_for(self, holds: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < until_s, self.process.log
            time.sleep(0.02)

    def wait_for_two(self) -> list[int]:
        self.wait_for(lambda: len(self.pids()) == 2 and set(self.pids()) == self.serving())
        return self.pids()

    def serving(self) -> set[int]:
        """Return the workers that serve, as the parent says, and are there still."""
        lines = [line for line in self.process.log.splitlines() if "a worker serves" in line]
        return set(filter(is_there, (json.loads(line)["pid"] for line in lines)))

    def ends(self) -> list[int]:
        """Return the exit codes of the workers that ended, as the parent says."""
        lines = [line for line in self.process.log.splitlines() if "a worker ended" in line]
        return [json.loads(line)["code"] for line in lines]


@pytest.fixture(scope="module")
def served(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers on a database of their own; a test leaves two behind."""
    url = postgres.make_database()
    settings = {"database_url": url, "workers": 2, "drain_s": 15, "lease_s": 2}
    process = ServerProcess(tmp_path_factory.mktemp("served"), settings)
    try:
        yield Served(process.start(), postgres, url)
    finally:
        process.kill()
        postgres.drop_database(url)


@pytest.fixture(autouse=True)
def two(served: Served) -> list[int]:
    return served.wait_for_two()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 0)])
async def test_a_reply_outlives_its_worker(served: Served, number: int, code: int) -> None:
    """Killed or told to end in mid-reply: another goes on, the reader sees each word once, and a new one is started."""
    whole = text_of(await read(client_of(served.port).stream(REPLY)))
    before = served.pids()
    events: list[ChatEvent] = []

    async def follow() -> None:
        # Its first call comes to no end, however late the signal is.
        async with client_of(served.port).stream(f"{REPLY} stall=40@1") as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401

    task = asyncio.create_task(follow())
    await until(lambda: len(events) > 10)
    hit = served.pids(RUNNING)[0]
    os.kill(hit, number)
    await asyncio.wait_for(task, WAIT_S)
    assert text_of(events) == whole
    assert [type(event) for event in events].count(Complete) == 1
    # It counts as one of two until it is seen to be gone.
    served.wait_for(lambda: hit not in served.serving())
    after = served.wait_for_two()
    assert hit not in after
    assert len(set(before) & set(after)) == 1
    assert served.ends()[-1] == code


def test_one_scrape_tells_of_all_workers(served: Served) -> None:
    """What each counted is summed, whichever is asked; a worker's end takes nothing off a counter."""

    def told(name: str) -> float:
        with Client(served.port) as client:
            text = client.ask("GET", "/metrics").body.decode()
        return sum(float(value) for value in re.findall(rf"^legato_{name} (\S+)$", text, re.MULTILINE))

    ended = r'runs_ended_total\{reason="stop",state="finished"\}'
    before = told(ended)
    with Client(served.port) as client:
        for _ in range(8):
            client.say("script: tokens=2")
    # A worker counts a reply a moment after its end is read.
    served.wait_for(lambda: told(ended) == before + 8)
    assert [told(ended) for _ in range(6)] == [before + 8] * 6
    killed = served.pids()[0]
    os.kill(killed, signal.SIGKILL)
    # It counts as one of two until it is seen to be gone.
    served.wait_for(lambda: killed not in served.serving())
    served.wait_for_two()
    assert {told(ended) for _ in range(6)} == {before + 8}
    served.wait_for(lambda: told("readers") == 0)


async def test_all_workers_told_at_once_let_their_replies_end(served: Served) -> None:
    """SIGTERM to the parent: replies have the time of a drain, since no other node will take them."""
    whole = text_of(await read(client_of(served.port).stream(LONG)))
    tasks: list[asyncio.Task[str]] = []
    begun: set[int] = set()

    async def follow(number: int) -> str:
        events: list[ChatEvent] = []
        async with client_of(served.port).stream(LONG) as stream:
            async for event in stream:
                events.append(event)
                begun.add(number)
        return text_of(events)

    async with asyncio.timeout(WAIT_S):
        while len(set(served.pids(RUNNING))) < 2:
            tasks.append(asyncio.create_task(follow(len(tasks))))
            # One that is on its way to the server when it ends would find nobody.
            await until(lambda: len(begun) == len(tasks))
    os.kill(served.process.pid, signal.SIGTERM)
    try:
        assert set(await asyncio.gather(*tasks)) == {whole}
        assert served.process.wait() == 0
        assert served.pids(RUNNING) == []
    finally:
        for task in tasks:
            task.cancel()
        served.process.kill()
        served.process.start()


def test_the_parent_hands_sigterm_on_and_ends_with_0(served: Served, two: list[int]) -> None:
    """All workers leave their rows and end; the port is free for the next start."""
    assert served.process.terminate() == 0
    assert served.pids() == []
    assert not any(map(is_there, two))
    served.process.start()


def test_an_embedded_model_is_not_loaded_by_each_worker(tmp_path: Path, postgres_url: str) -> None:
    """It is refused, with its size and a way out."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(1_200_000))
    done = legato(
        tmp_path, "serve", "--workers", "3", LEGATO_MODEL=tmp_path / "m.gguf", LEGATO_DATABASE_URL=postgres_url
    )
    assert done.returncode == 78
    assert "3 workers would load the embedded model m as often, 1 MB and working memory each time" in done.stderr
    assert done.stderr.count("\n") == 1

"""Steps of one bot on several nodes: each reply noted, each second once, whichever process is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.client import Client
from tests.postgres import Postgres
from tests.server import ServerProcess

BOT = Path(__file__).with_name("nodes_bot.py")
WITHIN_S = 40.0


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    made = postgres.make_database()
    yield made
    postgres.drop_database(made)


def wait_until_noted(client: Client, runs: list[str]) -> dict[str, list[int]]:
    """Wait until every reply is noted; return by which processes each is."""
    until = time.monotonic() + WITHIN_S
    while set(runs) - (noted := client.get("/noted")).keys():
        assert time.monotonic() < until, f"{len(set(runs) - noted.keys())} of {len(runs)} replies are not noted"
        time.sleep(0.1)
    return dict(noted)


@pytest.mark.slow
def test_steps_go_on_whichever_node_is_killed(url: str, tmp_path: Path) -> None:
    """Each dies in turn with jobs in its hands, and a third joins: no reply is left out, no second comes twice."""
    with ExitStack() as stack:

        def start(name: str) -> ServerProcess:
            # A busy machine may hold a node up for a second: the others would take what it has.
            settings = {"database_url": url, "lease_s": 3, "database_pool": 2}
            made = ServerProcess(tmp_path / name, settings, command=("-m", "legato", "serve", str(BOT)))
            stack.callback(made.kill)
            return made.start()

        def say(node: ServerProcess, count: int) -> None:
            with Client(node.port) as client:
                for _ in range(count):
                    stream = client.post("script: tokens=1")
                    runs.append(stream.run_id)
                    assert stream.rest()[-1].name == "complete"
                    stream.close()

        runs: list[str] = []
        first, second = start("first"), start("second")
        for node in (first, second) * 2:
            say(node, 10)
        with Client(second.port) as client:
            wait_until_noted(client, runs)
        say(first, 30)
        first.kill()
        say(second, 10)
        with Client(second.port) as client:
            wait_until_noted(client, runs)
        third = start("third")
        say(second, 20)
        second.kill()
        say(third, 10)
        with Client(third.port) as client:
            noted = wait_until_noted(client, runs)
            time.sleep(2)
            until = time.monotonic() + WITHIN_S
            while len(beats := client.get("/beats")) < 5 and time.monotonic() < until:
                time.sleep(0.1)
    assert len(runs) == len(set(runs)) == 110
    # What a process had just done when it was killed may be done once more.
    assert sum(len(by) for by in noted.values()) <= 110 + 2 * 4
    assert len({pid for by in noted.values() for pid in by}) == 3
    assert len(beats) >= 5
    assert sum(len(by) for by in beats.values()) <= len(beats) + 2

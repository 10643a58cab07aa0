"""Real MCP servers over HTTP, one for all tests of a file; queues on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from legato.steps.queue_address import QueueAddress
from tests.mcp_world import HttpProgram
from tests.postgres import Postgres
from tests.queue_world import make_queue_database


@pytest.fixture(scope="module")
def http_program() -> Iterator[HttpProgram]:
    program = HttpProgram("http").start()
    yield program
    program.kill()


@pytest.fixture(scope="module")
def json_program() -> Iterator[HttpProgram]:
    program = HttpProgram("json").start()
    yield program
    program.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def queue_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueAddress]:
    """Where a queue of the test's own is to be: a file, or a database of a real PostgreSQL."""
    if request.param == "sqlite":
        yield tmp_path / "queue.db"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = make_queue_database(postgres)
    yield url
    postgres.drop_database(url)

"""What several files share: MCP servers over HTTP, queues on each database, servers with accounts or an issuer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from legato.policies import password_hashes
from legato.steps.queue_address import QueueAddress
from tests import account_world
from tests.account_world import OTHER, make
from tests.issuer import Issuer
from tests.issuer_world import begin_anew, open_house
from tests.mcp_world import HttpProgram
from tests.page_world import Site, open_site
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Site, Issuer]]:
    async with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture
def issuer(issuer_house: tuple[Site, Issuer]) -> Issuer:
    """An issuer of identity tokens as it was at the file's beginning."""
    begin_anew(issuer_house)
    return issuer_house[1]


@pytest.fixture
def issuer_site(issuer_house: tuple[Site, Issuer], issuer: Issuer) -> Site:
    """A server whose people sign in at `issuer`."""
    return issuer_house[0]


@pytest.fixture
def quick_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make hashes cheap, but for tests that look at them."""
    if "dear" not in request.fixturenames:
        monkeypatch.setattr(password_hashes, "MEMORY_KIB", 64)
        monkeypatch.setattr(password_hashes, "ROUNDS", 1)
    for cached in (password_hashes._hasher, password_hashes._nobodys):
        cached.cache_clear()
    account_world.forget_stored()
    yield
    for cached in (password_hashes._hasher, password_hashes._nobodys):
        cached.cache_clear()


@pytest.fixture
def dear() -> None:
    """Hashes cost what they cost a server."""


@pytest.fixture
async def account_site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with accounts for Ann, an admin, and ben, and a key of ben's."""
    async with open_site(tmp_path, auth="accounts") as opened:
        await make(opened, "Ann", role="admin")
        await make(opened, "ben", password=OTHER)
        await opened.make_keys(ben="member")
        yield opened

"""Fixtures that all tests share: real servers, and nodes inside this process."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from legato.app import open_node
from legato.runs.node import Node
from legato.settings import Settings
from tests.client import Client
from tests.guarded import PAGE, Guarded, make_keys
from tests.new_database import put_database
from tests.postgres import Postgres, PostgresServer, open_postgres
from tests.server import ServerProcess
from tests.valkey import Valkey, ValkeyServer, open_valkey

StartServer = Callable[..., ServerProcess]
OpenNode = Callable[..., AbstractAsyncContextManager[Node]]

# Examples are about what is right, not about time: a machine that does other work beside it fails none.
hypothesis.settings.register_profile("legato", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("legato")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two parts of the tests, which `python -m tests` runs one after the other; all, where the option is not given."""
    parser.addoption("--alone", choices=("only", "never"), help="only the tests marked `alone`, or all others")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The part of few tests does not import all others' files: that alone would take it a quarter of a minute."""
    if config.getoption("alone") != "only" or collection_path.suffix != ".py":
        return None
    return True if not _names_alone(collection_path) else None


def _names_alone(path: Path) -> bool:
    return "pytest.mark.alone" in path.read_text("utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make quick` is for between two edits: it leaves out what opens nodes and queues by the hundred."""
    for item in items:
        if Path(__file__).parent / "integration" in item.path.parents:
            item.add_marker(pytest.mark.slow)
    if part := config.getoption("alone"):
        alone = [item for item in items if item.get_closest_marker("alone")]
        others = [item for item in items if not item.get_closest_marker("alone")]
        items[:], left = (alone, others) if part == "only" else (others, alone)
        config.hook.pytest_deselected(items=left)
        unseen = {item.nodeid for item in alone if not _names_alone(item.path)}
        assert not unseen, f"name `pytest.mark.alone` in their own file, or they are in no part: {unseen}"


@pytest.fixture(autouse=True, scope="module")
def _queues_end() -> Iterator[None]:
    """No queue of a module goes on behind it: it would warn, and draw random numbers, in the midst of others' tests."""
    yield
    until = time.monotonic() + 10
    while left := [each.name for each in threading.enumerate() if each.name.startswith("legato-queue:")]:
        assert time.monotonic() < until, f"still taking jobs: {left}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that quick tests share: no test may count on what others left, or leave it unable to serve."""
    yield from described_server(tmp_path_factory.mktemp("server"))


def described_server(folder: Path) -> Iterator[ServerProcess]:
    """Give a server; in the end see whether its document describes all that clients were answered."""
    server = ServerProcess(folder, {"heartbeat_s": 1}).start()
    yield server
    with Client(server.port) as client:
        undocumented = undescribed(client.get("/openapi.json"), Client.seen)
    server.kill()
    assert not undocumented, "answers that /openapi.json does not describe"


def undescribed(document: dict[str, Any], seen: set[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Return the answers of described routes whose status is not described."""
    routes = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): each for path, each in document["paths"].items()}
    found = []
    for method, path, status in sorted(seen):
        for pattern, operations in routes.items():
            operation = operations.get(method.lower())
            if operation and pattern.fullmatch(path) and str(status) not in operation["responses"]:
                found.append((method, path, status))
    return found


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.port) as client:
        yield client


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with keys for ann, ben and eve."""
    process = ServerProcess(
        tmp_path_factory.mktemp("guarded"),
        {"auth": "keys", "allowed_origins": f"{PAGE},http://localhost:5173", "rate_limit": "off"},
    )
    made = make_keys(process.database, {"ann": "admin", "ben": "member", "eve": "member"})
    found = Guarded(process.start(), made)
    yield found
    found.close()
    process.kill()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts a server of the test's own: `start_server(drain_s=1, max_readers=2)`."""
    started: list[ServerProcess] = []

    def start(folder: Path | None = None, **settings: object) -> ServerProcess:
        own = ServerProcess(folder or tmp_path / f"server-{len(started)}", settings)
        started.append(own)
        return own.start()

    yield start
    for each in started:
        each.kill()


def node_settings(folder: Path, **settings: Any) -> Settings:
    """Settings of a node inside this process: the scripted model, nothing taken from the environment's models."""
    values: dict[str, Any] = {
        "data_dir": folder,
        "model": ["scripted"],
        "durability": "process",
        "titles": "words",
        "models": {name: {"provider": "scripted"} for name in ("scripted", "other")}
        | {"tiny": {"provider": "scripted", "script": {"context_window": 600}}},
    }
    return Settings(**(values | settings))


@pytest.fixture
def open_test_node(tmp_path: Path) -> OpenNode:
    """Opens a node inside this process: `async with open_test_node(max_readers=2) as node`."""

    def opened(folder: Path | None = None, **settings: Any) -> AbstractAsyncContextManager[Node]:
        if "database_url" not in settings:
            put_database(folder or tmp_path / "node")
        return open_node(node_settings(folder or tmp_path / "node", **settings))

    return opened


@pytest.fixture
async def node(open_test_node: OpenNode) -> AsyncIterator[Node]:
    """A node inside this process, with the scripted model."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_test_node())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL that tests share, each with databases of its own; started when the first test asks for it."""
    with open_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database, gone after the test."""
    url = postgres.make_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def node_database_url(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database in which a node has been before, so that all tables are there; gone after the test."""

    async def visit(url: str) -> None:
        async with open_node(node_settings(tmp_path_factory.mktemp("visit"), database_url=url)):
            pass

    postgres.make_template("node", lambda url: asyncio.run(visit(url)))
    url = postgres.make_database("node")
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def postgres_server(postgres: Postgres) -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may stop, restart and pause, and has to leave running."""
    if isinstance(postgres, PostgresServer):
        yield postgres
        return
    own = PostgresServer().start()
    yield own
    own.close()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """The Redis server that tests share, each under names of its own; started when the first test asks for it."""
    with open_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(valkey: Valkey) -> Iterator[ValkeyServer]:
    """A Redis server that a test may kill, restart, flush and pause, and has to leave running."""
    if isinstance(valkey, ValkeyServer):
        yield valkey
        return
    own = ValkeyServer().start()
    yield own
    own.close()

"""Each database, for the files of a contract that is one for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from legato.app import open_node
from legato.runs.node import Node
from legato.storage.state import State
from tests.conftest import OpenNode, node_settings
from tests.contract.rivals import PostgresRivals, Rivals, SqliteRivals
from tests.contract.state_backends import OpenWorld, World, open_state
from tests.contract.storage_backends import (
    PostgresStorage,
    SealedPostgresStorage,
    SealedSqliteStorage,
    SqliteStorage,
    Storage,
)
from tests.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_storage(postgres: Postgres) -> PostgresStorage:
    return PostgresStorage(postgres)


@pytest.fixture(scope="session")
def sealed_postgres_storage(postgres: Postgres) -> SealedPostgresStorage:
    return SealedPostgresStorage(postgres)


SEALED_TOO: Final = ("test_conversations_service", "test_runs_service")
"""Contracts of what is sealed otherwise on PostgreSQL: logs are pieces there, copies and deletes other statements."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that has `storage` over each kind of database."""
    if "storage" in metafunc.fixturenames:
        kinds = ["sqlite sealed", "postgresql"]
        if metafunc.module.__name__.rpartition(".")[2] in SEALED_TOO:
            kinds.append("postgresql sealed")
        slow = [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]
        metafunc.parametrize("storage", ["sqlite", *slow], indirect=True)


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """An empty database of a kind."""
    if request.param == "sqlite":
        yield SqliteStorage(tmp_path)
        return
    if request.param == "sqlite sealed":
        yield SealedSqliteStorage(tmp_path)
        return
    name = "postgres_storage" if request.param == "postgresql" else "sealed_postgres_storage"
    found: PostgresStorage = request.getfixturevalue(name)
    yield found
    found.empty()


@pytest.fixture
def open_test_node(storage: Storage, tmp_path: Path) -> OpenNode:
    """Opens a node inside this process, over each database."""

    def opened(**settings: Any) -> AbstractAsyncContextManager[Node]:
        return open_node(node_settings(tmp_path, **storage.settings(), **settings))

    return opened


@pytest.fixture
def open_world(storage: Storage) -> OpenWorld:
    """Opens the world of the contract of `State`."""
    return partial(open_state, storage)


@pytest.fixture
async def world(open_world: OpenWorld) -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


@pytest.fixture
def state(world: World) -> State:
    return world.state()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rivals(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rivals]:
    """Two writers on one database, which the tests of a file share: each trial has a conversation of its own."""
    if request.param == "sqlite":
        alone = SqliteRivals(tmp_path_factory.mktemp("rivals"))
        yield alone
        alone.close()
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.make_database()
    pair = PostgresRivals(url)
    yield pair
    pair.close()
    server.drop_database(url)

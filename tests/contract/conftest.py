"""`State` over every database, for the files of its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legato.storage.state import State
from tests.contract.state_backends import BACKENDS, OpenWorld, World


@pytest.fixture(params=BACKENDS.values(), ids=list(BACKENDS))
def open_world(request: pytest.FixtureRequest) -> OpenWorld:
    found: OpenWorld = request.param
    return found


@pytest.fixture
async def world(open_world: OpenWorld, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


@pytest.fixture
def state(world: World) -> State:
    return world.state()

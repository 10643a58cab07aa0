"""Real MCP servers over HTTP, one for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mcp_world import HttpProgram


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

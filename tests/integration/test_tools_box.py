"""All tools of a bot together: its own and those of servers, each with a name of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from legato.core.errors import ConfigurationError
from legato.tools.base import Tool
from legato.tools.box import ToolBox, definitions
from legato.tools.schema import tool_from


async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


class Source:
    """Tools that come from elsewhere, without a server."""

    def __init__(self, name: str, *tools: str, prefix: bool = False) -> None:
        self.name, self.prefix, self.names = name, prefix, tools
        self.started = self.closed = False

    def start(self) -> None:
        self.started = True

    async def tools(self) -> Mapping[str, Tool]:
        return {name: tool_from(add, description=f"{self.name} {name}") for name in self.names}

    async def close(self) -> None:
        self.closed = True


async def names_of(box: ToolBox) -> dict[str, str]:
    return {name: tool.description for name, tool in (await box.tools()).items()}


async def test_tools_of_servers_have_names_of_their_own() -> None:
    """Two tools never share a name; own tools keep theirs; a name that is no name becomes one; all are distinct."""
    long = "x" * 80
    first, second = Source("a", "search", "add", "get.page", "get page", long), Source("b", "search", f"{long}y")
    box = ToolBox([tool_from(add)], [first, second, Source("c", "now", prefix=True)])
    box.start()
    assert first.started
    found = await names_of(box)
    assert found["add"] == "Add."
    assert found["search"] == "a search"
    assert found["a_add"] == "a add"
    assert found["get_page"] == "a get.page"
    assert found["a_get_page"] == "a get page"
    assert found["b_search"] == "b search"
    assert found["c_now"] == "c now"
    assert len(found) == 9
    assert all(len(name) <= 64 for name in found)
    assert {each["function"]["name"] for each in definitions(await box.tools())} == set(found)
    await box.close()
    assert second.closed


async def test_a_name_stays_with_its_tool() -> None:
    """Whoever is away or comes late: in one process a name never comes to mean another server's tool."""
    first, second = Source("a"), Source("b", "search")
    box = ToolBox([], [first, second])
    assert await names_of(box) == {"search": "b search"}
    first.names = ("search",)
    assert await names_of(box) == {"search": "b search", "a_search": "a search"}
    second.names = ()
    assert await names_of(box) == {"a_search": "a search"}


@pytest.mark.parametrize(
    ("tools", "sources"),
    [([tool_from(add), tool_from(add)], []), ([], [Source("a"), Source("a")])],
    ids=["tools", "servers"],
)
def test_two_of_a_name_are_refused(tools: Sequence[Tool], sources: Sequence[Source]) -> None:
    """What a user names twice is an error at the start."""
    with pytest.raises(ConfigurationError, match="two "):
        ToolBox(tools, sources)
    assert not ToolBox()
    assert ToolBox([tool_from(add)])


def test_the_room_is_cheap_to_enter() -> None:
    """Nothing of MCP, HTTP or docstrings is imported before it is needed."""
    import subprocess

    code = (
        "import sys, legato.tools.box, legato.tools.run, legato.tools.schema, legato.tools.mcp, legato.tools.addresses;"
        "print([n for n in ('mcp', 'mcp_types', 'httpx2', 'jsonschema_rs', 'docstring_parser', 'anyio') "
        "if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


async def test_a_model_is_given_no_more_tools_than_servers_take() -> None:
    """Past 128 tools the last ones are left out, and the log says so once."""
    box = ToolBox([tool_from(add)], [Source("a", *(f"tool{n}" for n in range(200)))])
    with capture_logs() as lines:
        for _ in range(2):
            found = await box.tools()
            assert len(found) == 128
            assert list(found)[:2] == ["add", "tool0"]
    assert [line["event"] for line in lines] == ["too many tools: some are left out"]

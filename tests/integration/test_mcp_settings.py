"""MCP servers as they are configured: which are refused, and which addresses they may not have."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from legato.core.errors import ConfigurationError
from legato.tools.mcp_config import McpServerConfig
from tests.mcp_world import (
    HttpProgram,
    behind,
    real,
    running,
)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/mcp", "http://localhost/mcp", "https://10.0.0.1/", "http://[::1]/", "ftp://x/"]
)
def test_a_private_address_is_refused_at_the_start(url: str) -> None:
    """What can be seen from the settings alone stops the start, and says what to set."""
    with pytest.raises(ConfigurationError, match=r"^MCP server web: "):
        behind(url, private_hosts=frozenset())


async def test_a_name_with_a_private_address_is_refused(
    http_program: HttpProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is checked by what it resolves to, when it is connected to; allowed by name, it is reached."""

    async def names(host: str, port: int) -> list[str]:
        assert host == "docs.example"
        return ["127.0.0.1"]

    monkeypatch.setattr("legato.tools.addresses.system_look_up", names)
    url = f"http://docs.example:{http_program.port}/mcp"
    with capture_logs() as lines:
        async with running(behind(url, private_hosts=frozenset())) as bot:
            assert await bot.tools() == {}
    assert [line["why"] for line in lines if "is away" in line["event"]] == [
        "docs.example is a private address, and tools reach public ones only: allow it by name in allowed_private_hosts"
    ]
    allowed = behind(
        url, private_hosts=frozenset(("docs.example",)), headers={"Host": f"127.0.0.1:{http_program.port}"}
    )
    async with running(allowed) as bot:
        assert (await bot.call("echo", '{"text": "a"}')).output == "a"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"command": "x", "url": "http://a.example/"}, "set either command or url"),
        ({}, "set either command or url"),
        ({"name": "a b", "command": "x"}, "'a b' is no name for an MCP server"),
        ({"command": "x", "timeout_s": 0}, "timeout_s is 0"),
        ({"command": "x", "start_timeout_s": -1}, "start_timeout_s is -1"),
        ({"command": "x", "max_output_chars": 1}, "max_output_chars is 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    """Each wrong value is named when the server is made."""
    with pytest.raises(ConfigurationError) as caught:
        McpServerConfig(**({"name": "docs"} | settings))
    assert said in caught.value.message


def test_a_configuration_shows_no_secret() -> None:
    """Its representation may get into a log; headers and variables do not."""
    config = behind("https://docs.example/", headers={"Authorization": "Bearer for-docs"}, env={"TOKEN": "for-docs"})
    assert "for-docs" not in repr(config)
    assert {"Bearer for-docs", "for-docs"} <= set(config.secrets())


async def test_settings_choose_and_guard_tools() -> None:
    """Only allowed tools are there; approval and repetition are as the settings say, by the server's own names."""
    with capture_logs() as lines:
        config = real(
            allow=frozenset(("echo", "dotted.name", "absent")),
            needs_approval=frozenset(("dotted.name",)),
            idempotent=frozenset(("echo",)),
            timeout_s=7.0,
            max_output_chars=300,
        )
        async with running(config, real(name="all", allow=frozenset(("echo",)), needs_approval=True)) as bot:
            tools = await bot.tools(with_tool="all_echo")
    assert set(tools) == {"echo", "dotted_name", "all_echo"}
    assert [tools[name].needs_approval for name in ("echo", "dotted_name", "all_echo")] == [False, True, True]
    assert [tools[name].idempotent for name in ("echo", "dotted_name")] == [True, False]
    assert (tools["echo"].timeout_s, tools["echo"].max_output_chars, tools["echo"].server) == (7.0, 300, "real")
    assert [(line["tool"], line["server"]) for line in lines if line["event"] == "mcp server has no such tool"] == [
        ("absent", "real")
    ]

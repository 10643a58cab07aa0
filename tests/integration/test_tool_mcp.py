"""Tools of an MCP server from legato.toml, in a real server: found, called, asked about, there again after a death."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from legato.providers.scripted import reply
from tests.client import Client, text_of
from tests.mcp_world import HttpProgram, is_alive
from tests.server import MODELS, ServerFailed, ServerProcess
from tests.tool_world import output_of, told

PROGRAM = Path(__file__).parents[1] / "mcp_server.py"
TOML = (
    MODELS
    + f"""
[mcp.real]
command = {json.dumps(sys.executable)}
args = [{json.dumps(str(PROGRAM))}, "stdio"]
allow = ["echo", "add", "fail", "pid", "die"]
needs_approval = ["fail"]
idempotent = ["echo"]
"""
)

# On a busy machine a program takes longer to start than a reply waits for its tools.
PATIENT = ("-c", "from legato.tools import mcp; mcp.CONNECT_WAIT_S = 60.0; from legato.cli.main import main; main()")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("mcp"), toml=TOML, command=(*PATIENT, "serve")).start()
    yield process
    process.kill()


@pytest.mark.slow
def test_a_model_calls_tools_of_an_mcp_server(server: ServerProcess) -> None:
    """The first message after the start waits for the program; the model has its tools, and calls two at once."""
    with Client(server.port) as client:
        words = 'tool=echo:{"text":"hi"}@1 tool=add:{"a":40,"b":2}@1 tool=add:{"a":"x","b":2}@1'
        events = client.say(f"script: seed=3 tokens=4 {words}")
    assert [output_of(events, f"call_1_{n}") for n in (1, 2)] == ["hi", "42"]
    assert "invalid arguments" in output_of(events, "call_1_3")
    assert text_of(events) == reply(3, 4)
    first, second = server.calls()[-2:]
    assert (first.offered, first.calls) == (5, ["echo", "add", "add"])
    assert second.results[:2] == ["hi", "42"]


@pytest.mark.slow
def test_a_call_of_an_mcp_tool_waits_for_a_person(server: ServerProcess) -> None:
    """As `needs_approval` says; what the tool says of its failure is told to the model."""
    with Client(server.port) as client:
        stream = client.post('script: tokens=2 tool=fail:{"text":"broken"}@1')
        called, asked = stream.take(2)
        assert (asked.name, asked.data["status"]) == ("approval", "asked")
        path = f"/chat/stream/{stream.run_id}/approvals/{called.data['callId']}"
        assert client.ask("POST", path, {"granted": True}).status == 200
        events = stream.rest()
    assert told(events)[-1] == ("fail", "failed")
    assert output_of(events) == "broken"


@pytest.mark.slow
def test_a_program_that_dies_costs_one_result(server: ServerProcess) -> None:
    """The model is told; the program is started anew, and the next reply has its tools."""
    with Client(server.port) as client:
        events = client.say("script: seed=2 tokens=2 tool=die@1")
        assert "went away during the call" in output_of(events)
        assert text_of(events) == reply(2, 2)
        until_s = time.monotonic() + 10
        while output_of(client.say('script: tokens=1 tool=echo:{"text":"again"}@1')) != "again":
            assert time.monotonic() < until_s
            time.sleep(0.1)


@pytest.mark.slow
def test_a_program_ends_with_its_server(server: ServerProcess) -> None:
    """After SIGTERM nothing is left behind."""
    with Client(server.port) as client:
        pid = int(output_of(client.say("script: tokens=1 tool=pid@1")))
    assert is_alive(pid)
    assert server.terminate() == 0
    assert not is_alive(pid)


def web_toml(program: HttpProgram, allowed: str) -> str:
    """Return a legato.toml with a server at an address."""
    return f'{allowed}\n{MODELS}\n[mcp.web]\nurl = "{program.url}"\nallow = ["echo"]\n'


@pytest.mark.slow
def test_a_server_at_a_private_address_is_reached_where_it_is_allowed(
    tmp_path: Path, http_program: HttpProgram
) -> None:
    """`url` and `allowed_private_hosts` of legato.toml are enough for a call over HTTP."""
    toml = web_toml(http_program, 'allowed_private_hosts = ["127.0.0.1"]')
    process = ServerProcess(tmp_path, toml=toml, command=(*PATIENT, "serve")).start()
    try:
        with Client(process.port) as client:
            events = client.say('script: seed=3 tokens=4 tool=echo:{"text":"over-http"}@1')
        assert output_of(events) == "over-http"
        assert text_of(events) == reply(3, 4)
        assert [call.offered for call in process.calls()[-2:]] == [1, 1]
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("allowed", ["", 'allowed_private_hosts = ["127.0.0.2"]'])
def test_a_server_at_a_private_address_is_refused_elsewhere(
    tmp_path: Path, http_program: HttpProgram, allowed: str
) -> None:
    """The start says which server, why, and what to set."""
    process = ServerProcess(tmp_path, toml=web_toml(http_program, allowed))
    try:
        with pytest.raises(ServerFailed, match="the server ended with 78"):
            process.start()
    finally:
        process.kill()
    assert "MCP server web: 127.0.0.1 is a private address" in process.log
    assert "allow it by name in allowed_private_hosts" in process.log

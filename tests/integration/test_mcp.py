"""MCP servers as sources of tools: real ones, over pipes and over HTTP, that work, fail, hang, flood and die."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from legato.tools import mcp as owner
from legato.tools.base import ToolResult
from legato.tools.mcp_config import McpServerConfig
from legato.tools.run import prepare
from tests.mcp_world import (
    Bot,
    HttpProgram,
    Sessions,
    behind,
    end,
    is_alive,
    misbehaving,
    real,
    running,
    until,
)

pytestmark = pytest.mark.slow

FAULTS = {"fail", "explode", "die", "hang", "huge"}
ALL = FAULTS | {"echo", "add", "mixed", "structured", "environment", "pid", "dotted_name"}
CUT = "\n[cut: the whole output has 20000 characters]"
ANSWERS: list[tuple[str, str, str, bool]] = [
    ("echo", '{"text": "Grüße 🎵"}', "Grüße 🎵", False),
    ("add", '{"a": 2, "b": 3}', "5", False),
    ("add", '{"a": 2}', 'invalid arguments: "b" is a required property', True),
    ("add", '{"a": 2, "b": "3"}', 'invalid arguments: b: the value is not of type "integer"', True),
    ("fail", '{"text": "out of stock"}', "out of stock", True),
    ("explode", "", "the MCP server answered with an error: Internal server error", True),
    (
        "mixed",
        "",
        "words\n[image/png, 3 bytes, not shown]\n[guide: https://docs.example/guide]\na note",
        False,
    ),
    ("structured", "", '{"a":[1,2]}', False),
    ("dotted_name", "", "dotted", False),
    ("huge", '{"chars": 20000}', "x" * (16_000 - len(CUT)) + CUT, False),
]


async def answers_of(bot: Bot) -> list[tuple[str, str, str, bool]]:
    made = []
    for name, arguments, *_ in ANSWERS:
        result = await bot.call(name, arguments)
        made.append((name, arguments, result.output, result.is_error))
    return made


@pytest.mark.parametrize("way", ["stdio", "http", "json"])
async def test_a_servers_tools_are_listed_and_called(
    way: str, http_program: HttpProgram, json_program: HttpProgram
) -> None:
    """Every page of the list is read, a tool with a bad schema is left out, results and errors become text."""
    program = http_program if way == "http" else json_program
    with capture_logs() as lines:
        async with running(real() if way == "stdio" else behind(program.url)) as bot:
            tools = await bot.tools(with_tool="echo", within_s=60.0)
            assert set(tools) == ALL
            assert await answers_of(bot) == ANSWERS
    assert tools["add"].description == "Does add."
    assert tools["add"].parameters == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    left_out = [line for line in lines if line["event"] == "mcp tool left out"]
    assert [(line["tool"], line["log_level"]) for line in left_out] == [("bad.schema", "warning")]


def test_everything_holds_on_uvloop(http_program: HttpProgram) -> None:
    """The loop that serves in production runs programs and connections the same way."""

    async def scenario() -> None:
        async with running(real(), behind(http_program.url, prefix=True)) as bot:
            assert await answers_of(bot) == ANSWERS
            assert (await bot.call("web_echo", '{"text": "x"}')).output == "x"
            before = (await bot.call("pid")).output
            assert (await bot.call("die")).is_error
            assert (await bot.call("pid")).output != before

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_a_program_gets_no_variables_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of this process do not reach programs that it starts; what the settings give does."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with running(real(env={"DOCS_TOKEN": "for-docs"})) as bot:
        assert (await bot.call("environment", '{"text": "OPENAI_API_KEY"}')).output == "not set"
        assert (await bot.call("environment", '{"text": "DOCS_TOKEN"}')).output == "for-docs"
        # `python` is the one that runs Legato, with all that is installed there.
        path = (await bot.call("environment", '{"text": "PATH"}')).output
        assert path == f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


async def test_calls_of_one_server_run_in_parallel(http_program: HttpProgram) -> None:
    """Fifty calls at a time each get their own answer, also while others hang."""
    async with running(real(), behind(http_program.url, prefix=True)) as bot:
        await bot.tools(with_tool="web_echo")
        for prefix in ("", "web_"):
            hanging = asyncio.create_task(bot.call(f"{prefix}hang"))
            results = await asyncio.gather(*(bot.call(f"{prefix}echo", f'{{"text": "{n}"}}') for n in range(50)))
            assert [each.output for each in results] == [str(n) for n in range(50)]
            assert not hanging.done()
            hanging.cancel()


async def test_a_server_that_dies_in_mid_call_is_started_again() -> None:
    """Every call under way is told; the next one finds the server back, and its last words are logged."""
    with capture_logs() as lines:
        async with running(real()) as bot:
            first = int((await bot.call("pid")).output)
            hanging = await hanging_call(bot)
            died = await bot.call("die")
            assert died.is_error
            assert died.output == (
                "the MCP server real went away during the call (it ended); "
                "whether the call was carried out is not known"
            )
            assert (await hanging).output == died.output
            second = int((await bot.call("pid")).output)
            assert second != first
            assert not is_alive(first)
    away = [line for line in lines if line["event"] == "mcp server is away, its tools are missing"]
    assert [(line["server"], line["why"], line["last_words"]) for line in away] == [
        ("real", "it ended", "last words of the server")
    ]


async def test_a_server_that_is_killed_while_nothing_runs_is_started_again() -> None:
    """Its end is noticed without a call."""
    async with running(real()) as bot:
        first = int((await bot.call("pid")).output)
        session = bot.servers[0]._session
        end(first)
        await until(lambda: not is_alive(first))
        await until(lambda: bot.servers[0]._session is not session, 60.0)
        assert int((await bot.call("pid")).output) != first


async def test_a_server_behind_a_url_that_dies_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call during its death fails, its tools are missing while it is away, and come back with it."""
    monkeypatch.setattr(owner, "FIRST_PAUSE_S", 0.05)
    program = HttpProgram("http").start()
    try:
        async with running(behind(program.url)) as bot:
            await bot.tools(with_tool="die")
            hanging = await hanging_call(bot)
            died = await bot.call("die")
            assert died.is_error
            assert "went away during the call" in died.output
            assert (await hanging).is_error
            program.kill()
            assert await bot.tools() == {}
            assert (await asyncio.to_thread(program.start)) is program
            assert (await bot.call("echo", '{"text": "back"}')).output == "back"
    finally:
        program.kill()


async def test_a_call_that_hangs_ends_and_the_server_serves_on(http_program: HttpProgram) -> None:
    """The time limit ends a call; others of the same server are not touched."""
    async with running(real(timeout_s=0.2), behind(http_program.url, timeout_s=0.2, prefix=True)) as bot:
        await bot.tools(with_tool="web_pid")
        for prefix in ("", "web_"):
            before = await pid_of(bot, f"{prefix}pid")
            for _ in range(2):
                assert (await bot.call(f"{prefix}hang")).output == "the tool did not answer within 0.2 s"
            assert await pid_of(bot, f"{prefix}pid") == before


async def test_a_server_that_answers_nothing_any_more_is_started_again() -> None:
    """Three calls in a row without an answer, and a program that hangs is replaced."""
    async with running(real(timeout_s=0.2)) as bot:
        before = await pid_of(bot, "pid")
        for _ in range(3):
            assert (await bot.call("hang")).is_error
            # Such a call is left to itself where giving it up takes long.
            await until(lambda: bot.servers[0]._under_way == 0, 60.0)
        await until(lambda: not is_alive(before), 60.0)
        assert await pid_of(bot, "pid") != before


async def pid_of(bot: Bot, name: str) -> int:
    """Return what a call of `pid` gives, which may take longer than the calls that are to hang."""
    tools = await bot.tools(with_tool=name)
    result = await prepare({name: replace(tools[name], timeout_s=60.0)}, name, "").run()
    return int(result.output)


async def hanging_call(bot: Bot) -> asyncio.Task[ToolResult]:
    """Begin a call that hangs; it is at its server when this returns."""
    hanging = asyncio.create_task(bot.call("hang"))
    await until(lambda: bot.servers[0]._under_way == 1, 60.0)
    # What was sent behind it was answered.
    assert (await bot.call("echo", '{"text": "x"}')).output == "x"
    return hanging


@pytest.mark.alone
@pytest.mark.parametrize("name", ["big", "flood"])
async def test_a_message_without_bounds_ends_its_program(name: str) -> None:
    """Neither memory nor the loop pays for a huge answer: the program is ended, the model is told, it serves again."""
    worst_s = 0.0

    async def beat() -> None:
        nonlocal worst_s
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(0.005)
            worst_s = max(worst_s, time.monotonic() - began_s - 0.005)

    async with running(misbehaving()) as bot:
        await bot.tools(with_tool=name)
        beating = asyncio.create_task(beat())
        began_s = time.monotonic()
        result = await bot.call(name)
        assert "(it sent a message of more than 4194304 bytes)" in result.output
        assert time.monotonic() - began_s < 3.0
        beating.cancel()
        assert worst_s < 1.0
        assert (await bot.call("echo")).output == "called echo"


async def test_an_answer_without_bounds_is_refused(http_program: HttpProgram, json_program: HttpProgram) -> None:
    """Over HTTP a huge answer costs its own call alone."""
    for program in (http_program, json_program):
        async with running(behind(program.url)) as bot:
            before = (await bot.call("pid")).output
            result = await bot.call("huge", '{"chars": 6000000}')
            assert result.is_error
            assert "longer than 4194304 bytes" in result.output or "exceeded the 4194304 byte limit" in result.output
            assert (await bot.call("pid")).output == before


@pytest.mark.parametrize(
    ("name", "output", "is_error"),
    [
        ("noise", "heard", False),
        ("nonsense", "the MCP server's answer is no result of a tool", True),
        ("ask", "the MCP server's answer is no result of a tool", True),
    ],
)
async def test_what_is_no_answer_is_told_or_passed_over(name: str, output: str, is_error: bool) -> None:
    """Lines that are no messages and answers to nothing are passed over; a result of another shape is an error."""
    async with running(misbehaving()) as bot:
        result = await bot.call(name)
        assert (result.output, result.is_error) == (output, is_error)
        assert (await bot.call("echo")).output == "called echo"


async def test_tools_that_change_are_listed_anew() -> None:
    """A server that says that its tools have changed is asked for them."""
    async with running(misbehaving()) as bot:
        assert "added" not in await bot.tools(with_tool="change")
        await bot.call("change")
        await bot.tools(with_tool="added")


@pytest.mark.alone
@pytest.mark.parametrize(
    ("config", "why"),
    [
        (misbehaving(command="/no/such/program"), "FileNotFoundError: [Errno 2] No such file or directory: [path]"),
        (misbehaving("fails", env={"DOCS_TOKEN": "abcdefgh1234"}), "it ended"),
        (misbehaving("silent", start_timeout_s=0.3), "it did not list its tools within 0.3 s"),
        (misbehaving("bad list"), "ValidationError"),
        (misbehaving(cwd="/no/such/folder"), "FileNotFoundError"),
        (behind("http://127.0.0.1:9/mcp"), "ConnectError"),
        (behind("http://no-such-host.invalid/mcp"), "ConnectError: no-such-host.invalid has no address"),
    ],
    ids=["no program", "fails", "silent", "bad list", "no folder", "no listener", "no host"],
)
async def test_a_server_that_is_down_costs_its_tools_and_a_line_in_the_log(config: McpServerConfig, why: str) -> None:
    """Starting waits for no server; the tools of the others are there; the log says why, without secrets."""
    with capture_logs() as lines:
        began_s = time.monotonic()
        bot = Bot(config, misbehaving(name="good"))
        bot.box.start()
        assert time.monotonic() - began_s < 1.0
        try:
            await bot.tools(with_tool="echo")
            await until(lambda: any("is away" in line["event"] for line in lines))
            assert set(await bot.tools()) == {"flood", "big", "nonsense", "ask", "change", "noise", "echo"}
        finally:
            await bot.box.close()
    line = next(line for line in lines if "is away" in line["event"])
    assert line["server"] == config.name
    assert line["why"].startswith(why)
    assert "abcdefgh1234" not in str(lines)


async def test_a_server_that_comes_up_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again and again, in growing pauses; its tools are there once it is."""
    monkeypatch.setattr(owner, "FIRST_PAUSE_S", 0.05)
    program = tmp_path / "later"
    async with running(misbehaving(command=str(program), args=[])) as bot:
        assert await bot.tools() == {}
        config = misbehaving()
        text = f"#!/bin/sh\nexec {config.command} {' '.join(config.args)}\n"
        program.write_text(text)
        program.chmod(0o755)
        assert (await bot.call("echo")).output == "called echo"


@pytest.mark.parametrize(
    ("config", "within_s"), [(real(), 4.0), (misbehaving("stubborn"), 8.0), (misbehaving("silent"), 8.0)]
)
async def test_closing_ends_the_program(
    config: McpServerConfig, within_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ends by itself, ignores SIGTERM or never answered: after closing it is gone."""
    monkeypatch.setattr(owner, "CONNECT_WAIT_S", 1.0)
    before = set(children())
    async with running(config) as bot:
        await bot.tools()
        await until(lambda: bool(set(children()) - before), 60.0)
        (pid,) = set(children()) - before
        began_s = time.monotonic()
    assert time.monotonic() - began_s < within_s
    assert not is_alive(pid)


def children() -> list[int]:
    """Return the processes that this one has started."""
    made = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [int(pid) for pid in made.read_text().split()]


async def test_closing_cuts_a_call_that_hangs() -> None:
    """A call under way ends when its server is closed."""
    # Far beyond its closing: no limit of its own ends the call.
    async with running(real(timeout_s=600.0)) as bot:
        await bot.tools(with_tool="hang")
        hanging = await hanging_call(bot)
    assert (await asyncio.wait_for(hanging, 60.0)).is_error


async def test_a_session_that_a_server_has_forgotten_is_opened_anew() -> None:
    """The call that finds out was not carried out, so it is sent again, once, and carried out once."""
    sessions = Sessions()
    async with sessions.serve() as url, running(behind(url, headers={"Authorization": "Bearer for-docs"})) as bot:
        assert (await bot.call("echo", '{"text": "a"}')).output == "a"
        sessions.known.clear()
        assert (await bot.call("echo", '{"text": "b"}')).output == "b"
        assert sessions.called == ["echo", "echo"]
        assert {each.get("Authorization") for each in sessions.headers} == {"Bearer for-docs"}


async def test_a_server_that_hangs_at_the_goodbye_holds_nothing_up() -> None:
    """Closing takes two seconds and not five minutes."""
    sessions = Sessions()
    sessions.hangs = True
    async with sessions.serve() as url:
        async with running(behind(url)) as bot:
            assert (await bot.call("echo", '{"text": "a"}')).output == "a"
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 10.0


async def test_results_of_two_servers_are_not_mixed_up() -> None:
    """Two servers with the same tools have names of their own, and each answers its own."""
    async with running(real(name="one"), real(name="two")) as bot:
        await bot.tools(with_tool="pid")
        tools = await bot.tools(with_tool="two_pid")
        assert len(tools) == 2 * len(ALL)
        assert (await bot.call("pid")).output != (await bot.call("two_pid")).output
        assert {tool.server for tool in tools.values()} == {"one", "two"}


async def test_a_server_that_never_answers_delays_nothing_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once, while it may still come up; from then on models are called without its tools."""
    monkeypatch.setattr(owner, "CONNECT_WAIT_S", 1.0)
    monkeypatch.setattr(owner, "FIRST_PAUSE_S", 0.05)
    async with running(misbehaving("silent", start_timeout_s=0.5)) as bot:
        began_s = time.monotonic()
        asked_s = began_s
        while asked_s - began_s < 4.0:
            assert await bot.tools() == {}
            assert time.monotonic() - asked_s < (3.0 if asked_s == began_s else 0.5)
            await asyncio.sleep(0.1)
            asked_s = time.monotonic()

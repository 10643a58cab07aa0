"""`legato.testing`, which developers try their bots with."""

from __future__ import annotations

import http.client
import io
import logging
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from docs.from_code.topics import TOPICS
from legato import Context, Event, Legato, QueueEvent, increment
from legato.cli.target import load_target
from legato.core.errors import ConfigurationError
from legato.testing import TestServer, serving

app = Legato(rate_limit="3/minute")
seen: dict[str, Any] = {}


@app.tool(needs_approval=True)
async def shut(door: int) -> str:
    """Shut a door."""
    return f"door {door} is shut"


@app.tool
async def ring() -> str:
    """Ring the bell."""
    raise ValueError("no bell")


@app.queue(*TOPICS)
async def watch(event: QueueEvent, ctx: Context) -> None:
    """Keeps what events carry."""
    seen[event.topic] = event.payload


@app.cron("0 3 * * *")
async def night(ctx: Context) -> None:
    """Counts nights."""
    await ctx.shared.update("nights", "all", increment("count"))


@app.http("GET", "/nights")
async def nights(ctx: Context) -> Any:
    """Tells the nights."""
    return await ctx.shared.get("nights", "all")


@app.http("GET", "/break")
async def break_it(ctx: Context) -> str:
    """Fails."""
    kept = "a secret"
    raise ValueError("broken" if kept else "")


@app.http("POST", "/says")
async def says(ctx: Context) -> Any:
    """Says two things."""
    yield Event("one", {"n": 1})
    yield 2


def test_a_reply_tells_its_tool_calls() -> None:
    """Name, arguments, what the model was told; refused and failed ones too."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def approve(name: str, arguments: dict[str, Any]) -> bool:
        asked.append((name, arguments))
        return bool(arguments["door"] == 1)

    with serving(app, rate_limit="off") as server:
        reply = server.chat('script: tool=shut:{"door":1}@1 tool=shut:{"door":2}@2 tool=ring@3', approve=approve)
        first, second, third = reply.tool_calls
        assert (first.name, first.arguments, first.output, first.failed) == (
            "shut",
            {"door": 1},
            "door 1 is shut",
            False,
        )
        assert (second.arguments, second.failed) == ({"door": 2}, True)
        assert (third.name, third.arguments, third.output, third.failed) == ("ring", {}, "ValueError: no bell", True)
        assert (reply.finish_reason, reply.error, reply.status) == ("stop", None, 200)
        assert asked == [("shut", {"door": 1}), ("shut", {"door": 2})]
        with pytest.raises(AssertionError, match="shut waits for a person: give approve="):
            server.chat('script: tool=shut:{"door":1}@1')


def test_a_reply_that_fails_or_is_refused_tells_its_error() -> None:
    """The code, with the status of the response; the app's own settings hold."""
    with serving(app) as server:
        reply = server.chat("script: fail=400@1")
        assert (reply.error, reply.finish_reason, reply.status) == ("upstream_refused", None, 200)
        server.chat("Hello")
        server.chat("Hello")
        assert (server.chat("Hello").error, server.chat("Hello").status) == ("rate_limited", 429)
        assert server.stream("POST", "/says") == [("one", {"n": 1}), ("message", 2), ("complete", {})]
        assert server.send("GET", "/nowhere")[0] == 404


def test_cron_steps_run_at_other_times() -> None:
    """Those of the test; the app keeps its own."""
    with serving(app, cron={"night": "* * * * * *"}) as server:
        assert server.wait_for(lambda: (server.get("/nights") or {"count": 0})["count"] >= 1)
    (step,) = (step for step in app.steps() if step.crons)
    assert step.crons[0].expression == "0 3 * * *"
    with (
        pytest.raises(ConfigurationError, match="there is no cron step 'nigth'; there are night"),
        serving(app, cron={"nigth": "* * * * *"}),
    ):
        pass


def test_a_bot_that_cannot_start_says_why() -> None:
    """As `legato serve` would, and without a wait."""
    with pytest.raises(ConfigurationError, match="LEGATO_RATE_LIMIT is"), serving(app, rate_limit="many"):
        pass
    wrong = Legato()
    wrong.queue("nobodys.topic")(watch)
    with pytest.raises(ConfigurationError, match=r"no step enqueues the topic 'nobodys\.topic'"), serving(wrong):
        pass


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is free afterwards, and the data folder gone; settings that stand around count for nothing dangerous."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("LEGATO_AUTH=keys\nLEGATO_HOST=0.0.0.0\nLEGATO_PORT=1\n")
    with serving(app) as server:
        assert server.chat("Hello").status == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_bot_that_lies_elsewhere_has_its_servers_of_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `legato.toml` beside it is read, and the program in it starts there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = Path(__file__).parents[2] / "examples" / "mcp_bot"
    with serving(load_target(str(folder / "bot.py"))) as server:
        find = 'script: tool=find_order:{"number":"1001"}@1'
        # On a busy machine the program takes longer to start than a reply waits for it.
        assert server.wait_for(lambda: bool(server.chat(find).tool_calls), within_s=60)
        (found,) = server.chat(find).tool_calls
        assert not found.failed, found


@pytest.fixture
def unset() -> Iterator[None]:
    """structlog as it is before anybody has set it up."""
    before, was = structlog.get_config(), structlog.is_configured()
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    if was:
        structlog.configure(**before)


@pytest.mark.usefixtures("unset")
def test_it_logs_as_the_server_does(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, without the values of variables; the root's handlers are left to whoever runs the tests."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with serving(app) as server:
        assert server.send("GET", "/break")[0] == 500
    assert (root.handlers, root.level) == before
    out, said = capsys.readouterr()
    assert out == ""
    assert "[error    ] an http step failed            step=break_it" in said
    assert "ValueError: broken" in said
    assert "locals" not in said
    assert "a secret" not in said


@pytest.mark.usefixtures("unset")
def test_each_test_finds_the_log_on_its_own_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a runner that captures it, the first test's is closed when the second one runs."""
    for _ in range(2):
        own = io.StringIO()
        monkeypatch.setattr(sys, "stderr", own)
        with serving(app) as server:
            server.send("GET", "/break")
        assert "an http step failed" in own.getvalue()
        own.close()


@pytest.mark.usefixtures("unset")
def test_it_leaves_logs_alone_that_are_set_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tests says how."""
    # Where the machine is busy, a handler may be named for holding the loop up too.
    monkeypatch.setattr("legato.steps.slow_spots.LONGEST_S", 60.0)
    lines: list[Any] = []

    def keep(_logger: Any, _method: str, event: Any) -> Any:
        lines.append(event["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    with serving(app) as server:
        server.send("GET", "/break")
    assert lines == ["an http step failed"]
    assert capsys.readouterr() == ("", "")


OF_BUDGETS = {"budget.warning", "budget.spent"}
"""tests/integration/test_budgets.py has these."""


def test_the_reference_lists_what_events_carry() -> None:
    """docs/reference/topics.md is made from classes; these have the fields that real events have, no more, no fewer."""
    seen.clear()
    with serving(app, rate_limit="off") as server:
        complete = server.chat("Hello").events[-1][1]
        server.chat("script: fail=400@1")
        stopped = server.send(
            "PUT", f"/messages/{complete['messageId']}/feedback", {"thumb": "up", "reason": "It was short."}
        )
        assert stopped[0] == 200
        _stop_a_reply(server)
        for topic in sorted(TOPICS.keys() - OF_BUDGETS):
            assert server.wait_for(partial(seen.__contains__, topic))
            fields = {field.alias for field in TOPICS[topic].model_fields.values()}
            assert set(seen[topic]) == fields, topic
            TOPICS[topic].model_validate(seen[topic])
    assert len(seen) == 4
    stopped_payload = seen["chat.message.stopped"]
    assert (stopped_payload["stoppedBy"], stopped_payload["finishReason"]) == ("user", "stopped")


def _stop_a_reply(server: TestServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = '{"message": "script: tokens=400 delay_ms=10 stall=20"}'
    try:
        connection.request("POST", "/chat/stream", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert server.send("POST", f"/chat/stream/{response.headers['X-Run-Id']}/stop")[0] < 300
        response.read()
    finally:
        connection.close()

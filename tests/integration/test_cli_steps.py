"""`legato steps`: what a bot is made of, for people, for programs, and as a picture."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from legato.cli.main import app
from legato.core.errors import ConfigurationError

BOT = '''\
from legato import ChatMessageCompleted, Context, Legato

app = Legato(system_prompt="x")


@app.tool(enqueues=["desk.called"])
async def call_desk(reason: str, ctx: Context) -> str:
    """Call the help desk.

    Args:
        reason: Why.
    """
    return "called"


@app.http("GET", "/calls/{session_id}", flows=["desk"])
@app.queue("desk.called", flows=["desk"], enqueues=["desk.answered"])
async def note(ctx: Context, session_id: str = "") -> None:
    """Notes a call."""


@app.cron("0 9 * * *", timezone="Europe/Berlin", missed="skip", flows=["desk"])
@app.cron("30 17 * * *")
async def remind(ctx: Context) -> None:
    """Reminds of calls."""


@app.queue("chat.message.completed")
async def plain(event: ChatMessageCompleted) -> None: ...
'''


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("bot.py").write_text(BOT)
    Path("legato.toml").write_text('[mcp.orders]\ncommand = "python"\n')


def steps(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["steps", *arguments])


def test_a_bots_steps_come_first_with_what_sets_them_off() -> None:
    """Flow by flow: triggers, topics, next times; then what comes with Legato; then the tools."""
    done = steps("bot.py", "--times", "1")
    assert done.exit_code == 0
    plain = re.sub(r"next [\d-]+ ", "next DAY ", re.sub(r" {2,}", "  ", done.stdout))
    assert (
        plain.startswith(
            "flow desk\n"
            "  note  Notes a call.\n"
            "  http  GET /calls/{session_id}\n"
            "  queue  desk.called\n"
            "  enqueues  desk.answered\n"
            "  remind  Reminds of calls.\n"
            "  cron  0 9 * * * (Europe/Berlin); next DAY 09:00:00 CET\n"
            "  cron  30 17 * * * (UTC); next DAY 17:30:00 UTC\n"
            "\n"
            "in no flow\n"
            "  plain\n"
            "  queue  chat.message.completed\n"
            "\n"
            "flow ai-chatbot\n"
            "  chat  Answers a message and streams the reply.\n"
        )
        or "CEST" in plain
    )
    assert "  tools  Tools that the model calls.\n  enqueues  desk.called\n" in plain
    assert plain.endswith("tools\n  call_desk  Call the help desk.\n  mcp.orders  Those of this MCP server.\n")
    assert done.stderr == "legato: nobody listens to desk.answered, which note enqueues\n"


def test_without_a_bot_the_built_in_steps_are_listed() -> None:
    """One flow, the chat first."""
    done = steps()
    assert done.exit_code == 0
    assert done.stdout.startswith("flow ai-chatbot\n  chat ")
    assert "analytics" in done.stdout
    assert "cleanup" in done.stdout


def test_programs_read_one_object_a_line() -> None:
    """Names, triggers, and times with their offset."""
    lines = [json.loads(line) for line in steps("bot.py", "--json", "--times", "3").stdout.splitlines()]
    by_name = {line["name"]: line for line in lines}
    remind = by_name["remind"]["cron"]
    assert [each["expression"] for each in remind] == ["0 9 * * *", "30 17 * * *"]
    assert (remind[0]["timezone"], remind[0]["missed"]) == ("Europe/Berlin", "skip")
    assert len(remind[0]["next"]) == 3
    assert re.fullmatch(r"[\d-]+T09:00:00\+0[12]:00", remind[0]["next"][0])
    assert by_name["note"]["http"] == ["GET /calls/{session_id}"]
    assert by_name["note"]["topics"] == ["desk.called"]
    assert by_name["note"]["enqueues"] == ["desk.answered"]
    assert by_name["chat"]["builtIn"]
    assert not by_name["note"]["builtIn"]


def test_the_picture_is_mermaid() -> None:
    """Every line is a box, a topic, a frame or an arrow between things that were drawn."""
    lines = steps("bot.py", "--graph").stdout.splitlines()
    assert lines[0] == "flowchart LR"
    text = r'"(?:[^"]|#quot;)*"'
    drawn = set()
    for line in lines[1:]:
        line = line.strip()
        if re.fullmatch(rf"subgraph {text}|end", line):
            continue
        if box := re.fullmatch(rf"(\w+)(?:\[{text}\]|\(\[{text}\]\))", line):
            drawn.add(box[1])
            continue
        arrow = re.fullmatch(rf"(\w+)(?:(\{{\{{{text}\}}\}}|\[/{text}/\]))? --> (\w+)", line)
        assert arrow, line
        assert arrow[2] or arrow[1] in drawn, line
        assert arrow[3] in drawn, line
    assert len(drawn) > 10


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nope.py", "there is no file nope.py: give a file such as bot.py, or module:app"),
        ("bot.py:ap", "bot.py has no Legato object named ap; it has app"),
        ("legato.toml", "there is no module legato.toml here"),
        ("empty.py", "empty.py has no Legato object: write `from legato import Legato` and `app = Legato()` into it"),
        (
            "typo.py",
            "step f: no step enqueues the topic 'chat.message.complete': did you mean 'chat.message.completed'?",
        ),
    ],
)
def test_a_file_that_is_none_is_named(target: str, said: str) -> None:
    """One sentence that says what would be right."""
    Path("empty.py").write_text("")
    Path("typo.py").write_text(
        "from legato import Legato\napp = Legato()\n@app.queue('chat.message.complete')\nasync def f(): ...\n"
    )
    done = steps(target)
    assert isinstance(done.exception, ConfigurationError)
    assert done.exception.message.startswith(said)

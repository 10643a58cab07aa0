"""The examples, each as its reader runs it: a real server, its own settings, requests over HTTP."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from legato import Legato
from legato.cli.target import load_target
from legato.testing import TestServer, serving
from tests.guarded import make_keys
from tests.reading_model import NO_ANSWER, reading_model
from tests.walkthrough import Walkthrough, blocks_of

EXAMPLES = Path(generate.__file__).parent.parent / "examples"
NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())
OpenExample = Callable[[str], Legato]


@pytest.fixture
def open_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenExample]:
    """Loads an example's bot.py from a copy of its folder, which is the working directory from then on."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # What the MCP example calls `python` is the environment's.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")

    def opened(name: str) -> Legato:
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder)
        monkeypatch.chdir(folder)
        return load_target("bot.py")

    yield opened
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def module_of(app: Legato) -> Any:
    """Return the module that holds an example's functions."""
    return sys.modules["legato_target_bot"]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_whole(name: str, open_example: OpenExample) -> None:
    """It has a README, a system prompt, and steps and tools that fit together."""
    app = open_example(name)
    assert Path("README.md").read_text().startswith("# ")
    assert app.settings().system_prompt
    registry = app.registry()
    assert registry.unheard() == []
    assert all(step.description for step in registry.steps)


def test_the_readme_shows_the_minimal_bot() -> None:
    """Line by line: what a newcomer reads first is what is run here."""
    (shown,) = (block.code for block in blocks_of(EXAMPLES.parent / "README.md") if block.info == "python bot.py")
    assert shown == (EXAMPLES / "minimal/bot.py").read_text()


def test_the_minimal_bot_keeps_what_is_asked(open_example: OpenExample) -> None:
    """A tool, a queue step and a route, in one short file."""
    app = open_example("minimal")
    with serving(app) as server:
        reply = server.chat('script: tool=breakfast:{"day":"Sunday"}@1')
        (call,) = reply.tool_calls
        assert (call.name, call.output, call.failed) == ("breakfast", "8-11", False)
        assert reply.finish_reason == "stop"
        server.chat("Where can I park?")
        # Each is a job of its own: whichever is done first.
        assert server.wait_for(lambda: len(server.get("/questions")) == 2)
        assert "Where can I park?" in server.get("/questions")
        assert len(server.get("/questions")) == 2


@pytest.mark.parametrize(
    ("query", "source"),
    [
        ("How long does the battery last?", "battery.md#how-long-it-lasts"),
        ("can I use rechargeable batteries", "battery.md#changing-the-cell"),
        ("my wifi password is wrong", "setup.md#connecting-to-wi-fi"),
        ("How do I get my data as a CSV file?", "measurements.md#exporting"),
        ("return a station within a month", "warranty.md#sending-it-back"),
        ("Does it survive frost?", "mounting.md#rain-and-frost"),
        ("does it run on android 9", "app.md#which-phones"),
        ("temperature is too high in the sun", "mounting.md#where-it-should-hang"),
        ("does it measure the direction of the wind?", "measurements.md#what-is-measured"),
        ("factory reset", "setup.md#resetting-the-station"),
        ("how is it screwed to a wall", "mounting.md#on-a-wall"),
        ("invite my sister", "app.md#sharing-a-station"),
    ],
)
def test_the_support_bot_finds_the_passage_that_answers(query: str, source: str, open_example: OpenExample) -> None:
    """The passage that answers comes first, in whatever form its words are asked for."""
    handbook = module_of(open_example("support_bot")).HANDBOOK
    assert handbook.search(query, 3)[0].source == source


@pytest.mark.parametrize("query", ["", "zebra", '"', "AND OR NOT", "NEAR(a b)", "title: x*", "東京"])
def test_a_search_takes_any_words(query: str, open_example: OpenExample) -> None:
    """No word of a model's is an operator."""
    handbook = module_of(open_example("support_bot")).HANDBOOK
    assert len(handbook.search(query, 3)) <= 3


def test_the_support_bot_answers_with_a_citation(open_example: OpenExample) -> None:
    """The model calls the search, is given passages, and cites one: such a question is no gap."""
    app = open_example("support_bot")
    with reading_model() as base_url, serving(app, models={"test": {"base_url": base_url}}) as server:
        reply = server.chat("How long does the battery last?")
        (call,) = reply.tool_calls
        assert call.name == "search_documentation"
        assert json.loads(call.output or "")[0]["title"] == "Battery: How long it lasts"
        assert reply.text.endswith("[battery.md#how-long-it-lasts]")
        assert server.chat("Zebra?").text == NO_ANSWER
        assert server.wait_for(lambda: len(server.get("/gaps")) > 0)
        assert [gap["question"] for gap in server.get("/gaps")] == ["Zebra?"]


def test_the_support_bot_collects_and_reports_what_it_could_not_answer(open_example: OpenExample) -> None:
    """Queue step, a second queue step behind it, state for all, a report at a time, and staff's routes."""
    app = open_example("support_bot")
    today = datetime.now(UTC).date().isoformat()
    with serving(app, cron={"report": "* * * * * *"}) as server:
        for question in ("Is there a solar panel?", "Does it speak Zigbee?", "is there a SOLAR panel"):
            server.chat(question)
        assert server.wait_for(lambda: sum(gap["times"] for gap in server.get("/gaps")) == 3)
        first, second = server.get("/gaps")
        assert (first["times"], second["times"]) == (2, 1)
        assert first["question"].lower().startswith("is there a solar panel")
        assert server.wait_for(lambda: _report(server, today) == [first, second])
        assert server.send("GET", "/reports/2026-01-01")[0] == 404


def _report(server: TestServer, day: str) -> Any:
    status, found = server.send("GET", f"/reports/{day}")
    return found if status == 200 else None


def test_the_support_bot_streams_a_draft(open_example: OpenExample) -> None:
    """Passages, then the model's words, then the end; what it asks itself is no gap."""
    with serving(open_example("support_bot"), script={"tokens": 3}) as server:
        events = server.stream("POST", "/drafts", {"question": "How do I change the battery?"})
        names = [name for name, _ in events]
        assert names == ["passage"] * 3 + ["text"] * 3 + ["complete"]
        assert events[0][1]["source"] == "battery.md#changing-the-cell"
        assert events[-1][1] == {"state": "finished"}
        server.chat("A real one")
        assert server.wait_for(lambda: len(server.get("/gaps")) > 0)
        assert [gap["question"] for gap in server.get("/gaps")] == ["A real one"]


def test_the_support_bot_has_its_rate_limit(open_example: OpenExample) -> None:
    """legato.toml says it: 10 a minute in one session, 20 for one caller."""
    with serving(open_example("support_bot"), script={"tokens": 1}) as server:
        replies = [server.chat("Hello", session_id="s-1") for _ in range(11)]
        assert [reply.status for reply in replies] == [200] * 10 + [429]
        assert replies[-1].error == "rate_limited"
        assert server.chat("Hello", session_id="s-2").status == 200


def test_the_staffs_routes_are_hidden_from_members(open_example: OpenExample, tmp_path: Path) -> None:
    """With keys, what is collected is for administrators; for members it is as if it were not there."""
    folder = tmp_path / "keyed"
    keys = make_keys(folder / "legato.db", {"ann": "admin", "ben": "member"})
    today = datetime.now(UTC).date().isoformat()
    with serving(open_example("support_bot"), auth="keys", data_dir=folder) as server:

        def status(owner: str, method: str, path: str, body: object = None) -> int:
            return server.send(method, path, body, {"Authorization": f"Bearer {keys[owner]}"})[0]

        assert (status("ben", "GET", "/gaps"), status("ann", "GET", "/gaps")) == (404, 200)
        assert status("ben", "POST", "/drafts", {"question": "Battery?"}) == 404
        status_code, problem = server.send("GET", f"/reports/{today}", None, {"Authorization": f"Bearer {keys['ben']}"})
        assert (status_code, problem["detail"]) == (404, "there is nothing at this address")
        assert server.send("GET", "/gaps")[0] == 401


def test_the_mcp_bot_asks_a_person_before_it_cancels(open_example: OpenExample) -> None:
    """Tools of the program that legato.toml names; one runs at once, the other when it is granted."""
    find = 'script: tool=find_order:{"number":"1002"}@1'
    cancel = 'script: tool=cancel_order:{"number":"1002","reason":"mistake"}@1'
    asked: list[tuple[str, Any]] = []

    def decide(granted: bool) -> Callable[[str, dict[str, Any]], bool]:
        def answer(name: str, arguments: dict[str, Any]) -> bool:
            asked.append((name, arguments))
            return granted

        return answer

    with serving(open_example("mcp_bot")) as server:
        # On a busy machine the program takes longer to start than a reply waits for it.
        assert server.wait_for(lambda: bool(server.chat(find).tool_calls), within_s=60)
        (found,) = server.chat(find).tool_calls
        assert json.loads(found.output or "")["state"] == "being packed"
        (refused,) = server.chat(cancel, approve=decide(False)).tool_calls
        assert refused.failed
        (found,) = server.chat(find).tool_calls
        assert json.loads(found.output or "")["state"] == "being packed"
        (cancelled,) = server.chat(cancel, approve=decide(True)).tool_calls
        assert (cancelled.output, cancelled.failed) == ("Order 1002 is cancelled.", False)
        (found,) = server.chat(find).tool_calls
        assert json.loads(found.output or "")["state"] == "cancelled"
        (again,) = server.chat(cancel, approve=decide(True)).tool_calls
        assert again.failed
    assert asked == [("cancel_order", {"number": "1002", "reason": "mistake"})] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_an_examples_readme_work(name: str, tmp_path: Path) -> None:
    """In the example's folder, on the server that the README starts, and they print what it says."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    reader = Walkthrough(folder, model="scripted")
    try:
        reader.follow(folder / "README.md")
    finally:
        reader.close()
    assert reader.printed

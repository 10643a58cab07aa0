"""The administrators' page: figures, queue with dead letters, steps, live replies, sessions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.client import Client
from tests.e2e.browser import Visits, wait_until
from tests.server import ServerProcess

BOT = """\
from pathlib import Path

from legato import Legato

app = Legato()


@app.queue("chat.message.completed", attempts=1, flows=["crm"])
async def post_to_crm(event) -> None:
    if not Path("mended").exists():
        raise ValueError("the CRM is away")
    Path("posted").write_text("yes")
"""

DURATION = re.compile(r"p50[\d.,]+ m?s")


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with replies of all kinds, and a step that fails."""
    folder = tmp_path_factory.mktemp("admin")
    (folder / "bot.py").write_text(BOT)
    settings = {"rate_limit": "off", "call_attempts": 1}
    server = ServerProcess(folder, settings, command=("-m", "legato", "serve", "bot.py")).start()
    with Client(server.port) as client:
        for number in range(3):
            client.say(f"script: tokens={10 + number}", sessionId=f"session-{number}")
        client.say("script: fail=500@1", sessionId="session-0")
        until = time.monotonic() + 60
        while (total := client.get("/admin/figures")["total"])["messages"] + total["errors"] < 4:
            assert time.monotonic() < until, f"the replies were not counted: {total}"
            time.sleep(0.1)
    yield server
    server.kill()


def test_figures_are_plotted_from_real_replies(bot: ServerProcess, visits: Visits) -> None:
    """Tiles, a plot for each figure, the same as a table, and by model."""
    page = visits.open(bot.address, path="/admin")
    tile = page.locator("dl > div").filter(has_text="Completed replies").first
    expect(tile.locator("dd").first).to_have_text("3")
    for plot in ("Completed replies", "Tokens", "Response time", "First word", "Failed · Stopped", "Cost"):
        expect(page.get_by_role("img", name=plot, exact=True)).to_be_visible()
    legend = page.get_by_role("img", name="Completed replies", exact=True).locator(".u-value")
    expect(legend.nth(1)).to_have_text("3")
    satisfaction = page.get_by_role("region", name="Satisfaction", exact=True)
    expect(satisfaction).to_contain_text("Nothing known in this time")
    page.get_by_text("As a table").click()
    expect(page.get_by_role("region", name="As a table").get_by_role("row")).to_have_count(2)
    page.get_by_role("button", name="By model").click()
    expect(page.get_by_role("cell", name="scripted")).to_be_visible()
    expect(page.get_by_role("columnheader", name="First word p95")).to_be_attached()
    for bars, value in (("Completed replies", "3"), ("Tokens", "33"), ("Response time", DURATION)):
        of_model = page.get_by_role("region", name=bars, exact=True).locator("[data-model=scripted]")
        expect(of_model).to_contain_text(value)
        width = of_model.locator("[data-bar]").first.evaluate("each => each.getBoundingClientRect().width")
        assert width > 20, f"{bars}: a bar of {width} px"


def test_a_dead_letter_is_read_and_tried_again(bot: ServerProcess, visits: Visits) -> None:
    """What it was about can be read; mended, the job runs; another is discarded."""
    page = visits.open(bot.address, path="/admin#queue")
    letters = page.locator("[data-letter]")
    expect(letters).to_have_count(3, timeout=30_000)
    expect(letters.first).to_contain_text("the CRM is away")
    expect(letters.first).to_contain_text("chat.message.completed · 1 attempt · last tried")
    letters.first.get_by_role("button", name="Read").click()
    letter = page.get_by_role("dialog", name="post_to_crm", exact=True)
    expect(letter).to_contain_text("conversationId")
    expect(letter).to_contain_text("ValueError: the CRM is away")
    expect(letter).to_contain_text("Owner: local")
    page.keyboard.press("Escape")
    letters.last.get_by_role("button", name="Discard").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(letters).to_have_count(2)
    (bot.folder / "mended").write_text("")
    letters.first.get_by_role("button", name="Try again").click()
    expect(letters).to_have_count(1)
    wait_until(page, (bot.folder / "posted").exists, "the job did not run again")


def test_steps_are_a_graph(bot: ServerProcess, visits: Visits) -> None:
    """The bot's own step stands in the graph and in the table, with its flow; no name is broken on a phone."""
    page = visits.open(bot.address, path="/admin#steps")
    graph = page.get_by_role("img", name="Steps and topics as a graph")
    expect(graph.locator("text", has_text="post_to_crm")).to_be_visible()
    expect(graph.locator("text", has_text="crm").first).to_be_visible()
    row = page.get_by_role("region", name="Steps", exact=True).get_by_role("row").filter(has_text="post_to_crm")
    expect(row.get_by_role("cell", name="crm", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    topic = row.get_by_text("chat.message.completed")
    expect(topic).to_be_visible()
    heights = topic.evaluate("each => [...each.getClientRects()].map(({height}) => height)")
    assert len(heights) == 1
    assert heights[0] < 24


def test_live_replies_and_sessions_are_listed(bot: ServerProcess, visits: Visits) -> None:
    """A reply that is being written is there while it is; sessions have their figures."""
    with Client(bot.port) as client:
        stream = client.post("script: tokens=1500 delay_ms=40", conversationId="c-live")
        page = visits.open(bot.address, path="/admin#runs")
        expect(page.get_by_role("cell", name="c-live")).to_be_visible()
        client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
        expect(page.get_by_text("No reply is being written")).to_be_visible()
    page.get_by_role("link", name="Sessions").click()
    expect(page.get_by_role("cell", name="session-0", exact=True)).to_be_visible()


def test_what_is_old_is_said_to_be(bot: ServerProcess, visits: Visits) -> None:
    """What cannot be asked for anew stays on the page, with the time it is of, until it can."""
    page = visits.open(bot.address, path="/admin#runs")
    visits.allow(page, "status of 503")
    shown = page.get_by_text("No reply is being written")
    expect(shown).to_be_visible()
    problem = json.dumps({"code": "storage_unavailable", "detail": "the database is away", "retryable": True})
    page.route(
        "**/admin/runs*",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=problem),
    )
    trouble = page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("Not refreshed since ")
    expect(trouble).to_contain_text("Code: storage_unavailable")
    expect(shown).to_be_visible()
    page.unroute("**/admin/runs*")
    expect(trouble).to_have_count(0)

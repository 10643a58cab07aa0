"""Tools on the page: folded calls, approval by a person, and sources."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat
from tests.server import ServerProcess


@pytest.fixture
def tooled(bot: ServerProcess, visits: Visits) -> Chat:
    return Chat(visits.open(bot.address), bot)


def test_a_call_is_folded_and_its_sources_are_shown(tooled: Chat) -> None:
    """One line says that it is done; unfolded it shows what went in and out. What it found stands below the reply."""
    reply = tooled.say('script: tokens=4 tool=look_up:{"word":"tide"}')
    call = reply.locator("[data-tool=look_up]")
    expect(call).to_have_attribute("data-stage", "done")
    expect(call.locator("summary")).to_contain_text(re.compile(r" · [\d.,]+ (ms|s)\b"))
    expect(call.get_by_text("Input")).to_be_hidden()
    call.locator("summary").click()
    expect(call.get_by_role("region", name="Input")).to_contain_text('"word": "tide"')
    expect(call.get_by_role("region", name="Output")).to_contain_text("About tide")
    sources = reply.get_by_role("region", name="Sources")
    expect(sources.get_by_role("link", name="About tide")).to_have_attribute("href", "https://example.com/about")
    expect(sources).to_contain_text("page 7")


def test_a_call_waits_for_a_person(tooled: Chat) -> None:
    """Allowed it runs; the reply goes on."""
    tooled.send('script: tokens=4 tool=wipe:{"name":"sda"}')
    call = tooled.page.locator("[data-tool=wipe]")
    expect(call).to_have_attribute("data-stage", "asked")
    expect(call.get_by_text("Allow “wipe” to run?")).to_be_visible()
    expect(call.get_by_role("region", name="Input")).to_contain_text("sda")
    tooled.button("Allow").click()
    tooled.wait_done()
    expect(call).to_have_attribute("data-stage", "done")


def test_a_refusal_tells_why(tooled: Chat) -> None:
    """The call does not run; the reason stands in what the model is told."""
    tooled.send('script: tokens=4 tool=wipe:{"name":"sdb"}')
    tooled.button("Refuse").click()
    tooled.page.get_by_role("textbox", name="Why not?").fill("not that one")
    tooled.button("Refuse").click()
    tooled.wait_done()
    call = tooled.page.locator("[data-tool=wipe]")
    expect(call).to_have_attribute("data-stage", "denied")
    call.locator("summary").click()
    expect(call.get_by_role("region", name="Output")).to_contain_text("not that one")

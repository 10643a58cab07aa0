"""How every screen looks: no violation of WCAG A and AA, nothing wider than the page; each is kept as a picture."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation
from tests.e2e.look import SIZES, inspect, inspect_colours, inspect_sizes
from tests.e2e.shop import Shop, put_widget
from tests.e2e.test_markdown import DIAGRAM, RICH
from tests.guarded import Guarded
from tests.server import ServerProcess


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def viewed(size: str, visits: Visits, served: ServerProcess) -> Chat:
    chat = Chat(visits.open(served.address, **SIZES[size]), served)
    expect(chat.field).to_be_visible()
    expect(chat.page.get_by_text("Loading")).to_have_count(0)
    return chat


def test_a_conversation(viewed: Chat, size: str) -> None:
    """Empty, being written, with everything that a reply can hold, and its boxes."""
    page = viewed.page
    inspect_colours(page, "welcome", size)
    identifier = import_conversation(
        viewed.server, "A tour of Markdown", ("Show me what you can write.", RICH + "\n" + "Word" * 80)
    )
    page.goto(f"{viewed.server.address}/c/{identifier}")
    expect(viewed.reply.locator(".katex").first).to_be_visible()
    expect(viewed.reply.locator("pre code span[style*=color]").first).to_be_visible()
    inspect_colours(page, "markdown", size)
    box = page.get_by_role("dialog")
    for keys, name in (("Control+Comma", "settings"), ("Control+/", "keys")):
        page.keyboard.press(keys)
        expect(box).to_be_visible()
        inspect_colours(page, name, size)
        page.keyboard.press("Escape")
        expect(box).to_have_count(0)
    page.keyboard.press("Control+f")
    page.keyboard.type("text")
    expect(page.get_by_role("search").get_by_role("status")).to_have_text(re.compile(" of "))
    inspect_colours(page, "find", size)
    page.keyboard.press("Escape")
    # However long it is looked at, it does not end.
    viewed.send("script: tokens=1500 delay_ms=40 stall=60@1")
    expect(viewed.replies).to_have_count(2)
    viewed.wait_begun()
    inspect_colours(page, "writing", size)
    page.keyboard.press("Escape")
    viewed.wait_done("stopped")
    inspect_colours(page, "stopped", size)
    if size == "narrow":
        viewed.button("Open the list of conversations").click()
        expect(viewed.sidebar.get_by_role("link", name="A tour of Markdown").first).to_be_visible()
        inspect(page, "list-narrow")


@pytest.mark.parametrize("section", ["figures", "queue", "steps", "runs", "sessions"])
def test_the_administration(visits: Visits, served: ServerProcess, section: str) -> None:
    """Each section, with what the other tests have left."""
    page = visits.open(served.address, path=f"/admin#{section}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("Loading")).to_have_count(0)
    inspect_sizes(page, f"admin-{section}")


def test_a_call_that_waits_and_a_dead_letter(bot: ServerProcess, size: str, visits: Visits) -> None:
    """A tool call that asks a person, and a job that failed for good, opened too."""
    chat = Chat(visits.open(bot.address, **SIZES[size]), bot)
    chat.send('script: tokens=4 tool=wipe:{"name":"sda"}')
    expect(chat.page.locator("[data-tool=wipe]")).to_have_attribute("data-stage", "asked")
    inspect_colours(chat.page, "approval", size)
    chat.button("Allow").click()
    chat.wait_done()
    chat.page.goto(f"{bot.address}/admin#queue")
    expect(chat.page.locator("[data-letter]").first).to_contain_text("the CRM is away", timeout=30_000)
    inspect_colours(chat.page, "dead-letter", size)
    chat.page.locator("[data-letter]").first.get_by_role("button", name="Read").click()
    expect(chat.page.get_by_role("dialog")).to_contain_text("conversationId")
    inspect_colours(chat.page, "dead-letter-read", size)


def test_a_diagram(viewed: Chat, size: str) -> None:
    """Mermaid takes the page's theme, also when that changes."""
    identifier = import_conversation(viewed.server, "A diagram", ("Draw.", DIAGRAM))
    viewed.page.goto(f"{viewed.server.address}/c/{identifier}")
    picture = viewed.reply.locator("[data-diagram] img")
    expect(picture).to_be_visible()
    light = str(picture.get_attribute("src"))
    inspect(viewed.page, f"diagram-{size}")
    viewed.page.emulate_media(color_scheme="dark")
    expect(picture).not_to_have_attribute("src", light)
    inspect(viewed.page, f"diagram-{size}-dark")


def test_the_sign_in_and_the_widget(size: str, visits: Visits, locked: Guarded, shop: Shop, publishable: str) -> None:
    """The form for a key, the host page with its button, and the chat in its frame."""
    page = visits.open(locked.process.address, **SIZES[size])
    visits.allow(page, "status of 401")
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    inspect_colours(page, "sign-in", size)
    host = visits.open(put_widget(shop, locked.process, publishable), locked.process.address, **SIZES[size])
    # The last is axe itself, which looks into frames of other origins.
    visits.allow(host, "favicon.ico", "status of 404", "execute 'postMessage'")
    host.get_by_role("button", name="Ask us").click()
    frame = host.frame_locator("iframe")
    field = frame.get_by_role("textbox", name="Message", exact=True)
    field.fill("script: tokens=12")
    field.press("Enter")
    expect(frame.locator("[data-role=assistant]")).to_have_attribute("data-status", "complete")
    inspect_colours(host, "widget", size)


def test_errors_and_tools(viewed: Chat, size: str) -> None:
    """A reply that failed, and one with versions."""
    viewed.send("script: fail=400@1")
    expect(viewed.page.get_by_test_id("trouble")).to_be_visible()
    viewed.say("script: tokens=30")
    viewed.button("Answer again").last.click()
    expect(viewed.page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    viewed.wait_done()
    inspect_colours(viewed.page, "versions", size)

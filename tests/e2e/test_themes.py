"""Light, dark and the system's theme, told by the colours that are painted."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation
from tests.e2e.test_markdown import DIAGRAM, RICH
from tests.server import ServerProcess

PAINTED = """() => {
  const shown = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
  return {
    page: shown("html", "backgroundColor"), ink: shown("h1", "color"), list: shown("nav", "backgroundColor"),
    mine: shown("[data-role=user] [data-text]", "backgroundColor"), code: shown(".code-block pre", "color"),
    field: shown("form > div", "backgroundColor"),
  };
}"""


def lightness(colour: str) -> float:
    """From 0, black, to 1, white."""
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]
    return sum(parts) / 3 / 255


def assert_painted(page: Page, theme: str) -> None:
    """Surfaces and words have the theme's colours."""
    page.wait_for_function(
        "dark => (Number(getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/)[0]) < 100) === dark",
        arg=theme == "dark",
    )
    painted = page.evaluate(PAINTED)
    surfaces = [lightness(painted[name]) for name in ("page", "list", "mine", "field")]
    words = [lightness(painted[name]) for name in ("ink", "code")]
    if theme == "dark":
        assert max(surfaces) < 0.25, painted
        assert min(words) > 0.7, painted
    else:
        assert min(surfaces) > 0.85, painted
        assert max(words) < 0.3, painted


def choose(chat: Chat, theme: str) -> None:
    chat.menu(chat.button("More"), "Preferences")
    chat.page.get_by_label("Theme", exact=True).select_option(theme)
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)


def open_themed(visits: Visits, server: ServerProcess, system: str) -> Chat:
    identifier = import_conversation(server, "Themes", ("Write.", RICH + DIAGRAM))
    chat = Chat(visits.open(server.address, path=f"/c/{identifier}", color_scheme=system), server)
    expect(chat.reply.locator("[data-diagram] img")).to_be_visible()
    return chat


@pytest.mark.parametrize(("system", "chosen"), [("dark", "light"), ("light", "dark")])
def test_a_chosen_theme_is_stronger_than_the_system(
    visits: Visits, served: ServerProcess, system: str, chosen: str
) -> None:
    """At once, over a reload before anything is painted, while the system changes, and in another tab."""
    chat = open_themed(visits, served, system)
    page = chat.page
    assert_painted(page, system)
    before = chat.reply.locator("[data-diagram] img").get_attribute("src") or ""
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".code-block pre").first).to_be_visible()
    choose(chat, chosen)
    assert_painted(page, chosen)
    assert_painted(other, chosen)
    # A diagram is painted anew.
    expect(chat.reply.locator("[data-diagram] img")).not_to_have_attribute("src", before)
    page.reload(wait_until="commit")
    page.wait_for_function("() => document.readyState !== 'loading' || document.documentElement.dataset.theme")
    assert page.evaluate("document.documentElement.dataset.theme") == chosen
    expect(page.locator(".code-block pre").first).to_be_visible()
    for now in ("light", "dark"):
        page.emulate_media(color_scheme=now)
        assert_painted(page, chosen)
    choose(chat, "system")
    assert_painted(page, "dark")


def test_the_page_follows_the_system(visits: Visits, served: ServerProcess) -> None:
    """When the system changes while the page is open, so does the page, its diagrams too."""
    chat = open_themed(visits, served, "light")
    picture = chat.reply.locator("[data-diagram] img")
    for theme in ("light", "dark", "light"):
        before = picture.get_attribute("src") or ""
        changes = chat.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") != (theme == "dark")
        chat.page.emulate_media(color_scheme=theme)
        assert_painted(chat.page, theme)
        if changes:
            expect(picture).not_to_have_attribute("src", before)

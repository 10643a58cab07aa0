"""A narrow page: the list lies over the conversation, and the focus goes with it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation
from tests.server import ServerProcess


@pytest.fixture
def narrow(visits: Visits, served: ServerProcess) -> Chat:
    chat = Chat(visits.open(served.address, width=390, height=844), served)
    expect(chat.field).to_be_visible()
    return chat


def opener(chat: Chat) -> Locator:
    return chat.page.get_by_role("button", name="Open the list of conversations")


def test_the_list_takes_the_focus_and_gives_it_back(narrow: Chat) -> None:
    """By Esc and by its own button; no Tab leads out of it while it is open."""
    for close in ("Escape", "Enter"):
        opener(narrow).focus()
        narrow.page.keyboard.press("Enter")
        own = narrow.page.get_by_role("dialog", name="Conversations")
        expect(own).to_be_visible()
        expect(own.get_by_role("button", name="Close the list of conversations")).to_be_focused()
        for _ in range(25):
            narrow.page.keyboard.press("Tab")
            assert narrow.page.evaluate("document.querySelector('main').contains(document.activeElement)") is False
        own.get_by_role("button", name="Close the list of conversations").focus()
        narrow.page.keyboard.press(close)
        expect(narrow.sidebar).to_have_count(0)
        expect(opener(narrow)).to_be_focused()


def test_the_field_has_the_focus_again_where_it_was_there(narrow: Chat) -> None:
    """The list may be opened by key from anywhere; searching goes to the search field at once."""
    narrow.field.fill("half a thou")
    narrow.page.keyboard.press("Control+b")
    expect(narrow.sidebar.get_by_role("button", name="Close the list of conversations")).to_be_focused()
    narrow.page.keyboard.press("Escape")
    expect(narrow.field).to_be_focused()
    narrow.page.keyboard.press("Control+k")
    expect(narrow.sidebar.get_by_role("searchbox")).to_be_focused()
    narrow.page.keyboard.press("Escape")
    expect(narrow.field).to_be_focused()
    narrow.page.keyboard.type("ght")
    expect(narrow.field).to_have_value("half a thought")


def test_what_is_chosen_in_the_list_is_shown(narrow: Chat) -> None:
    """The list goes, and the focus does not stay behind in the conversation that was there."""
    identifier = import_conversation(narrow.server, "Narrow and chosen", ("Hello", "Hi there"))
    opener(narrow).click()
    narrow.row("Narrow and chosen").click()
    expect(narrow.sidebar).to_have_count(0)
    expect(narrow.reply).to_contain_text("Hi there")
    assert narrow.conversation_id == identifier
    expect(narrow.field).to_be_focused()

"""Signing in with a key, and the widget on a page of another origin."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat
from tests.e2e.shop import Shop, put_widget
from tests.guarded import Guarded


def test_a_key_signs_in(locked: Guarded, visits: Visits) -> None:
    """A wrong key is refused in words, a right one opens the chat; signed out it is closed again."""
    page = visits.open(locked.process.address)
    visits.allow(page, "status of 401")
    field = page.get_by_label("Key", exact=True)
    button = page.get_by_role("button", name="Sign in")
    for wrong, words in (
        ("nonsense", "begins with lk_"),
        ("lp_123", "publishable key"),
        ("lk_wrong", "not known"),
    ):
        field.fill(wrong)
        button.click()
        expect(page.get_by_role("alert")).to_contain_text(words)
    field.fill(locked.keys["ben"])
    button.click()
    chat = Chat(page, locked.process)
    chat.say("script: seed=61 tokens=3")
    chat.expect_tokens(61, 3)
    assert page.evaluate("document.cookie") == ""
    stored = page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
    assert locked.keys["ben"] not in stored
    page.reload()
    chat.expect_tokens(61, 3)
    chat.menu(chat.button("More"), "Sign out")
    expect(field).to_be_visible()
    page.reload()
    expect(field).to_be_visible()


def test_the_administration_is_for_administrators(locked: Guarded, visits: Visits) -> None:
    """A member is told so; an administrator sees it."""
    for owner, words in (("ben", "for administrators"), ("ann", "Figures")):
        page = visits.open(locked.process.address, path="/admin")
        visits.allow(page, "status of 401")
        page.get_by_label("Key", exact=True).fill(locked.keys[owner])
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("main")).to_contain_text(words)


def test_the_widget_chats_on_a_page_of_its_origin(
    locked: Guarded, visits: Visits, shop: Shop, publishable: str
) -> None:
    """One line of script: a button, a frame, a chat that is still there after a reload."""
    address = put_widget(shop, locked.process, publishable)
    page = visits.open(address, locked.process.address)
    visits.allow(page, "favicon.ico", "status of 404")
    page.get_by_role("button", name="Ask us").click()
    frame = page.frame_locator("iframe")
    field = frame.get_by_role("textbox", name="Message", exact=True)
    field.fill("script: seed=62 tokens=5")
    field.press("Enter")
    reply = frame.locator("[data-role=assistant]")
    expect(reply).to_have_attribute("data-status", "complete")
    expect(reply).to_contain_text("62.4")
    page.reload()
    page.get_by_role("button", name="Ask us").click()
    expect(reply).to_contain_text("62.4")
    frame.get_by_role("button", name="Close the chat").click()
    expect(page.locator("iframe")).to_be_hidden()


def test_the_widget_is_not_shown_elsewhere(locked: Guarded, visits: Visits, shop: Shop, publishable: str) -> None:
    """A page of another origin gets no chat, whatever it knows."""
    address = put_widget(shop, locked.process, publishable).replace("127.0.0.1", "localhost")
    page = visits.open(address, locked.process.address)
    # The last is the loader's, where this takes longer than 10 seconds.
    visits.allow(page, "favicon.ico", "status of 404", "frame-ancestors", "the chat did not open")
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.get_by_role("button", name="Ask us").click()
    expect(page.frame_locator("iframe").get_by_role("textbox")).to_have_count(0)


def test_a_secret_key_is_no_widget(locked: Guarded, visits: Visits, shop: Shop) -> None:
    """The loader does not use it, and the server refuses it in words."""
    address = put_widget(shop, locked.process, locked.keys["ben"])
    page = visits.open(address, locked.process.address)
    visits.allow(page, "favicon.ico", "status of 404", "status of 403", "data-key")
    expect(page.get_by_role("heading", name="A shop with a chat")).to_be_visible()
    expect(page.get_by_role("button", name="Ask us")).to_have_count(0)
    page.goto(f"{locked.process.address}/widget?key={locked.keys['ben']}")
    expect(page.get_by_role("heading")).to_have_text("This key is secret")

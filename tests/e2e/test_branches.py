"""Answer again, edit, and go through the versions; settings, feedback, find and keys of one conversation."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.client import Client
from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation


def test_answering_again_makes_a_version(chat: Chat) -> None:
    """The new reply stands beside the old one; both can be shown, and a reload keeps the choice."""
    reply = chat.say("script: tokens=5")
    first = reply.get_attribute("data-message")
    chat.button("Answer again").click()
    versions = chat.page.get_by_role("group", name="Version 2 of 2")
    expect(versions).to_be_visible()
    chat.wait_done()
    with chat.answered("PATCH", "leafId"):
        chat.button("Previous version").click()
    expect(chat.reply).to_have_attribute("data-message", first or "")
    chat.page.reload()
    expect(chat.page.get_by_role("group", name="Version 1 of 2")).to_be_visible()


def test_an_edit_makes_a_branch(chat: Chat) -> None:
    """The edited message gets a reply of its own; the old branch comes back with its own."""
    chat.say("script: seed=41 tokens=4")
    chat.say("script: seed=42 tokens=4")
    chat.page.locator("[data-role=user]").first.hover()
    chat.button("Edit").first.click()
    field = chat.page.get_by_role("textbox", name="Edit your message")
    field.fill("script: seed=43 tokens=6")
    field.press("Enter")
    expect(chat.page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    expect(chat.replies).to_have_count(1)
    chat.wait_done()
    chat.expect_tokens(43, 6)
    chat.button("Previous version").click()
    expect(chat.replies).to_have_count(2)
    chat.expect_tokens(42, 4)


def test_the_arrow_up_edits_the_last_message(chat: Chat) -> None:
    """In an empty field; Esc takes the edit back."""
    chat.say("script: tokens=3")
    chat.field.press("ArrowUp")
    field = chat.page.get_by_role("textbox", name="Edit your message")
    expect(field).to_have_value("script: tokens=3")
    expect(chat.page.get_by_text("Sending makes a new version; the old one stays.")).to_be_visible()
    field.press("Escape")
    expect(field).to_have_count(0)


def test_thumbs_take_a_reason(chat: Chat) -> None:
    """The thumb and the reason are on the server; the same press takes it back."""
    reply = chat.say("script: tokens=3")
    identifier = reply.get_attribute("data-message")
    chat.button("Bad reply").click()
    chat.page.get_by_role("textbox", name="Your reason").fill("It is nonsense.")
    with chat.answered("PUT", "It is nonsense."):
        chat.page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(chat.button("Bad reply")).to_have_attribute("aria-pressed", "true")
    with Client(chat.server.port) as client:
        messages = client.get(f"/conversations/{chat.conversation_id}/messages")["messages"]
        feedback = next(each["feedback"] for each in messages if each["id"] == identifier)
    assert (feedback["thumb"], feedback["reason"]) == ("down", "It is nonsense.")
    chat.button("Bad reply").click()
    expect(chat.button("Bad reply")).to_have_attribute("aria-pressed", "false")


def test_settings_belong_to_the_conversation(chat: Chat) -> None:
    """Chosen before the first message they make the conversation; later they change it."""
    chat.page.keyboard.press("Control+Comma")
    box = chat.page.get_by_role("dialog")
    box.get_by_label("Model").select_option("other")
    box.get_by_label("System prompt").fill("Be brief.")
    box.get_by_role("button", name="Save").click()
    reply = chat.say("script: tokens=3")
    expect(reply.get_by_test_id("details")).to_contain_text("other")
    with Client(chat.server.port) as client:
        assert client.get(f"/conversations/{chat.conversation_id}")["systemPrompt"] == "Be brief."
        chat.button("Settings").click()
        expect(box.get_by_label("System prompt")).to_have_value("Be brief.")
        box.get_by_label("Temperature").fill("0.2")
        with chat.answered("PATCH"):
            box.get_by_role("button", name="Save").click()
        assert client.get(f"/conversations/{chat.conversation_id}")["temperature"] == 0.2


def test_find_sees_the_whole_conversation(chat: Chat) -> None:
    """Words far above are found, counted and brought into sight."""
    turns = [(f"Question {number}", f"Answer {number}. " * 30) for number in range(80)]
    turns[3] = ("Question 3", "The lighthouse blinks twice.")
    identifier = import_conversation(chat.server, "Lights", *turns)
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    expect(chat.page.get_by_text("Question 79")).to_be_visible()
    chat.page.keyboard.press("Control+f")
    chat.page.get_by_role("textbox", name="Find in this conversation").fill("lighthouse")
    expect(chat.page.get_by_role("search").get_by_role("status")).to_have_text("1 of 1")
    expect(chat.page.get_by_text("The lighthouse blinks twice.")).to_be_in_viewport()
    chat.page.wait_for_function("() => CSS.highlights.get('found-now')?.size === 1")
    chat.page.keyboard.press("Escape")
    chat.page.wait_for_function("() => !CSS.highlights.has('found')")


def test_german_is_a_language(visits: Visits, chat: Chat) -> None:
    """A German browser gets German; the choice of another language holds over a reload."""
    german = visits.open(chat.server.address, locale="de-DE")
    expect(german.get_by_role("textbox", name="Nachricht", exact=True)).to_be_visible()
    german.get_by_role("button", name="Mehr").click()
    german.get_by_role("menuitem", name="Farben und Sprache").click()
    german.get_by_label("Sprache", exact=True).select_option("en")
    german.reload()
    expect(german.get_by_role("textbox", name="Message", exact=True)).to_be_visible()

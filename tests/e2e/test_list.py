"""The list of conversations: find, rename, pin, archive, delete, import and export, temporary chats."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import APIResponse, Route, expect

from tests.client import Client
from tests.e2e.browser import Visits, wait_until
from tests.e2e.chat import Chat, import_conversation


@pytest.fixture
def titled(chat: Chat) -> str:
    """A conversation in the list, opened; its title is unlike any other."""
    title = f"Harbour {chat.page.evaluate('Math.random()')}"
    identifier = import_conversation(chat.server, title, ("How deep is the quay?", "Eleven fathoms."))
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    expect(chat.row(title)).to_be_visible()
    return title


def test_search_finds_titles_and_texts(chat: Chat, titled: str) -> None:
    """A word of a message or of the title leads to it; a word of neither says so."""
    field = chat.page.get_by_role("searchbox", name="Search titles and messages")
    chat.page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    field.fill("fathoms")
    result = chat.page.get_by_test_id("results").get_by_role("link").filter(has_text=titled)
    expect(result).to_contain_text("Eleven fathoms")
    expect(result.locator("mark")).to_have_text("fathoms")
    field.fill(titled)
    expect(chat.page.get_by_test_id("results").get_by_role("link").first).to_contain_text(titled)
    field.fill("nowhere-to-be-found")
    expect(chat.sidebar.get_by_text("Nothing found")).to_be_visible()
    field.press("Escape")
    expect(chat.row(titled)).to_be_visible()


def test_a_result_opens_its_message(chat: Chat) -> None:
    """A result in the middle of a long conversation brings that message into sight."""
    turns = [(f"Question {number}", f"Answer {number}. " * 20) for number in range(60)]
    turns[5] = ("Question 5", "Here stands the kingfisher. " * 3)
    import_conversation(chat.server, "Birds", *turns)
    chat.page.get_by_role("searchbox").fill("kingfisher")
    chat.page.get_by_test_id("results").get_by_role("link").first.click()
    expect(chat.page.get_by_test_id("messages").get_by_text("Here stands the kingfisher.").first).to_be_in_viewport()


def test_a_conversation_is_renamed(chat: Chat, titled: str) -> None:
    """The title is another at once, and after a reload."""
    chat.choose(titled, "Rename")
    name = chat.sidebar.get_by_role("textbox", name="Title of the conversation")
    name.fill(f"{titled} renamed")
    with chat.answered("PATCH", "title"):
        name.press("Enter")
        expect(chat.row(f"{titled} renamed")).to_be_visible()
    chat.page.reload()
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(f"{titled} renamed")


def test_an_answer_that_comes_late_takes_nothing_back(chat: Chat, titled: str) -> None:
    """A conversation that is pinned before the answer to its renaming has come stays pinned."""
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if "title" in (route.request.post_data or ""):
            held.append((route, route.fetch()))
        else:
            route.fallback()

    chat.page.route("**/conversations/*", hold)
    chat.choose(titled, "Rename")
    name = chat.sidebar.get_by_role("textbox", name="Title of the conversation")
    name.fill(f"{titled} renamed")
    name.press("Enter")
    # The server has it, and knows nothing of a pin yet.
    wait_until(chat.page, lambda: held, "the new title was not answered")
    with chat.answered("PATCH", "pinned"):
        chat.choose(f"{titled} renamed", "Pin")
    ((route, answer),) = held
    with chat.page.expect_response(lambda response: "title" in (response.request.post_data or "")):
        route.fulfill(response=answer)
    chat.page.evaluate("new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)))")
    pinned = chat.sidebar.get_by_role("region", name="Pinned")
    expect(pinned.get_by_role("link", name=f"{titled} renamed")).to_be_visible()


def test_a_pinned_conversation_stands_first(chat: Chat, titled: str) -> None:
    """Pinned ones have a group of their own on top; unpinned they go back."""
    pinned = chat.sidebar.get_by_role("region", name="Pinned")
    with chat.answered("PATCH", "pinned"):
        chat.choose(titled, "Pin")
        expect(pinned.get_by_role("link", name=titled)).to_be_visible()
    chat.page.reload()
    expect(chat.sidebar.get_by_role("link", name=titled)).to_be_visible()
    expect(pinned.get_by_role("link", name=titled)).to_be_visible()
    chat.choose(titled, "Unpin")
    expect(pinned.get_by_role("link", name=titled)).to_have_count(0)


def test_an_archived_conversation_is_in_the_archive(chat: Chat, titled: str) -> None:
    """It leaves the list, stands in the archive, and comes back."""
    with chat.answered("PATCH", "archived"):
        chat.choose(titled, "Archive")
        expect(chat.row(titled)).to_have_count(0)
    chat.menu(chat.button("More"), "Archive")
    expect(chat.row(titled)).to_be_visible()
    with chat.answered("PATCH", "archived"):
        chat.choose(titled, "Move out of the archive")
        expect(chat.row(titled)).to_have_count(0)
    chat.button("Back to conversations").click()
    expect(chat.row(titled)).to_be_visible()


def test_a_deletion_can_be_undone(chat: Chat, titled: str) -> None:
    """It is gone at once, and back with one press; nothing was deleted."""
    identifier = chat.conversation_id
    chat.choose(titled, "Delete")
    expect(chat.row(titled)).to_have_count(0)
    chat.page.get_by_test_id("toast").get_by_role("button", name="Undo").click()
    expect(chat.row(titled)).to_be_visible()
    with Client(chat.server.port) as client:
        assert client.get(f"/conversations/{identifier}")["title"] == titled


def test_a_deletion_is_carried_out(chat: Chat, titled: str) -> None:
    """When the note with the way back has gone, so has the conversation on the server."""
    identifier = chat.conversation_id
    chat.choose(titled, "Delete")
    with chat.page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        chat.page.get_by_test_id("toast").get_by_role("button", name="Close").click()
    assert deleted.value.status == 204
    with Client(chat.server.port) as client:
        assert client.ask("GET", f"/conversations/{identifier}").status == 404


def test_a_deletion_outlives_its_page(chat: Chat, titled: str) -> None:
    """Leaving the page does not bring a deleted conversation back."""
    identifier = chat.conversation_id
    chat.choose(titled, "Delete")
    expect(chat.page.get_by_test_id("toast")).to_be_visible()
    chat.page.goto("about:blank")
    with Client(chat.server.port) as client:
        path = f"/conversations/{identifier}"
        wait_until(chat.page, lambda: client.ask("GET", path).status == 404, "the conversation is still there")


def retention(chat: Chat) -> str:
    with Client(chat.server.port) as client:
        return str(client.get(f"/conversations/{chat.conversation_id}")["retention"])


def test_what_a_person_writes_is_kept(chat: Chat) -> None:
    """A conversation that is begun on the page is never cleaned up; its title and address come with the reply."""
    chat.send("script: seed=32 tokens=60 delay_ms=20 in the harbour")
    chat.wait_begun(32)
    expect(chat.page.get_by_role("heading", level=1)).to_contain_text("script: seed=32")
    expect(chat.sidebar.get_by_role("link", name="script: seed=32")).to_be_visible()
    chat.wait_done()
    chat.say("script: seed=33 tokens=3")
    expect(chat.replies).to_have_count(2)
    assert retention(chat) == "keep"


def test_a_refused_first_message_leaves_no_entry(chat: Chat, visits: Visits) -> None:
    """The list shows nothing of it; sent again it is the only message of one conversation, which is kept."""
    visits.allow(chat.page, "status of 429")
    refusal = {"title": "busy", "status": 429, "code": "overloaded", "detail": "busy", "retryable": True}
    chat.page.route(
        "**/chat/stream",
        lambda route: route.fulfill(
            status=429, content_type="application/problem+json", body=json.dumps(refusal), headers={"retry-after": "1"}
        ),
    )
    with Client(chat.server.port) as client:
        before = {each["id"] for each in client.get("/conversations?limit=200")["conversations"]}
    links = chat.sidebar.locator("a[href^='/c/']")
    if before:
        expect(links.first).to_be_visible()
    shown = links.count()
    # What was made for it goes from the server, too.
    with chat.answered("DELETE"):
        chat.send("script: seed=34 tokens=4")
    expect(chat.page.get_by_test_id("trouble")).to_be_visible()
    visits.wait_calm(chat.page)
    assert links.count() == shown
    chat.page.unroute("**/chat/stream")
    chat.button("Try again").first.click()
    expect(chat.replies).to_have_count(1)
    chat.wait_done()
    chat.expect_tokens(34, 4)
    with Client(chat.server.port) as client:
        made = [each for each in client.get("/conversations?limit=200")["conversations"] if each["id"] not in before]
        assert [(each["id"], each["messageCount"]) for each in made] == [(chat.conversation_id, 2)]
    assert retention(chat) == "keep"


def test_a_temporary_chat_is_not_listed(chat: Chat) -> None:
    """It answers like any other, and the list does not know it."""
    chat.button("Temporary chat").click()
    expect(chat.page.get_by_text("This chat is temporary")).to_be_visible()
    chat.say("script: seed=31 tokens=4 hush")
    chat.expect_tokens(31, 4)
    with Client(chat.server.port) as client:
        listed = client.get("/conversations?limit=200")["conversations"]
        assert chat.conversation_id not in [each["id"] for each in listed]
        assert client.get(f"/conversations/{chat.conversation_id}")["temporary"] is True
    assert retention(chat) == "default"

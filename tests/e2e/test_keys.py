"""By keyboard alone: no test here uses the mouse, except where it is about the mouse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.client import Client
from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation
from tests.e2e.keyboard import expect_focus, expect_later_focus, focused, press, tab_to
from tests.server import ServerProcess

CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture
def keyed(visits: Visits, served: ServerProcess) -> Chat:
    """A new chat on a page that may use the clipboard."""
    chat = Chat(visits.open(served.address, permissions=CLIPBOARD), served)
    expect(chat.field).to_be_focused()
    return chat


def clipboard(chat: Chat) -> str:
    return str(chat.page.evaluate("navigator.clipboard.readText()"))


def test_a_conversation_needs_no_mouse(keyed: Chat) -> None:
    """Send, stop, answer again, versions, copy, thumbs with a reason, edit: the focus is never lost on the way."""
    page = keyed.page
    page.keyboard.type("script: seed=81 tokens=1500 delay_ms=40")
    press(page, "Enter")
    keyed.wait_begun(81)
    tab_to(page, "Stop")
    press(page, "Enter")
    keyed.wait_done("stopped")
    expect_focus(page, "Message")

    tab_to(page, "Answer again", back=True)
    press(page, "Enter")
    keyed.wait_done("running")
    keyed.wait_begun(81)
    press(page, "Escape")
    keyed.wait_done("stopped")

    expect(page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    press(page, "/")
    tab_to(page, "Previous version", back=True)
    with keyed.answered("PATCH", "leafId"):
        press(page, "Enter")
    expect(page.get_by_role("group", name="Version 1 of 2")).to_be_visible()
    expect_focus(page, "Next version")
    with keyed.answered("PATCH", "leafId"):
        press(page, "Enter")
    expect(page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    expect_focus(page, "Previous version")

    tab_to(page, "Copy")
    # It says so for a moment only.
    seen = expect_later_focus(page, "Copied")
    press(page, "Enter")
    seen()
    with Client(keyed.server.port) as client:
        path = f"/conversations/{keyed.conversation_id}/messages"
        assert clipboard(keyed) == client.get(path)["messages"][-1]["content"]

        tab_to(page, "Bad reply")
        press(page, "Enter")
        expect_focus(page, "Your reason")
        page.keyboard.type("Too long.")
        tab_to(page, "Send")
        with keyed.answered("PUT", "Too long."):
            press(page, "Enter")
        expect_focus(page, "Bad reply")
        expect(keyed.button("Bad reply")).to_have_attribute("aria-pressed", "true")
        said = client.get(path)["messages"][-1]["feedback"]
        assert (said["thumb"], said["reason"]) == ("down", "Too long.")

    press(page, "/", "ArrowUp")
    expect_focus(page, "Edit your message")
    press(page, "Escape")
    expect_focus(page, "Message")
    tab_to(page, "Edit", back=True)
    press(page, "Enter")
    expect_focus(page, "Edit your message")
    press(page, "Escape")
    expect_focus(page, "Edit")
    press(page, "Enter", "Control+a")
    page.keyboard.type("script: seed=82 tokens=3")
    press(page, "Enter")
    expect(page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    keyed.wait_done()
    keyed.expect_tokens(82, 3)


def test_the_list_needs_no_mouse(keyed: Chat) -> None:
    """Rename, pin, archive, delete and undo: after each the focus is where one goes on."""
    page, server = keyed.page, keyed.server
    import_conversation(server, "Kelp below", ("Hello", "Hello."))
    identifier = import_conversation(server, "Kelp", ("Hello", "Hello."))
    page.goto(f"{server.address}/c/{identifier}")
    expect(keyed.row("Kelp")).to_be_visible()

    def act(title: str, *keys: str) -> None:
        expect_focus(page, title)
        press(page, "Tab")
        expect_focus(page, f"Actions for “{title}”")
        press(page, "Enter")
        expect_focus(page, "Rename")
        press(page, *keys, "Enter")

    press(page, "Control+k")
    tab_to(page, "Kelp")
    act("Kelp")
    expect_focus(page, "Title of the conversation")
    page.keyboard.type("Never")
    press(page, "Escape")
    act("Kelp")
    expect_focus(page, "Title of the conversation")
    page.keyboard.type("Kelp forest")
    with keyed.answered("PATCH", "title"):
        press(page, "Enter")
    with keyed.answered("PATCH", "pinned"):
        act("Kelp forest", "ArrowDown")
    pinned = keyed.sidebar.get_by_role("region", name="Pinned")
    expect(pinned.get_by_role("link", name="Kelp forest")).to_be_visible()
    with keyed.answered("PATCH", "pinned"):
        act("Kelp forest", "ArrowDown")
    expect(pinned.get_by_role("link", name="Kelp forest")).to_have_count(0)
    act("Kelp forest", "ArrowDown", "ArrowDown")
    expect_focus(page, "Undo")
    expect(keyed.row("Kelp forest")).to_have_count(0)
    with keyed.answered("PATCH", "archived"):
        press(page, "Enter")
    expect(keyed.row("Kelp forest")).to_be_visible()
    act("Kelp forest", "End")
    expect_focus(page, "Undo")
    expect(keyed.row("Kelp forest")).to_have_count(0)
    press(page, "Enter")
    expect(keyed.row("Kelp forest")).to_be_visible()
    # It is the conversation that is shown: one goes on in its field.
    expect_focus(page, "Message")
    press(page, "Control+k")
    tab_to(page, "Kelp forest")
    act("Kelp forest", "ArrowUp")
    expect_focus(page, "Undo")
    press(page, "Tab")
    expect_focus(page, "Close")
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        press(page, "Enter")
    assert deleted.value.status == 204
    expect_focus(page, "Kelp below")
    with Client(server.port) as client:
        assert client.ask("GET", f"/conversations/{identifier}").status == 404


def test_a_note_goes_by_itself_after_another_was_pressed_away(keyed: Chat) -> None:
    """A second deletion is carried out when its time is over, with the mouse where the first note was closed."""
    page, server = keyed.page, keyed.server
    for title in ("Driftwood", "Driftnet"):
        import_conversation(server, title, ("Hello", "Hello."))
    page.reload()
    for title in ("Driftwood", "Driftnet"):
        with keyed.answered("DELETE"):
            keyed.choose(title, "Delete")
            toast = page.get_by_test_id("toast").filter(has_text=title)
            expect(toast).to_be_visible()
            if title == "Driftwood":
                toast.get_by_role("button", name="Close").click()
                expect(toast).to_have_count(0)
            page.mouse.move(1, 1)


def test_every_key_of_the_sheet_does_what_it_says(keyed: Chat) -> None:
    """The sheet lists what is tried here, and nothing else."""
    page, server = keyed.page, keyed.server
    field = keyed.field
    import_conversation(server, "Oyster", ("Hello", "The older one."))
    newer = import_conversation(server, "Mussel", ("Hello", "The newer one."))
    page.goto(f"{server.address}/c/{newer}")
    expect(keyed.row("Oyster")).to_be_visible()
    expect(keyed.reply).to_contain_text("The newer one.")
    dialog = page.get_by_role("dialog")

    def send() -> None:
        field.press("Control+a")
        page.keyboard.type("script: seed=83 tokens=1500 delay_ms=40")
        press(page, "Enter")
        keyed.wait_begun(83)

    def new_line() -> None:
        field.fill("")
        page.keyboard.type("one")
        press(page, "Shift+Enter")
        page.keyboard.type("two")
        expect(field).to_have_value("one\ntwo")
        field.fill("")

    def stop() -> None:
        # What is open closes first: the reply goes on.
        press(page, "Control+f", "Escape")
        expect(page.get_by_role("search")).to_have_count(0)
        expect(keyed.reply).to_have_attribute("data-status", "running")
        press(page, "Escape")
        keyed.wait_done("stopped")

    def edit_last() -> None:
        field.focus()
        press(page, "ArrowUp")
        expect(page.get_by_role("textbox", name="Edit your message")).to_be_focused()
        press(page, "Escape")

    def copy_last() -> None:
        press(page, "Alt+c")
        page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('83.0') || null")

    def to_field() -> None:
        field.evaluate("each => each.blur()")
        press(page, "/")
        expect(field).to_be_focused()
        expect(field).to_have_value("")

    def find() -> None:
        press(page, "Control+f")
        expect(page.get_by_role("textbox", name="Find in this conversation")).to_be_focused()
        press(page, "Escape")
        expect(field).to_be_focused()

    def settings() -> None:
        press(page, "Control+Comma")
        expect(page.get_by_role("dialog", name="Conversation settings")).to_be_visible()
        press(page, "Escape")
        expect(dialog).to_have_count(0)

    def new() -> None:
        press(page, "Control+Shift+O")
        expect(page.get_by_text("What is on your mind?")).to_be_visible()
        expect(field).to_be_focused()
        page.go_back()
        expect(keyed.reply).to_have_attribute("data-status", "stopped")

    def search() -> None:
        press(page, "Control+b")
        expect(keyed.sidebar).to_have_count(0)
        press(page, "Control+k")
        page.keyboard.type("x")
        expect(page.get_by_role("searchbox")).to_have_value("x")
        press(page, "Escape")
        expect(page.get_by_role("searchbox")).to_have_value("")

    def move() -> None:
        # The search before this left the list to come back.
        expect(keyed.sidebar.locator(f"a[href='/c/{newer}']")).to_be_visible()
        expect(keyed.sidebar.locator("a[href^='/c/']").nth(1)).to_be_visible()
        links = keyed.sidebar.locator("a[href^='/c/']")
        listed = links.evaluate_all("all => all.map((each) => each.getAttribute('href'))")
        at = listed.index(f"/c/{newer}")
        press(page, "Alt+ArrowDown")
        page.wait_for_url(f"**{listed[at + 1]}")
        press(page, "Alt+ArrowUp")
        page.wait_for_url(f"**/c/{newer}")
        expect(keyed.replies).to_have_count(2)

    def sidebar() -> None:
        for there in (0, 1):
            press(page, "Control+b")
            expect(keyed.sidebar).to_have_count(there)

    def sheet() -> None:
        field.focus()
        page.keyboard.type("?")
        expect(field).to_have_value("?")
        field.fill("")
        field.evaluate("each => each.blur()")
        page.keyboard.type("?")
        expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        listed = dialog.locator("dl > div")
        assert {row.locator("dt").inner_text(): row.locator("kbd").all_inner_texts() for row in listed.all()} == {
            words: list(keys) for words, (keys, _) in rows.items()
        }
        press(page, "Escape")
        expect(dialog).to_have_count(0)

    rows: dict[str, tuple[tuple[str, ...], Callable[[], None]]] = {
        "Send": (("Enter",), send),
        "Stop the reply; close what is open": (("Esc",), stop),
        "New line": (("Shift", "Enter"), new_line),
        "Edit your last message (in an empty field)": (("↑",), edit_last),
        "Copy the last reply": (("Alt", "C"), copy_last),
        "To the message field": (("/",), to_field),
        "Find in this conversation": (("Ctrl", "F"), find),
        "Conversation settings": (("Ctrl", ","), settings),
        "New chat": (("Ctrl", "Shift", "O"), new),
        "Search conversations": (("Ctrl", "K"), search),
        "Next or previous conversation": (("Alt", "↓ ↑"), move),
        "Show or hide the list": (("Ctrl", "B"), sidebar),
        "This list": (("?",), sheet),
    }
    for _, check in rows.values():
        check()


def test_a_menu_moves_by_keys(keyed: Chat) -> None:
    """Arrows go round, Home and End to the ends; Esc and Tab close it, and Esc gives the focus back."""
    page = keyed.page
    press(page, "Control+k")
    tab_to(page, "More")
    for key in ("Enter", "Space"):
        press(page, key)
        menu = page.get_by_role("menu", name="More")
        expect(menu).to_be_visible()
        names = menu.get_by_role("menuitem").all_inner_texts()
        assert names == [
            "Preferences",
            "Keyboard shortcuts",
            "Import a conversation",
            "Archive",
            "Administration",
        ]
        seen = [focused(page)]
        for move in ("ArrowUp", "ArrowUp", "Home", "ArrowDown", "End", "ArrowDown"):
            press(page, move)
            seen.append(focused(page))
        assert seen == [names[at] for at in (0, -1, -2, 0, 1, -1, 0)]
        press(page, "Escape")
        expect(menu).to_have_count(0)
        expect_focus(page, "More")
    press(page, "Enter")
    expect(menu).to_be_visible()
    press(page, "Tab")
    expect(menu).to_have_count(0)
    keyed.button("More").click()
    expect(menu).to_be_visible()
    keyed.button("More").click()
    expect(menu).to_have_count(0)


def test_an_open_menu_keeps_escape_from_the_reply(keyed: Chat) -> None:
    """Esc closes the menu, and the reply goes on."""
    keyed.send("script: seed=84 tokens=1500 delay_ms=40")
    keyed.wait_begun(84)
    keyed.button("Export").click()
    expect(keyed.page.get_by_role("menu")).to_be_visible()
    press(keyed.page, "Escape")
    expect(keyed.page.get_by_role("menu")).to_have_count(0)
    expect_focus(keyed.page, "Export")
    expect(keyed.reply).to_contain_text(f"84.{len(keyed.shown(84)) + 5}")
    expect(keyed.reply).to_have_attribute("data-status", "running")
    press(keyed.page, "Escape")
    keyed.wait_done("stopped")


DIALOGS = {
    "settings": ("Settings", None, "Model", ("Cancel", "Close", "Save", "Escape")),
    "preferences": ("More", "Preferences", "Theme", ("Close", "Escape")),
    "sheet": ("More", "Keyboard shortcuts", "Close", ("Close", "Escape")),
    "feedback": ("Good reply", None, "Your reason", ("Cancel", "Close", "Send", "Escape")),
}


@pytest.mark.parametrize("name", DIALOGS)
def test_a_dialog_keeps_the_focus_and_gives_it_back(keyed: Chat, name: str) -> None:
    """Tab stays inside, however it is closed; the focus goes back to what opened it."""
    opener, item, first, ways = DIALOGS[name]
    page = keyed.page
    identifier = import_conversation(keyed.server, "Dialogs", ("Hello", "Hello."))
    page.goto(f"{keyed.server.address}/c/{identifier}")
    expect(keyed.reply).to_contain_text("Hello.")
    dialog = page.get_by_role("dialog")
    outside = "() => !(document.activeElement.closest('dialog') || document.activeElement === document.body)"
    press(page, "Control+k")
    tab_to(page, opener)
    for way in ways:
        if name == "feedback" and way != ways[0]:
            press(page, "Enter")
            expect(keyed.button(opener)).to_have_attribute("aria-pressed", "false")
        press(page, "Enter")
        if item:
            expect_focus(page, "Preferences")
            press(page, *(["ArrowDown"] if item != "Preferences" else []), "Enter")
        expect(dialog).to_be_visible()
        expect_focus(page, first)
        for key in ("Tab", "Shift+Tab"):
            for _ in range(14):
                press(page, key)
                assert not page.evaluate(outside), f"{key} leaves the box: {focused(page)!r}"
        if way == "Escape":
            press(page, way)
        else:
            if focused(page) != way:
                tab_to(page, way)
            press(page, "Enter")
        expect(dialog).to_have_count(0)
        expect_focus(page, opener)
        if name == "feedback":
            expect(keyed.button(opener)).to_have_attribute("aria-pressed", "true")

"""Screens that stand between two others, held to WCAG: menus, boxes, notes, waiting, nothing there, trouble."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.client import Client
from tests.e2e.browser import Visits, wait_until
from tests.e2e.chat import Chat, import_conversation
from tests.e2e.look import SIZES, inspect, inspect_colours
from tests.e2e.shop import Shop, put_widget
from tests.guarded import Guarded
from tests.server import ServerProcess

LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


@pytest.fixture(params=SIZES)
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def keep(look: str) -> Callable[[Page, str], None]:
    """Inspects a page of this size under a name, in all its colours."""
    return lambda page, name: inspect_colours(page, name, look)


def show_list(chat: Chat) -> None:
    """The list is in sight, as a drawer where there is no room beside it."""
    if (opener := chat.button("Open the list of conversations")).is_visible():
        opener.click()
    expect(chat.sidebar).to_be_visible()


def test_the_list_and_its_menus(
    visits: Visits, served: ServerProcess, look: str, keep: Callable[[Page, str], None]
) -> None:
    """Search with and without results, menus, a title that is written, a note with a way back, the archive."""
    title = f"Tide table {look} {LONG}"
    identifier = import_conversation(served, title, ("When is the tide?", f"At ten. {LONG}"))
    import_conversation(served, f"Packing list {look}", ("What to pack?", "A raincoat."))
    chat = Chat(visits.open(served.address, path=f"/c/{identifier}", **SIZES[look]), served)
    page = chat.page
    expect(chat.reply).to_contain_text("At ten.")
    chat.button("Export").click()
    keep(page, "menu-export")
    page.keyboard.press("Escape")
    show_list(chat)
    chat.row(title).hover()
    chat.sidebar.get_by_role("button", name=f"Actions for “{title}”").click()
    keep(page, "menu-row")
    page.get_by_role("menuitem", name="Rename").click()
    expect(chat.sidebar.get_by_role("textbox", name="Title of the conversation")).to_be_focused()
    keep(page, "rename")
    page.keyboard.press("Escape")
    chat.button("More").click()
    keep(page, "menu-more")
    page.keyboard.press("Escape")
    search = page.get_by_role("searchbox")
    search.fill("tide")
    expect(page.get_by_test_id("results").get_by_role("link").first).to_be_visible()
    keep(page, "search")
    search.fill(f"nothing like {LONG}")
    expect(chat.sidebar.get_by_text("Nothing found")).to_be_visible()
    keep(page, "search-nothing")
    search.fill("")
    chat.choose(f"Packing list {look}", "Archive")
    # It goes by itself after a while, but not from under the mouse.
    page.get_by_test_id("toast").hover()
    inspect(page, f"toast-{look}")
    page.get_by_test_id("toast").get_by_role("button", name="Close").click()
    chat.menu(chat.button("More"), "Archive")
    expect(chat.row(f"Packing list {look}")).to_be_visible()
    keep(page, "archive")
    chat.menu(chat.button("More"), "Preferences")
    keep(page, "preferences")


def test_a_message_and_its_boxes(
    visits: Visits, bot: ServerProcess, look: str, keep: Callable[[Page, str], None]
) -> None:
    """A reply with a tool that is done and its sources, a call that is refused, thumbs, an edit; a temporary chat."""
    chat = Chat(visits.open(bot.address, **SIZES[look]), bot)
    page = chat.page
    chat.say('script: tokens=9 tool=look_up:{"word":"tide"}')
    chat.reply.locator("[data-tool=look_up] summary").click()
    keep(page, "tool-done")
    chat.button("Bad reply").click()
    page.get_by_role("textbox", name="Your reason").fill(f"Wrong. {LONG}")
    keep(page, "feedback")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    chat.field.press("ArrowUp")
    expect(page.get_by_role("textbox", name="Edit your message")).to_be_focused()
    page.wait_for_timeout(200)
    expect(page.get_by_role("textbox", name="Edit your message")).to_be_in_viewport()
    keep(page, "edit")
    page.keyboard.press("Escape")
    page.goto(bot.address)
    chat.send('script: tokens=4 tool=wipe:{"name":"sda"}')
    chat.button("Refuse").click()
    keep(page, "refusing")
    page.keyboard.type("Not now.")
    page.keyboard.press("Enter")
    chat.wait_done()
    page.locator("[data-tool=wipe] summary").click()
    keep(page, "tool-refused")
    show_list(chat)
    chat.button("Temporary chat").click()
    expect(page.get_by_text("This chat is temporary")).to_be_visible()
    keep(page, "temporary")


def refuse(status: int, code: str, detail: str, **headers: str) -> Callable[[Route], None]:
    body = json.dumps(
        {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, "retryable": True}
    )
    return lambda route: route.fulfill(
        status=status, content_type="application/problem+json", body=body, headers=headers
    )


def test_waiting_and_trouble(
    visits: Visits, served: ServerProcess, look: str, keep: Callable[[Page, str], None]
) -> None:
    """Loading, offline, a refusal with a countdown, a message that was not sent, nothing at an address, no server."""
    identifier = import_conversation(served, f"Trouble {look}", ("Hello", "Hello."))
    chat = Chat(visits.open(served.address, **SIZES[look]), served)
    page = chat.page
    visits.allow(page, "status of", "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED", "ERR_FAILED")
    expect(chat.field).to_be_visible()
    held: list[Route] = []
    page.route("**/conversations/*/messages*", lambda route: held.append(route))
    page.goto(f"{served.address}/c/{identifier}")
    expect(page.get_by_role("main").get_by_text("Loading")).to_be_visible()
    keep(page, "loading")
    for route in held:
        route.continue_()
    page.unroute("**/conversations/*/messages*")
    expect(chat.reply).to_contain_text("Hello.")
    page.route("**/chat/stream", refuse(429, "rate_limited", "too many messages", **{"retry-after": "42"}))
    chat.send(f"Is anybody there? {LONG}")
    expect(page.get_by_test_id("trouble")).to_contain_text("Too many messages in a short time.")
    keep(page, "rate-limited")
    page.unroute("**/chat/stream")
    page.context.set_offline(True)
    expect(page.get_by_test_id("connection")).to_be_visible()
    keep(page, "offline")
    page.context.set_offline(False)
    page.goto(f"{served.address}/c/c-nothing")
    expect(page.get_by_test_id("trouble")).to_be_visible()
    keep(page, "missing")
    page.goto(f"{served.address}/no/such/page")
    if page.get_by_text("This page does not exist.").is_visible():
        keep(page, "not-found")
    page.route("**/me", lambda route: route.abort())
    page.goto(served.address)
    expect(page.get_by_test_id("trouble")).to_contain_text("The server cannot be reached.")
    keep(page, "unreachable")


def test_the_administration_in_detail(
    visits: Visits, bot: ServerProcess, look: str, keep: Callable[[Page, str], None]
) -> None:
    """Figures by model and as a table, the question before something is discarded, figures that cannot be read."""
    chat = Chat(visits.open(bot.address, **SIZES[look]), bot)
    page = chat.page
    visits.allow(page, "status of 503")
    chat.say("script: tokens=5")
    with Client(bot.port) as client:
        # The page asks for figures twice a minute.
        wait_until(page, lambda: client.get("/admin/figures")["total"]["messages"] > 0, "the reply was not counted")
    page.goto(f"{bot.address}/admin")
    page.get_by_text("As a table").click()
    keep(page, "admin-table")
    page.get_by_role("button", name="By model").click()
    expect(page.get_by_role("cell", name="scripted")).to_be_visible()
    keep(page, "admin-models")
    page.goto(f"{bot.address}/admin#queue")
    page.locator("[data-letter]").first.get_by_role("button", name="Discard").click(timeout=30_000)
    expect(page.get_by_role("dialog")).to_be_visible()
    keep(page, "admin-discard")
    page.keyboard.press("Escape")
    page.route("**/admin/figures*", refuse(503, "storage_unavailable", "the database is away"))
    page.goto(f"{bot.address}/admin#sessions")
    page.get_by_role("link", name="Figures").click()
    expect(page.get_by_test_id("trouble")).to_be_visible()
    keep(page, "admin-trouble")


def test_doors(
    visits: Visits,
    locked: Guarded,
    shop: Shop,
    publishable: str,
    look: str,
    keep: Callable[[Page, str], None],
) -> None:
    """A key that is wrong, a page that is for others, the widget closed, new, and refused."""
    page = visits.open(locked.process.address, path="/admin", **SIZES[look])
    visits.allow(page, "status of 401", "status of 403")
    page.get_by_label("Key", exact=True).fill("lk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    keep(page, "sign-in-wrong")
    page.get_by_label("Key", exact=True).fill(locked.keys["ben"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("main")).to_contain_text("for administrators")
    keep(page, "admin-refused")
    page.goto(f"{locked.process.address}/widget?key={locked.keys['ben']}")
    expect(page.get_by_role("heading")).to_be_visible()
    keep(page, "widget-secret")
    host = visits.open(put_widget(shop, locked.process, publishable), locked.process.address, **SIZES[look])
    visits.allow(host, "favicon.ico", "status of 404", "execute 'postMessage'")
    expect(host.get_by_role("button", name="Ask us")).to_be_visible()
    keep(host, "widget-closed")
    host.get_by_role("button", name="Ask us").click()
    frame = host.frame_locator("iframe")
    expect(frame.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
    keep(host, "widget-new")


@pytest.mark.parametrize("width", [390, 1280])
def test_german_has_room(visits: Visits, bot: ServerProcess, width: int) -> None:
    """The longer words of another language break nothing."""
    identifier = import_conversation(bot, f"Gezeiten {LONG}", (f"Wann? {LONG}", f"Um zehn. {LONG}"))
    page = visits.open(bot.address, width=width, height=844, locale="de-DE", color_scheme="dark")
    visits.allow(page, "status of 429")
    expect(page.get_by_role("textbox", name="Nachricht", exact=True)).to_be_visible()
    expect(page.get_by_text("Wird geladen")).to_have_count(0)
    inspect(page, f"german-welcome-{width}")
    page.goto(f"{bot.address}/c/{identifier}")
    expect(page.get_by_text("Um zehn.")).to_be_visible()
    for key, name in (("Control+Comma", "settings"), ("Control+/", "keys")):
        page.keyboard.press(key)
        expect(page.get_by_role("dialog")).to_be_visible()
        inspect(page, f"german-{name}-{width}")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    page.route("**/chat/stream", refuse(429, "rate_limited", "too many messages", **{"retry-after": "42"}))
    page.get_by_role("textbox", name="Nachricht", exact=True).fill("Hallo?")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("trouble")).to_be_visible()
    inspect(page, f"german-trouble-{width}")
    page.get_by_role("textbox", name="Nachricht", exact=True).press("ArrowUp")
    inspect(page, f"german-edit-{width}")
    page.keyboard.press("Escape")
    if width == 390:
        page.keyboard.press("Control+k")
        expect(page.get_by_test_id("sidebar")).to_be_visible()
        inspect(page, f"german-list-{width}")
    for section in ("figures", "queue", "steps", "runs", "sessions", "budgets", "audit"):
        page.goto(f"{bot.address}/admin#{section}")
        expect(page.locator(f"[aria-current=page][href='/admin#{section}']")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("Wird geladen")).to_have_count(0)
        inspect(page, f"german-admin-{section}-{width}")

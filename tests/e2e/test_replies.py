"""A reply on the page: it grows, it can be stopped, and nothing that cuts it loses or repeats a word."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from tests.conftest import StartServer
from tests.e2e.browser import Visits, wait_until
from tests.e2e.chat import Chat
from tests.e2e.upstream import Held

CURSORS = """() => [...document.querySelectorAll("[data-role=assistant] *")]
  .flatMap((each) => [getComputedStyle(each), getComputedStyle(each, "::after")])
  .filter((style) => style.animationName === "blink").length"""


def test_a_message_is_echoed_at_once_and_its_reply_grows(held: Held) -> None:
    """What was sent is there before the server has heard of it; a cursor stands behind the words until the end."""
    chat, upstream = held
    upstream.count(11, 40, held_at=20)
    on_their_way: list[Route] = []
    chat.page.route("**/chat/stream", lambda route: on_their_way.append(route))
    chat.send("Count to forty.")
    expect(chat.page.locator("[data-role=user]")).to_have_text("Count to forty.")
    wait_until(chat.page, lambda: on_their_way, "nothing was sent")
    (route,) = on_their_way
    route.continue_()
    chat.wait_begun(11)
    expect(chat.reply.locator("[data-cursor]")).to_be_visible()
    assert chat.page.evaluate(CURSORS) == 1
    first = len(chat.shown(11))
    upstream.go_on()
    chat.wait_done()
    assert 0 < first < 40
    chat.expect_tokens(11, 40)
    expect(chat.reply.locator("[data-cursor]")).to_have_count(0)
    assert chat.page.evaluate(CURSORS) == 0
    expect(chat.field).to_have_value("")


def test_a_reply_says_what_it_took(chat: Chat) -> None:
    """Model, tokens and time stand below each reply."""
    for tokens in (12, 14):
        details = chat.say(f"script: tokens={tokens}").get_by_test_id("details")
        expect(details).to_contain_text(re.compile(rf"scripted · {tokens} tokens.* · [\d.,]+ (ms|s|min)\b"))


def test_the_button_stops_a_reply(chat: Chat) -> None:
    """The reply ends with what it has said, on the server too."""
    chat.send("script: seed=12 tokens=1500 delay_ms=40")
    chat.wait_begun(12)
    chat.button("Stop").click()
    chat.wait_done("stopped")
    said = len(chat.shown(12))
    assert 0 < said < 1500
    chat.page.reload()
    expect(chat.reply).to_have_attribute("data-status", "stopped")
    expect(chat.reply).to_contain_text(f"12.{said - 1}")
    assert chat.shown(12) == list(range(said))


def test_escape_stops_a_reply(chat: Chat) -> None:
    """Esc does what the button does."""
    chat.send("script: seed=13 tokens=1500 delay_ms=40")
    chat.wait_begun(13)
    chat.page.keyboard.press("Escape")
    chat.wait_done("stopped")


def test_a_reload_in_mid_reply_shows_the_same_reply_growing(held: Held) -> None:
    """The page comes back with what was said, and goes on to the end."""
    chat, upstream = held
    upstream.count(14, 80, held_at=20)
    chat.send("Count to eighty.")
    expect(chat.reply).to_contain_text("14.10")
    chat.page.reload()
    expect(chat.reply).to_have_attribute("data-status", "running")
    upstream.go_on()
    chat.wait_done()
    chat.expect_tokens(14, 80)


def test_another_tab_shows_the_same_reply_growing(held: Held) -> None:
    """Two tabs of one conversation end with the same words; a further message shows in both."""
    chat, upstream = held
    upstream.count(15, 80, held_at=20)
    chat.send("Count to eighty.")
    chat.wait_begun(15)
    other = Chat(chat.page.context.new_page(), chat.server)
    other.page.goto(chat.page.url)
    expect(other.reply).to_have_attribute("data-status", "running")
    upstream.go_on()
    for each in (chat, other):
        each.wait_done()
        each.expect_tokens(15, 80)
    upstream.count(16, 5, held_at=5)
    chat.say("Count to five.")
    expect(other.replies).to_have_count(2)
    other.expect_tokens(16, 5)


def test_a_server_killed_in_mid_reply_loses_nothing(visits: Visits, start_server: StartServer) -> None:
    """`kill -9`, a restart, and the same reply goes on in the open page by itself."""
    server = start_server(rate_limit="off")
    chat = Chat(visits.open(server.address), server)
    visits.allow(
        chat.page,
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
        "ERR_SOCKET_NOT_CONNECTED",
    )
    # It stands still until then; the next call of the model goes on.
    chat.send("script: seed=17 tokens=120 delay_ms=25 stall=20@1")
    expect(chat.reply).to_contain_text("17.10")
    visits.wait_calm(chat.page)
    server.kill()
    expect(chat.page.get_by_test_id("connection")).to_contain_text("Reconnecting")
    # It is worth waiting for, and that is said.
    expect(chat.page.get_by_test_id("connection")).to_contain_text("Nothing is lost", timeout=15_000)
    server.start()
    chat.wait_done()
    chat.expect_tokens(17, 120)
    expect(chat.page.get_by_test_id("connection")).to_have_count(0)
    expect(chat.page.get_by_test_id("trouble")).to_have_count(0)


def test_a_network_cut_is_shown_quietly_and_heals(held: Held, visits: Visits) -> None:
    """Offline in mid-reply: the words stay, a note says so; back online nothing is missing or twice."""
    chat, upstream = held
    visits.allow(chat.page, "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED")
    upstream.count(18, 150, held_at=20)
    chat.send("Count to 150.")
    expect(chat.reply).to_contain_text("18.10")
    chat.page.context.set_offline(True)
    expect(chat.page.get_by_test_id("connection")).to_contain_text("offline")
    there = chat.shown(18)
    assert there == list(range(len(there)))
    upstream.go_on()
    chat.page.context.set_offline(False)
    chat.wait_done()
    chat.expect_tokens(18, 150)
    expect(chat.page.get_by_test_id("connection")).to_have_count(0)
    expect(chat.page.get_by_test_id("trouble")).to_have_count(0)


def test_a_message_sent_offline_is_kept(chat: Chat, visits: Visits) -> None:
    """It stays on the page, says that it was not sent, and can be sent again."""
    visits.allow(chat.page, "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED")
    chat.say("script: seed=19 tokens=3")
    chat.page.context.set_offline(True)
    chat.send("script: seed=20 tokens=4")
    expect(chat.page.get_by_text("script: seed=20 tokens=4")).to_be_visible()
    chat.page.context.set_offline(False)
    again = chat.button("Try again").first
    # A place for the reply stands there from the beginning, and goes where the message is not sent.
    answered = chat.page.locator("[data-role=assistant][data-status=complete]").nth(1)
    expect(again.or_(answered).first).to_be_visible()
    if again.is_visible():
        again.click()
    expect(chat.replies).to_have_count(2)
    chat.wait_done()
    chat.expect_tokens(20, 4)

"""What a screen reader is told while a reply comes: that it has begun and ended, never its words."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.browser import Visits
from tests.e2e.chat import Chat
from tests.e2e.upstream import Held
from tests.server import ServerProcess

LISTEN = """() => {
  const live = "[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log], output";
  const told = () => new Map([...document.querySelectorAll(live)].map((each) => [each, each.textContent]));
  window.said = [];
  let before = told();
  new MutationObserver(() => {
    const now = told();
    for (const [each, text] of now) if (text && before.get(each) !== text) window.said.push(text);
    before = now;
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
INSIDE = (
    """each => each.closest("[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log]") !== null"""
)


def test_a_long_reply_is_told_in_two_sentences(held: Held) -> None:
    """500 tokens change the live regions a handful of times; its end is told, and its words stand in no such region."""
    chat, upstream = held
    upstream.count(44, 500, held_at=20)
    chat.page.evaluate(LISTEN)
    chat.send("Count to 500.")
    chat.wait_begun(44)
    assert chat.reply.evaluate(INSIDE) is False
    expect(chat.reply).to_have_attribute("aria-busy", "true")
    upstream.go_on()
    chat.wait_done()
    chat.page.wait_for_function("() => window.said.at(-1) === 'The reply is complete.'")
    assert chat.page.evaluate("window.said") == ["Message sent.", "The reply has begun.", "The reply is complete."]
    assert chat.reply.get_attribute("aria-busy") is None
    chat.expect_tokens(44, 500)


def test_the_end_is_told_as_it_was(chat: Chat) -> None:
    """Stopped is not complete, and neither is failed; the same sentence said again is a change again."""
    chat.page.evaluate(LISTEN)
    for _ in range(2):
        chat.send("script: seed=45 tokens=1500 delay_ms=40")
        chat.wait_begun(45)
        chat.page.keyboard.press("Escape")
        chat.wait_done("stopped")
        chat.page.wait_for_function("() => window.said.at(-1) === 'The reply was stopped.'")
    chat.send("script: fail=400@1")
    chat.wait_done("failed")
    chat.page.wait_for_function("() => window.said.includes('The reply failed.')")
    said = chat.page.evaluate("window.said")
    assert said.count("The reply was stopped.") == 2
    assert "The reply is complete." not in said


def test_a_call_that_waits_is_told(bot: ServerProcess, visits: Visits) -> None:
    """The reply stands still until somebody answers: a screen reader says what is asked."""
    chat = Chat(visits.open(bot.address), bot)
    chat.page.evaluate(LISTEN)
    chat.send('script: tokens=4 tool=wipe:{"name":"sda"}')
    chat.page.wait_for_function("() => window.said.includes('Allow “wipe” to run?')")
    chat.button("Allow").click()
    chat.wait_done()

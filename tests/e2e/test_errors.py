"""Errors say what happened and what to do, and no message is lost; each is kept as a picture."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.client import Client
from tests.conftest import StartServer
from tests.e2e.browser import Visits, wait_until
from tests.e2e.chat import Chat
from tests.e2e.look import inspect
from tests.e2e.upstream import Upstream, open_upstream
from tests.guarded import Guarded, make_keys
from tests.server import ServerProcess

REFUSED = ("status of 429", "status of 413", "status of 404", "status of 503")
# What Chromium calls a server that is gone, by where the connection was when it went.
CUT = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED")
COUNT = """() => {
  window.counted = [];
  new MutationObserver(() => {
    const trouble = document.querySelector("[data-testid=trouble]");
    const button = trouble?.querySelector("button");
    const shown = /You can send again in (\\d+) s/.exec(trouble?.querySelector("span[aria-hidden]")?.textContent ?? "");
    if (shown) window.counted.push([Number(shown[1]), button.disabled, performance.now()]);
    else if (button && !button.disabled) window.freeAt ??= performance.now();
  }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""
"""Notes each second that is shown, whether one could press then, and when; and when one could."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with open_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def asked(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose model is the stub."""
    folder = tmp_path_factory.mktemp("asked")
    server = ServerProcess(folder, {"call_attempts": 1, "rate_limit": "off"}, toml=upstream.toml).start()
    yield server
    server.kill()


@pytest.fixture
def persistent(upstream: Upstream, tmp_path: Path) -> Iterator[ServerProcess]:
    """The same, but a call is tried twice."""
    settings = {"call_attempts": 2, "retry_base_s": 0.1, "rate_limit": "off"}
    server = ServerProcess(tmp_path / "persistent", settings, toml=upstream.toml).start()
    yield server
    server.kill()


@pytest.fixture
def asking(asked: ServerProcess, visits: Visits) -> Chat:
    return Chat(visits.open(asked.address), asked)


@pytest.mark.parametrize(
    ("status", "title", "advice"),
    [
        (401, "does not accept this server's key", "Whoever runs the server has to set a valid OPENAI_API_KEY"),
        (429, "provider is busy", "Wait a moment"),
        (500, "The model cannot be reached", "choose another model"),
    ],
)
def test_a_failed_reply_says_why(asking: Chat, upstream: Upstream, status: int, title: str, advice: str) -> None:
    """What happened, what to do, and a button that asks again: with the cause gone it answers."""
    upstream.status = status
    asking.send("Hello")
    trouble = asking.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text(title)
    expect(trouble).to_contain_text(advice)
    expect(asking.page.locator("[data-role=user]")).to_contain_text("Hello")
    # There is one way to ask again, and nothing that the reply took.
    expect(asking.button("Answer again")).to_have_count(0)
    expect(asking.page.get_by_test_id("details")).to_have_count(0)
    inspect(asking.page, f"error-upstream-{status}")
    upstream.status = 200
    trouble.get_by_role("button", name="Try again").click()
    asking.wait_done()
    expect(asking.reply).to_contain_text("Hello.")


def test_a_refused_request_is_not_tried_again_unchanged(asking: Chat, upstream: Upstream) -> None:
    """It says what to change; what the model's server said stands in small, and once changed it can be asked again."""
    upstream.status = 400
    asking.send("Hello")
    trouble = asking.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("The model's provider refused the request.")
    expect(trouble).to_contain_text("Change the message, or choose another model in the conversation's settings.")
    expect(trouble).to_contain_text(re.compile(r"Code: upstream_refused · 127\.0\.0\.1.*refused by the stub"))
    expect(trouble.get_by_role("button")).to_have_count(0)
    expect(asking.page.get_by_test_id("details")).to_have_count(0)
    inspect(asking.page, "error-upstream-400")
    upstream.status = 200
    asking.button("Answer again").click()
    asking.wait_done()
    expect(asking.reply).to_contain_text("Hello.")


def test_a_server_without_a_model_says_what_to_set(visits: Visits, tmp_path: Path) -> None:
    """Neither weights nor a key: the code of its own, what to run or set, and the message; in German too."""
    settings = {"model": "embedded", "models_dir": tmp_path / "none", "rate_limit": "off"}
    server = ServerProcess(tmp_path / "server", settings, toml="").start()
    try:
        for language, title, advice in (
            ("en-US", "No model is configured", "On the server, run “legato models fetch”, or set OPENAI_API_KEY"),
            ("de-DE", "Kein Modell ist eingerichtet", "„legato models fetch“"),
        ):
            page = visits.open(server.address, locale=language)
            page.get_by_role("textbox").last.fill("Hello")
            page.keyboard.press("Enter")
            trouble = page.get_by_test_id("trouble")
            expect(trouble).to_contain_text(title)
            expect(trouble).to_contain_text(advice)
            expect(trouble).to_contain_text("Code: no_model")
            expect(page.locator("[data-role=user]")).to_contain_text("Hello")
            inspect(page, f"error-no-model-{language[:2]}")
            # What a page asks of a dead server is told in its console.
            page.goto("about:blank")
    finally:
        server.kill()


def test_an_upstream_that_stays_down_is_tried_again_first(
    upstream: Upstream, persistent: ServerProcess, visits: Visits
) -> None:
    """The page says that it is down once all tries have failed; what was asked stands there."""
    upstream.status = 503
    chat = Chat(visits.open(persistent.address), persistent)
    chat.send("Are you there?")
    expect(chat.page.get_by_test_id("trouble")).to_contain_text("The model cannot be reached.")
    wait_until(chat.page, lambda: persistent.log.count('"call failed"') >= 2, persistent.log)
    assert persistent.log.count('"call failed"') == 2
    expect(chat.page.locator("[data-role=user]")).to_contain_text("Are you there?")
    inspect(chat.page, "error-upstream-down")


def test_a_rate_limit_counts_down(visits: Visits, start_server: StartServer) -> None:
    """It says in how many seconds, lets nobody try before, keeps the text, and lets it be sent when they are over."""
    server = start_server(rate_limit="1/8second")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, *REFUSED)
    chat.page.evaluate(COUNT)
    chat.field.fill("script: seed=51 tokens=3")
    expect(chat.button("Send")).to_be_enabled()
    # Right before: between two messages of a slow page the seconds might go by.
    with Client(server.port) as client:
        client.say("script: tokens=2")
    chat.field.press("Enter")
    trouble = chat.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("Too many messages in a short time.")
    again = chat.button("Try again")
    expect(again).to_have_count(1)
    inspect(chat.page, "error-rate-limited")
    expect(chat.page.get_by_text("script: seed=51 tokens=3")).to_be_visible()
    expect(again).to_be_enabled()
    counted, free_ms = chat.page.evaluate("[window.counted, window.freeAt]")
    first, _, began_ms = counted[0]
    assert all(is_disabled for _, is_disabled, _ in counted), counted
    assert counted[-1][0] <= first - 2, counted
    for seconds, _, at_ms in counted:
        assert (at_ms - began_ms) / 1000 >= first - seconds - 1.1, counted
    assert (free_ms - began_ms) / 1000 >= first - 1.6
    expect(trouble).to_contain_text("You can send again now.")
    again.click()
    chat.wait_done()
    chat.expect_tokens(51, 3)
    expect(trouble).to_have_count(0)


def test_a_first_message_too_long_is_kept_and_leaves_nothing_else(visits: Visits, start_server: StartServer) -> None:
    """It says to shorten it; edited it goes; the refused try has left no empty conversation on the server."""
    server = start_server(rate_limit="off", model="tiny")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, *REFUSED)
    chat.send("word " * 3000)
    trouble = chat.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("too long for this model")
    expect(trouble).to_contain_text("Shorten it")
    message = chat.page.locator("[data-role=user]")
    expect(message).to_contain_text("word word word")
    expect(message.get_by_text("Not sent", exact=True)).to_be_visible()
    with Client(server.port) as client:
        _until_listed(client, [])
        inspect(chat.page, "error-too-long")
        edit = message.get_by_text("Edit", exact=True)
        text, below = message.locator("[data-text]").bounding_box(), edit.bounding_box()
        assert text is not None
        assert below is not None
        assert 0 <= below["y"] - text["y"] - text["height"] < 12
        edit.click()
        field = chat.page.get_by_role("textbox", name="Edit your message")
        # Nothing but the editor is there, and nothing old would stay.
        expect(message.get_by_role("button")).to_have_text(["Cancel", "Send"])
        expect(message).not_to_contain_text("the old one stays")
        assert field.input_value().strip() == ("word " * 3000).strip()
        field.fill("script: seed=54 tokens=3")
        field.press("Enter")
        chat.wait_done()
        chat.expect_tokens(54, 3)
        _until_listed(client, [(chat.conversation_id, "keep", 2)])


def _until_listed(client: Client, wanted: list[tuple[str, str, int]]) -> None:
    """Wait until the server has these conversations, with their retention and number of messages."""
    deadline_s = time.monotonic() + 15
    while True:
        listed = client.get("/conversations")["conversations"]
        found = [(each["id"], each["retention"], each["messageCount"]) for each in listed]
        if found == wanted:
            return
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)


def test_a_refused_message_is_a_draft_again_after_a_reload(visits: Visits, start_server: StartServer) -> None:
    """What the server has not taken stands in the field, whatever becomes of the page."""
    server = start_server(rate_limit="1/hour")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, *REFUSED)
    chat.say("script: tokens=2")
    chat.send("Do not lose me.")
    expect(chat.page.get_by_test_id("trouble")).to_contain_text("Too many messages")
    chat.page.reload()
    expect(chat.field).to_have_value("Do not lose me.")


def test_a_key_that_is_revoked_asks_to_sign_in_and_keeps_the_text(visits: Visits, tmp_path: Path) -> None:
    """A person's own key, not the model's: it says so, and after signing in the message is there."""
    process = ServerProcess(tmp_path / "server", {"auth": "keys", "rate_limit": "off"})
    guarded = Guarded(process, make_keys(process.database, {"ann": "admin"}))
    process.start()
    try:
        chat = Chat(visits.open(process.address), process)
        visits.allow(chat.page, "status of 401")
        key = chat.page.get_by_label("Key", exact=True)
        key.fill("lk_wrong")
        chat.button("Sign in").click()
        expect(chat.page.get_by_role("alert")).to_contain_text(
            "This key is not known, or it was revoked. Check it, or ask whoever runs this server for a new one."
        )
        expect(key).to_have_value("lk_wrong")
        inspect(chat.page, "error-sign-in")
        key.fill(guarded.keys["ann"])
        chat.button("Sign in").click()
        chat.say("script: tokens=2")
        chat.page.context.clear_cookies()
        chat.send("Do not lose me.")
        trouble = chat.page.get_by_test_id("trouble")
        expect(trouble).to_contain_text("You are signed out.")
        inspect(chat.page, "error-signed-out")
        trouble.get_by_role("button", name="Sign in").click()
        key.fill(guarded.keys["ann"])
        chat.button("Sign in").click()
        expect(chat.field).to_have_value("Do not lose me.")
        # What a page asks of a dead server is told in its console.
        chat.page.goto("about:blank")
    finally:
        process.kill()


def test_a_conversation_that_is_not_there_says_so(chat: Chat, visits: Visits) -> None:
    """An address of a deleted conversation shows no empty page, and the way to a new chat."""
    visits.allow(chat.page, *REFUSED)
    chat.page.goto(f"{chat.server.address}/c/c-nothing")
    trouble = chat.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("does not exist")
    expect(chat.page.get_by_role("heading", level=1)).to_have_count(0)
    expect(chat.field).to_have_count(0)
    trouble.get_by_role("button", name="New chat").click()
    expect(chat.page.get_by_role("heading", level=1)).to_have_text("New chat")
    expect(chat.field).to_be_focused()


def test_a_server_that_is_away_is_said(visits: Visits, start_server: StartServer) -> None:
    """A message that could not be sent is kept, and goes once the server is back."""
    server = start_server(rate_limit="off")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, *CUT)
    chat.say("script: tokens=2")
    # What the page reads again behind a reply has come.
    visits.wait_calm(chat.page)
    server.kill()
    chat.send("script: seed=52 tokens=3")
    expect(chat.page.get_by_test_id("trouble")).to_contain_text("The server cannot be reached.")
    expect(chat.page.get_by_text("script: seed=52 tokens=3")).to_be_visible()
    inspect(chat.page, "error-server-away")
    server.start()
    chat.button("Try again").first.click()
    expect(chat.replies).to_have_count(2)
    chat.wait_done()
    chat.expect_tokens(52, 3)


def test_a_first_message_to_a_server_that_is_away_is_kept(visits: Visits, start_server: StartServer) -> None:
    """Before there is a conversation, too: it goes once the server is back, and makes one conversation."""
    server = start_server(rate_limit="off")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, *CUT)
    expect(chat.field).to_be_visible()
    main = chat.page.get_by_role("main")
    visits.wait_calm(chat.page)
    server.kill()
    chat.send("script: seed=53 tokens=3")
    expect(main.get_by_test_id("trouble")).to_contain_text("The server cannot be reached.", timeout=40_000)
    server.start()
    main.get_by_role("button", name="Try again").first.click()
    expect(chat.replies).to_have_count(1)
    chat.wait_done()
    chat.expect_tokens(53, 3)
    with Client(server.port) as client:
        listed = client.get("/conversations")["conversations"]
        assert [(each["id"], each["retention"]) for each in listed] == [(chat.conversation_id, "keep")]


def test_a_text_over_the_limit_says_what_to_do(visits: Visits, served: ServerProcess) -> None:
    """On a phone too: an alert says how much is too much; shortened, the text can be sent."""
    page = visits.open(served.address, width=390, height=844)
    chat = Chat(page, served)
    chat.field.fill("w" * (1024 * 1024))
    alert = page.get_by_role("alert").filter(has_text="characters too long")
    expect(alert).to_be_visible()
    inspect(page, "error-over-the-limit")
    expect(alert).to_contain_text("Shorten the message")
    expect(alert).to_be_in_viewport(ratio=1)
    assert alert.evaluate("each => each.scrollWidth <= each.clientWidth")
    expect(chat.button("Send")).to_be_disabled()
    chat.field.fill("script: tokens=2")
    expect(alert).to_have_count(0)
    chat.field.press("Enter")
    chat.wait_done()

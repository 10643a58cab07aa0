"""Errors say what happened and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.client import Client
from tests.conftest import StartServer
from tests.e2e.browser import Visits
from tests.e2e.chat import Chat
from tests.e2e.upstream import Upstream, open_upstream
from tests.server import ServerProcess

REFUSED = ("status of 429", "status of 413", "status of 404", "status of 503")


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
def asking(asked: ServerProcess, visits: Visits) -> Chat:
    return Chat(visits.open(asked.address), asked)


@pytest.mark.parametrize(
    ("status", "title", "advice"),
    [
        (401, "does not accept this server's key", "OPENAI_API_KEY"),
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
    upstream.status = 200
    trouble.get_by_role("button", name="Try again").click()
    asking.wait_done()
    expect(asking.reply).to_contain_text("Hello.")


def test_a_rate_limit_counts_down(visits: Visits, start_server: StartServer) -> None:
    """It says in how many seconds, lets nobody try before, and keeps the text."""
    server = start_server(rate_limit="1/minute")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, *REFUSED)
    chat.say("script: tokens=2")
    chat.send("script: seed=51 tokens=3")
    trouble = chat.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("Too many messages in a short time.")
    left = re.compile(r"You can send again in (\d+) s")
    expect(trouble).to_contain_text(left)
    found = left.search(trouble.inner_text())
    assert found is not None
    first = int(found[1])
    expect(trouble).to_contain_text(f"in {first - 2} s")
    expect(trouble.get_by_role("button", name="Try again")).to_be_disabled()
    expect(chat.page.get_by_text("script: seed=51 tokens=3")).to_be_visible()


def test_a_message_too_long_says_so(chat: Chat, visits: Visits) -> None:
    """Nothing is sent twice or lost; it says to shorten or to choose another model."""
    visits.allow(chat.page, *REFUSED)
    chat.page.keyboard.press("Control+Comma")
    chat.page.get_by_role("dialog").get_by_label("Model").select_option("tiny")
    chat.page.get_by_role("dialog").get_by_role("button", name="Save").click()
    chat.send("word " * 3000)
    trouble = chat.page.get_by_test_id("trouble")
    expect(trouble).to_contain_text("too long for this model")
    expect(trouble).to_contain_text("Shorten it")


def test_a_conversation_that_is_not_there_says_so(chat: Chat, visits: Visits) -> None:
    """An address of a deleted conversation shows no empty page."""
    visits.allow(chat.page, *REFUSED)
    chat.page.goto(f"{chat.server.address}/c/c-nothing")
    expect(chat.page.get_by_test_id("trouble")).to_contain_text("does not exist")


def test_a_server_that_is_away_is_said(visits: Visits, start_server: StartServer) -> None:
    """A message that could not be sent is kept, and goes once the server is back."""
    server = start_server(rate_limit="off")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    chat.say("script: tokens=2")
    server.kill()
    chat.send("script: seed=52 tokens=3")
    expect(chat.page.get_by_test_id("trouble")).to_contain_text("The server cannot be reached.")
    expect(chat.page.get_by_text("script: seed=52 tokens=3")).to_be_visible()
    server.start()
    chat.button("Try again").first.click()
    expect(chat.replies).to_have_count(2)
    chat.wait_done()
    chat.expect_tokens(52, 3)


def test_a_first_message_to_a_server_that_is_away_is_kept(visits: Visits, start_server: StartServer) -> None:
    """Before there is a conversation, too: it goes once the server is back, and makes one conversation."""
    server = start_server(rate_limit="off")
    chat = Chat(visits.open(server.address), server)
    visits.allow(chat.page, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    expect(chat.field).to_be_visible()
    main = chat.page.get_by_role("main")
    chat.page.wait_for_load_state("networkidle")
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
    expect(alert).to_contain_text("Shorten the message")
    expect(alert).to_be_in_viewport(ratio=1)
    assert alert.evaluate("each => each.scrollWidth <= each.clientWidth")
    expect(chat.button("Send")).to_be_disabled()
    chat.field.fill("script: tokens=2")
    expect(alert).to_have_count(0)
    chat.field.press("Enter")
    chat.wait_done()

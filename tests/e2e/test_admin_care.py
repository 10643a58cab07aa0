"""The administrators' page: budgets, texts that wait for a decision, and the audit log; what replies cost."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.client import Client
from tests.e2e.browser import Visits, wait_until
from tests.e2e.chat import Chat
from tests.e2e.look import inspect, inspect_sizes
from tests.server import MODELS, ServerProcess

CARE = """
[prices.scripted]
input = 1000
output = 2000

[prices.other]
input = 0
output = 0

[[moderation.policies]]
type = "rules"
action = "flag"
terms = ["zanzibar"]
reason = "house"
"""


@pytest.fixture(scope="module")
def care(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with prices, and with a word that is flagged."""
    server = ServerProcess(tmp_path_factory.mktemp("care"), {"rate_limit": "off"}, toml=MODELS + CARE).start()
    yield server
    server.kill()


def open_section(care: ServerProcess, visits: Visits, section: str) -> Page:
    return visits.open(care.address, path=f"/admin#{section}")


def press(place: Page | Locator, name: str) -> None:
    place.get_by_role("button", name=name, exact=True).click()


def test_a_reply_says_what_it_cost_where_it_cost_something(care: ServerProcess, visits: Visits) -> None:
    """Nothing of what is free; and what a conversation has used and cost stands with its settings."""
    page = visits.open(care.address)
    chat = Chat(page, care)
    details = chat.say("script: tokens=20").get_by_test_id("details")
    expect(details).to_contain_text(re.compile(r"20 tokens · \$0\.\d*[1-9]"))
    chat.say("script: tokens=30")
    with Client(care.port) as client:
        path = f"/usage?conversationId={chat.conversation_id}&from=0&by=none"
        wait_until(page, lambda: client.get(path)["total"]["outputTokens"] == 50, "the replies were not counted")
    chat.button("Settings").click()
    used = page.get_by_test_id("used")
    expect(used).to_contain_text(re.compile(r"[\d,]+ tokens in, 50 out"))
    expect(used).to_contain_text(re.compile(r"Cost so far: \$0\.\d*[1-9]"))
    inspect(page, "settings-used")
    page.get_by_label("Model").select_option("other")
    with chat.answered("PATCH"):
        press(page, "Save")
    free = chat.say("script: tokens=10").get_by_test_id("details")
    expect(free).to_contain_text("other · 10 tokens")
    # What it cost would come with what is read again behind it.
    visits.wait_calm(page)
    assert "$" not in free.inner_text()
    assert "cost" not in (free.get_attribute("title") or "")


def test_a_budget_is_set_spent_changed_and_removed(care: ServerProcess, visits: Visits) -> None:
    """What may be spent, and how much of it is; the fault of a wrong limit stands at its field."""
    page = open_section(care, visits, "budgets")
    visits.allow(page, "status of 422")
    press(page, "Set a budget")
    box = page.get_by_role("dialog")
    box.get_by_label("Whose").select_option("server")
    limit = box.get_by_label("Limit in US dollars")
    limit.fill("much")
    press(box, "Save")
    expect(box.get_by_role("alert")).to_contain_text("no amount")
    inspect(page, "admin-budget-set")
    limit.fill("2")
    press(box, "Save")
    row = page.locator("[data-budget=server]")
    expect(row).to_contain_text("$2.00 a month")
    expect(row).to_contain_text("warns at 80%")
    with Client(care.port) as client:
        client.say("script: tokens=100")
    meter = row.get_by_role("meter")
    expect(meter).to_have_attribute("aria-valuetext", re.compile(r"^\$0\.\d*[1-9]\d* of \$2\.00$"))
    inspect(page, "admin-budgets")
    press(row, "Change")
    limit.fill("3")
    press(box, "Save")
    expect(row).to_contain_text("$3.00 a month")
    press(row, "Remove")
    press(box, "Remove")
    expect(page.get_by_text("No budget is set")).to_be_visible()


def test_a_flagged_text_is_read_and_decided(care: ServerProcess, visits: Visits) -> None:
    """It waits, is read, and is told among the decided ones, with who decided and the note."""
    with Client(care.port) as client:
        client.say("script: tokens=2 prompt=1 zanzibar")
    page = open_section(care, visits, "reviews")
    waiting = page.locator("[data-review]")
    expect(waiting).to_have_count(1)
    expect(waiting).to_contain_text("house")
    expect(page.get_by_role("button", name="Waiting (1)", exact=True)).to_be_visible()
    inspect(page, "admin-reviews")
    press(waiting, "Read")
    box = page.get_by_role("dialog")
    expect(box.get_by_role("region", name="Flagged text")).to_contain_text("zanzibar")
    expect(box).to_contain_text("rules · house")
    box.get_by_label("Note").fill("an island")
    inspect(page, "admin-review-read")
    press(box, "Nothing wrong")
    expect(page.get_by_text("Nothing waits for a decision")).to_be_visible()
    press(page, "Decided")
    expect(waiting).to_contain_text("Nothing wrong · local · an island")


@pytest.fixture(scope="module")
def audited(care: ServerProcess) -> ServerProcess:
    """The same server after 60 conversations were given out."""
    with Client(care.port) as client:
        made = client.ask("POST", "/conversations", {"title": "x"}).json["id"]
        for _ in range(60):
            client.get(f"/conversations/{made}/export")
    return care


def test_the_audit_log_is_read(audited: ServerProcess, visits: Visits) -> None:
    """The newest first, page by page, by person and by kind; and whether it is whole."""
    page = open_section(audited, visits, "audit")
    rows = page.get_by_role("region", name="Audit").locator("tbody tr")
    expect(rows).to_have_count(50)
    press(page, "Check it")
    expect(page.get_by_role("status").filter(has_text="Whole: ")).to_be_visible()
    inspect_sizes(page, "admin-audit")
    press(page, "Older")
    expect(page.get_by_role("button", name="Newer")).to_be_visible()
    expect(rows.first).to_contain_text("conversation.export")
    for kind, value, count in (("actor", "local", 50), ("owner", "nobody", 0), ("action", "audit.cut", 0)):
        page.get_by_label("Show:", exact=True).select_option(kind)
        page.get_by_label("Person or kind").fill(value)
        with page.expect_response(re.compile(f"{kind}={value}")):
            press(page, "Show")
        expect(rows).to_have_count(count)
    expect(page.get_by_text("No entries")).to_be_visible()


def test_the_audit_log_is_given_out(audited: ServerProcess, visits: Visits) -> None:
    """As a file, the oldest first."""
    page = open_section(audited, visits, "audit")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export everything as JSON lines").click()
    assert download.value.suggested_filename == "legato-audit.jsonl"
    entries = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert len(entries) > 60
    assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries)


def test_a_log_that_was_changed_is_said_to_be(audited: ServerProcess, visits: Visits) -> None:
    """With the entry where it is broken."""
    page = open_section(audited, visits, "audit")
    with closing(sqlite3.connect(audited.database)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            if "audit" in trigger:
                connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("UPDATE audit_entry SET actor = 'somebody' WHERE seq = 5")
    press(page, "Check it")
    broken = page.get_by_role("alert").filter(has_text="Broken: entry 5 ")
    expect(broken).to_contain_text("Restore the audit log from a backup")
    inspect(page, "admin-audit-broken")

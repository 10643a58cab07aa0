"""Signing in with an account, and at an issuer, by a browser."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect

from legato.http.oidc import CALLBACK
from legato.policies.password_hashes import hash_password
from legato.storage.accounts import create_account
from legato.storage.sqlite import SqliteDatabase
from tests.e2e.browser import Visits
from tests.e2e.chat import Chat
from tests.e2e.look import SIZES, inspect_colours, inspect_sizes
from tests.guarded import make_keys
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Issuer, open_issuer
from tests.server import ServerProcess

RIGHT = "bergamot lantern uphill"


@dataclass
class House:
    """A server with accounts, its issuer, and a key."""

    process: ServerProcess
    issuer: Issuer
    key: str


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    process = ServerProcess(tmp_path_factory.mktemp("house"), {"auth": "accounts", "rate_limit": "off"})
    ready, done = threading.Event(), threading.Event()
    found: list[Issuer] = []

    async def serve() -> None:
        async with open_issuer(process.address + CALLBACK) as issuer:
            found.append(issuer)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    (issuer,) = found
    issuer.user = {"sub": "1", "name": "Ann Example"}
    oidc = {"issuer": issuer.address, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    process.settings["oidc"] = json.dumps(oidc | {"allow_everybody": True, "label": "Example Inc."})
    keys = make_keys(process.database, {"ben": "member"})
    stored = hash_password(RIGHT)
    SqliteDatabase(process.database).transact(
        lambda tx: create_account(
            tx, now_ms=1, label="ben", name="ben", owner="ben", role="member", password_hash=stored
        ),
        writes=True,
    )
    yield House(process.start(), issuer, keys["ben"])
    process.kill()
    done.set()
    thread.join()


def open_page(house: House, visits: Visits, path: str = "/", **size: int) -> Page:
    page = visits.open(house.process.address, house.issuer.address, path=path, **size)
    visits.allow(page, "status of 401", "status of 503")
    return page


def test_a_name_and_a_password_sign_in(house: House, visits: Visits) -> None:
    """By keyboard; a wrong one is refused in words, and the field keeps what was typed."""
    page = open_page(house, visits)
    name, password = page.get_by_label("Name", exact=True), page.get_by_label("Password", exact=True)
    expect(name).to_be_focused()
    page.keyboard.type("Ben")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    expect(name).to_have_value("Ben")
    expect(password).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show the password").click()
    expect(password).to_have_attribute("type", "text")
    password.fill(RIGHT)
    password.press("Enter")
    chat = Chat(page, house.process)
    chat.say("script: seed=63 tokens=3")
    chat.expect_tokens(63, 3)
    assert page.evaluate("document.cookie") == ""
    stored = page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
    assert RIGHT not in stored


def test_the_issuer_signs_in(house: House, visits: Visits) -> None:
    """There and back to the page that one was on; signed out it is closed again."""
    page = open_page(house, visits, "/admin")
    page.get_by_role("button", name="Continue with Example Inc.").click()
    expect(page.get_by_role("main")).to_contain_text("for administrators")
    assert page.url == f"{house.process.address}/admin"
    page.goto(house.process.address)
    chat = Chat(page, house.process)
    chat.say("script: seed=64 tokens=3")
    chat.menu(chat.button("More"), "Sign out")
    expect(page.get_by_role("button", name="Continue with Example Inc.")).to_be_visible()


def test_what_went_wrong_at_the_issuer_is_said(house: House, visits: Visits) -> None:
    """A person who says no, and an issuer that does not answer; the address is clean again."""
    page = open_page(house, visits)
    user, house.issuer.user = house.issuer.user, None
    try:
        page.get_by_role("button", name="Continue with Example Inc.").click()
        expect(page.get_by_role("alert")).to_contain_text("You did not sign in there")
        expect(page).to_have_url(f"{house.process.address}/")
    finally:
        house.issuer.user = user
    page.goto(f"{house.process.address}/?sign-in=nonsense")
    expect(page.get_by_role("alert")).to_contain_text("did not work")


def test_a_key_is_another_way(house: House, visits: Visits) -> None:
    """It is a step away."""
    page = open_page(house, visits)
    page.get_by_role("button", name="Use a key instead").click()
    page.get_by_label("Key", exact=True).fill(house.key)
    page.get_by_role("button", name="Sign in").click()
    expect(Chat(page, house.process).field).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_ones_own_pages_and_password(house: House, visits: Visits, size: str) -> None:
    """The list of what is signed in, a new password that is refused, and the end of it all."""
    page = open_page(house, visits, **SIZES[size])
    visits.allow(page, "status of 403", "status of 422")
    page.get_by_label("Name", exact=True).fill("ben")
    page.get_by_label("Password", exact=True).fill(RIGHT)
    page.keyboard.press("Enter")
    chat = Chat(page, house.process)
    expect(chat.field).to_be_visible()
    if size == "narrow":
        chat.button("Open the list of conversations").click()
    chat.menu(chat.button("More"), "Account")
    box = page.get_by_role("dialog")
    expect(box.get_by_text("This page")).to_be_visible()
    for current, words in ((RIGHT + "x", "not the present password"), (RIGHT, "too short")):
        box.get_by_label("Present password").fill(current)
        box.get_by_label("New password").fill("short")
        box.get_by_role("button", name="Change", exact=True).click()
        expect(box.get_by_role("alert")).to_contain_text(words)
    inspect_colours(page, "account", size)
    box.get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_label("Name", exact=True)).to_be_visible()


def test_how_it_looks(house: House, visits: Visits) -> None:
    """No violation of WCAG, nothing wider than the page; with a fault and without."""
    page = open_page(house, visits)
    expect(page.get_by_label("Name", exact=True)).to_be_visible()
    inspect_sizes(page, "sign-in-account")
    page.goto(f"{house.process.address}/?sign-in=refused")
    expect(page.get_by_role("alert")).to_be_visible()
    inspect_sizes(page, "sign-in-fault")

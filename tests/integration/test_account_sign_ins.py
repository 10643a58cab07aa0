"""Sign-ins of accounts: what ends a page's, the cookie, and what all servers and the audit log know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from legato.http.credentials import HOUR_MS
from legato.http.password_throttle import FROM_HERE
from legato.storage.accounts import disable_account, find_by_name
from legato.storage.sign_ins import GRACE_MS, IDLE_MS, MOST_MS, ROTATE_MS
from tests.account_world import OTHER, RIGHT, cookie_for, enter, make, status_of
from tests.page_world import DAY_MS, OWN, Site, cookie_of, open_site, until

pytestmark = pytest.mark.usefixtures("quick_hashes")


# Going out


async def test_a_disabled_account_is_out_at_once(account_site: Site) -> None:
    """With its next request, though it was in a moment ago and the change was made beside the server."""
    cookie, ben = await cookie_for(account_site), await cookie_for(account_site, "ben", OTHER)
    assert await status_of(account_site, cookie) == 200
    database = account_site.node.database
    found = database.transact(lambda tx: find_by_name(tx, "ann"), writes=False)
    assert found is not None
    account_id = found.id
    database.transact(lambda tx: disable_account(tx, account_id, 1), writes=True)
    assert await status_of(account_site, cookie) == 401
    assert await status_of(account_site, ben) == 200
    assert (await enter(account_site, "Ann", RIGHT)).status == 401


async def test_a_new_password_signs_the_other_pages_out(account_site: Site) -> None:
    """This page gets another cookie and stays; the old password and all old cookies are worthless."""
    here, there = await cookie_for(account_site), await cookie_for(account_site)
    body = {"current": RIGHT, "password": OTHER}
    changed = await account_site.ask("PUT", "/me/password", body, cookie=here, origin=OWN)
    assert changed.status == 204, changed.body
    assert await status_of(account_site, here) == 401
    assert await status_of(account_site, there) == 401
    assert await status_of(account_site, cookie_of(changed)) == 200
    assert (await enter(account_site, "Ann", RIGHT)).status == 401
    assert (await enter(account_site, "Ann", OTHER)).status == 200


@pytest.mark.parametrize(
    ("current", "password", "status", "words"),
    [
        (OTHER, "another good one 7", 403, "present password"),
        (RIGHT, "short", 422, "12 are the least"),
        (RIGHT, "x" * 300, 422, "256 are the most"),
        (RIGHT, "Password1234!", 422, "somebody guesses"),
        (RIGHT, "Ann Ann Ann 2026", 422, "somebody guesses"),
    ],
)
async def test_a_new_password_has_to_be_good(
    account_site: Site, current: str, password: str, status: int, words: str
) -> None:
    """And whoever sits at the page has to know the present one; nothing has changed else."""
    cookie = await cookie_for(account_site)
    body = {"current": current, "password": password}
    refused = await account_site.ask("PUT", "/me/password", body, cookie=cookie, origin=OWN)
    assert (refused.status, words in refused.json["detail"]) == (status, True)
    assert password not in refused.body.decode()
    assert await status_of(account_site, cookie) == 200
    assert (await enter(account_site, "Ann", RIGHT)).status == 200


async def test_the_present_password_cannot_be_guessed_at_the_page(account_site: Site) -> None:
    """The tries count as those at the door do."""
    cookie = await cookie_for(account_site)
    body = {"current": "wrong", "password": OTHER}
    statuses = [
        (await account_site.ask("PUT", "/me/password", body, cookie=cookie, origin=OWN)).status
        for _ in range(FROM_HERE.amount + 1)
    ]
    assert statuses == [403] * FROM_HERE.amount + [429]


async def test_who_has_no_password_changes_none(account_site: Site) -> None:
    """A key, and a page that was signed in with one."""
    body = {"current": RIGHT, "password": OTHER}
    cookie = await account_site.sign_in("ben")
    for proof in ({"key": account_site.keys["ben"]}, {"cookie": cookie}):
        refused = await account_site.ask("PUT", "/me/password", body, origin=OWN, **proof)
        assert (refused.status, refused.json["code"]) == (409, "conflict")


async def test_ones_own_pages_are_listed_and_ended(account_site: Site) -> None:
    """By whatever they were signed in; nobody else's are seen or ended."""
    cookie = await cookie_for(account_site, "ben", OTHER, user_agent="Firefox on a table" + "x" * 500)
    by_key, ann = await account_site.sign_in("ben"), await cookie_for(account_site)
    listed = (await account_site.ask("GET", "/me/sessions", cookie=cookie)).json["sessions"]
    assert [(each["signedInBy"], each["current"]) for each in listed] == [("key", False), ("password", True)]
    assert listed[1]["agent"].startswith("Firefox on a table")
    assert len(listed[1]["agent"]) == 200
    assert listed[0].keys() == {"id", "current", "signedInBy", "agent", "createdAt", "lastUsedAt", "expiresAt"}
    other = listed[0]["id"]
    for wrong in ("i-absent", other):
        refused = await account_site.ask("DELETE", f"/me/sessions/{wrong}", cookie=ann, origin=OWN)
        assert (refused.status, refused.json["code"]) == (404, "not_found")
    assert (await account_site.ask("GET", "/me", cookie=by_key)).status == 200
    assert (await account_site.ask("DELETE", f"/me/sessions/{other}", cookie=cookie, origin=OWN)).status == 204
    assert await status_of(account_site, by_key) == 401
    assert await status_of(account_site, cookie) == 200


@pytest.mark.parametrize("by", ["cookie", "key"])
async def test_signing_out_everywhere(account_site: Site, by: str) -> None:
    """All pages, this one too; keys and others stay."""
    pages = [
        await cookie_for(account_site, "ben", OTHER),
        await cookie_for(account_site, "ben", OTHER),
        await account_site.sign_in("ben"),
    ]
    ann = await cookie_for(account_site)
    for page in pages:
        assert await status_of(account_site, page) == 200
    proof: dict[str, Any] = {"cookie": pages[0]} if by == "cookie" else {"key": account_site.keys["ben"]}
    answer = await account_site.ask("DELETE", "/me/sessions", origin=OWN, **proof)
    assert answer.status == 204
    assert ("set-cookie" in answer.headers) == (by == "cookie")
    assert [await status_of(account_site, page) for page in pages] == [401] * 3
    assert await status_of(account_site, ann) == 200
    assert (await account_site.ask("GET", "/me", key=account_site.keys["ben"])).status == 200


# The cookie


async def test_a_cookie_is_exchanged_while_it_is_used(account_site: Site) -> None:
    """After a day the page gets another; the one before is good until that is seen, and for a moment after."""
    cookie = await cookie_for(account_site)
    account_site.clock.shift_ms += ROTATE_MS - HOUR_MS
    assert (
        "set-cookie" not in (await account_site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin")).headers
    )
    account_site.clock.shift_ms += HOUR_MS
    # A request that does not say where its page is gets none.
    assert "set-cookie" not in (await account_site.ask("GET", "/me", cookie=cookie)).headers
    answer = await account_site.ask("GET", "/conversations", cookie=cookie, sec_fetch_site="same-origin")
    new = cookie_of(answer)
    assert new != cookie
    assert answer.headers["cache-control"] == "no-store"
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    # Others that are on their way get none of their own, and are good.
    assert (
        "set-cookie" not in (await account_site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin")).headers
    )
    assert await status_of(account_site, new) == 200
    assert await status_of(account_site, cookie) == 200
    account_site.clock.shift_ms += GRACE_MS + 1
    assert await status_of(account_site, cookie) == 401
    assert await status_of(account_site, new) == 200
    assert len((await account_site.ask("GET", "/me/sessions", cookie=new)).json["sessions"]) == 1


async def test_a_cookie_that_never_arrived_locks_nobody_out(account_site: Site) -> None:
    """The page goes on with the one that it has, and is offered another."""
    cookie = await cookie_for(account_site)
    account_site.clock.shift_ms += ROTATE_MS
    lost = cookie_of(await account_site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin"))
    account_site.clock.shift_ms += GRACE_MS + 1
    kept = cookie_of(await account_site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin"))
    assert await status_of(account_site, kept) == 200
    assert await status_of(account_site, lost) == 401


@pytest.mark.parametrize("which", ["old", "new"])
async def test_signing_out_in_the_midst_of_an_exchange_ends_both(account_site: Site, which: str) -> None:
    """Whichever of the two the browser brings."""
    cookie = await cookie_for(account_site)
    account_site.clock.shift_ms += ROTATE_MS
    new = cookie_of(await account_site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin"))
    brought = new if which == "new" else cookie
    assert (await account_site.ask("POST", "/sign-out", cookie=brought, origin=OWN)).status == 204
    assert [await status_of(account_site, each) for each in (cookie, new)] == [401, 401]


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({"sec_fetch_site": "same-origin", "host": "chat.example"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"origin": "https://localhost"}, True),
        ({"x_forwarded_proto": "https"}, True),
    ],
)
async def test_the_new_cookie_is_for_https_where_the_page_is(account_site: Site, headers: Any, secure: bool) -> None:
    """Also where the proxy says nothing: browsers send Sec-Fetch-Site over connections alone that they trust."""
    cookie = await cookie_for(account_site)
    account_site.clock.shift_ms += ROTATE_MS
    name = "__Host-legato_session" if secure else "legato_session"
    answer = await account_site.ask("GET", "/me", cookie=cookie, cookie_name=name, **headers)
    assert answer.headers["set-cookie"].startswith(f"{name}=")
    assert ("Secure" in answer.headers["set-cookie"].split("; ")) == secure


async def test_pages_of_accounts_end_in_time(tmp_path: Path) -> None:
    """When they were not used for long, and at the latest so long after their beginning; both can be set."""
    table = {"session_idle_h": 24, "session_max_h": 72}
    async with open_site(tmp_path, auth="accounts", accounts=table) as site:
        await make(site, "Ann")
        used, idle = await cookie_for(site), await cookie_for(site)
        for _ in range(2):
            site.clock.shift_ms += DAY_MS - HOUR_MS
            assert await status_of(site, used) == 200
        assert await status_of(site, idle) == 401
        site.clock.shift_ms += DAY_MS - HOUR_MS
        assert await status_of(site, used) == 200
        site.clock.shift_ms += 3 * HOUR_MS
        assert await status_of(site, used) == 401
    assert (IDLE_MS, MOST_MS) == (14 * DAY_MS, 90 * DAY_MS)


async def test_signing_in_and_failing_is_kept_in_the_audit_log(account_site: Site) -> None:
    """Who came in, and for whom somebody tried; never a name that is not there, nor a password."""
    await cookie_for(account_site)
    await enter(account_site, "Ann", "wrong")
    await enter(account_site, "nobody", "wrong")
    told = "SELECT action, actor, owner, detail FROM audit_entry ORDER BY seq"
    await until(lambda: len(account_site.rows(told)) == 2)
    entries = account_site.rows(told)
    assert [entry[:3] for entry in entries] == [("sign-in", "Ann", "Ann"), ("sign-in.failed", "-", "Ann")]
    assert "wrong" not in str(entries)


# Several servers


async def test_all_servers_know_at_once(tmp_path: Path, postgres_url: str) -> None:
    """Who signs in at one is in at the other, and out of both with the next request; tries are counted over both."""
    settings: dict[str, Any] = {"auth": "accounts", "database_url": postgres_url}
    async with open_site(tmp_path / "a", **settings) as one, open_site(tmp_path / "b", **settings) as two:
        account_id = await make(one, "Ann")
        cookie = await cookie_for(one)
        assert await status_of(two, cookie) == 200
        for number in range(FROM_HERE.amount):
            assert (await enter((one, two)[number % 2], "ann", "wrong")).status == 401
        assert [(await enter(each, "Ann", RIGHT)).status for each in (one, two)] == [429, 429]
        assert [await status_of(each, cookie) for each in (one, two)] == [200, 200]
        await one.node.committer.write(lambda tx: disable_account(tx, account_id, 1))
        assert [await status_of(each, cookie) for each in (two, one)] == [401, 401]

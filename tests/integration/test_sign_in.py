"""A key becomes a cookie: who is let in by it, until when, and what another site's page cannot do with it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import delete

from legato.fanout.hint import Hint, HintKind
from legato.http import credentials
from legato.http.credentials import KEY_CACHE_S
from legato.http.throttle import SIGN_INS
from legato.storage.sign_ins import IDLE_MS, MOST_MS, MOST_OF_A_KEY, Lives, SignIn, find_sign_in
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import api_key, sign_in
from legato.version import __version__
from tests.page_world import DAY_MS, OWN, SHOP, Site, cookie_of, open_site, until

EVIL = "https://evil.example"
CACHE_MS = int(KEY_CACHE_S * 1000)
FORGET_ALL = (Prepared(delete(sign_in)), Prepared(delete(api_key)))


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A server; pages of one other site may call."""
    async with open_site(tmp_path_factory.mktemp("house"), allowed_origins=["https://chat.example"]) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def site(house: Site) -> Site:
    """The server with keys for ann, an admin, and ben, a member, and no others; nobody is signed in, an hour later."""
    house.clock.shift_ms += 3_600_000
    await house.node.committer.write(lambda tx: [tx.run(forget) for forget in FORGET_ALL])
    await house.make_keys(ann="admin", ben="member")
    return house


@pytest.mark.parametrize(("owner", "role"), [("ann", "admin"), ("ben", "member")])
async def test_a_key_becomes_a_cookie(site: Site, owner: str, role: str) -> None:
    """No script can read it, no other site's page sends it; with it the key's owner calls."""
    answer = await site.ask("POST", "/sign-in", {"key": site.keys[owner]}, origin=OWN)
    me = {"id": owner, "role": role, "auth": "keys", "via": "session", "signedInBy": "key", "name": owner}
    me["version"] = __version__
    assert (answer.status, answer.json) == (200, me)
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={MOST_MS // 1000}"} == set(attributes)
    cookie = value.partition("=")[2]
    assert site.keys[owner] not in answer.headers["set-cookie"]
    found = await site.ask("GET", "/me", cookie=cookie)
    assert (found.status, found.json) == (200, me)
    made = await site.ask("POST", "/conversations", {"title": "x"}, cookie=cookie, origin=OWN)
    assert made.status == 201
    theirs = await site.ask("GET", f"/conversations/{made.json['id']}", key=site.keys[owner])
    assert theirs.status == 200


async def test_who_calls_with_a_key_is_told_so(site: Site, tmp_path: Path) -> None:
    """And without any, that a credential is missing; without authentication everybody is the local admin."""
    assert (await site.ask("GET", "/me", key=site.keys["ben"])).json["via"] == "key"
    assert (await site.ask("GET", "/me")).status == 401
    async with open_site(tmp_path / "open", auth="none") as free:
        me = {"id": "local", "role": "admin", "auth": "none", "via": "local", "signedInBy": None, "name": None}
        me["version"] = __version__
        assert (await free.ask("GET", "/me")).json == me
        refused = await free.ask("POST", "/sign-in", {"key": "lk_x"}, origin=OWN)
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        assert (await free.ask("POST", "/sign-out", origin=OWN)).status == 204


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({"origin": "https://localhost"}, True),
        ({"sec_fetch_site": "same-origin", "x_forwarded_proto": "https"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"origin": OWN}, False),
    ],
)
async def test_the_cookie_is_for_https_where_the_page_is(site: Site, headers: dict[str, Any], secure: bool) -> None:
    """Also behind a proxy that ends TLS: the browser says in Origin what it sees."""
    answer = await site.ask("POST", "/sign-in", {"key": site.keys["ann"]}, **headers)
    assert answer.status == 200
    assert ("Secure" in answer.headers["set-cookie"].split("; ")) == secure


@pytest.mark.parametrize("kind", ["unknown", "no id", "empty", "cut", "long", "publishable", "visitor", "cookie"])
async def test_only_a_secret_key_signs_in(site: Site, kind: str) -> None:
    """Anything else is one refusal, and sets no cookie."""
    publishable = await site.make_publishable()
    cookie = await site.sign_in("ann")
    wrong = {
        "unknown": "lk_000000000000_x",
        "no id": "hello",
        "empty": "",
        "cut": site.keys["ann"][:-1],
        "long": "lk_" + "x" * 490,
        "publishable": publishable,
        "visitor": await site.visitor(publishable),
        "cookie": cookie,
    }[kind]
    answer = await site.ask("POST", "/sign-in", {"key": wrong}, origin=OWN)
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert "set-cookie" not in answer.headers
    assert wrong == "" or wrong not in answer.body.decode()


async def test_what_is_stored_opens_nothing(site: Site) -> None:
    """The database has hashes alone; a cookie is no key, and a key no cookie."""
    cookie = await site.sign_in("ann")
    ((stored, key_id),) = site.rows("SELECT hash, key_id FROM sign_in")
    assert (len(stored), key_id) == (32, site.keys["ann"].split("_")[1])
    await site.node.committer.flush()
    for path in site.node.settings.database_path.parent.iterdir():
        assert cookie.encode() not in path.read_bytes()
    assert (await site.ask("GET", "/me", key=cookie)).status == 401
    assert (await site.ask("GET", "/me", cookie=site.keys["ann"])).status == 401
    assert (await site.ask("GET", "/me", cookie="x" * 5000)).status == 401
    # A credential that is sent is the one that counts.
    assert (await site.ask("GET", "/me", cookie=cookie, key="lk_wrong")).status == 401


async def test_signing_out_ends_it_at_once(site: Site) -> None:
    """Also while the cookie is remembered as good; the other pages of the same key stay signed in."""
    cookie, other = await site.sign_in("ann"), await site.sign_in("ann")
    for each in (cookie, other):
        assert (await site.ask("GET", "/me", cookie=each)).status == 200
    answer = await site.ask("POST", "/sign-out", cookie=cookie, origin=OWN)
    assert answer.status == 204
    assert 'legato_session=""' in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 401
    assert (await site.ask("GET", "/me", cookie=other)).status == 200
    # What is over already is signed out of too, and a browser without a cookie.
    assert (await site.ask("POST", "/sign-out", cookie=cookie, origin=OWN)).status == 204
    assert (await site.ask("POST", "/sign-out", origin=OWN)).status == 204


async def test_signing_out_counts_for_what_is_being_looked_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that saw the sign-in before it ended, and comes back behind it, lets nobody in, then or later."""
    cookie = await site.sign_in("ann")
    seen, ended = threading.Event(), threading.Event()

    def slow(tx: Transaction, token: str, now_ms: int, lives: Lives) -> SignIn | None:
        found = find_sign_in(tx, token, now_ms, lives)
        seen.set()
        assert ended.wait(20)
        return found

    monkeypatch.setattr(credentials, "find_sign_in", slow)
    asked = asyncio.create_task(site.ask("GET", "/me", cookie=cookie))
    await until(seen.is_set)
    assert (await site.ask("POST", "/sign-out", cookie=cookie, origin=OWN)).status == 204
    ended.set()
    assert (await asked).status == 401
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 401


async def test_a_revoked_key_takes_its_pages_along(site: Site) -> None:
    """Within the seconds in which a good one is remembered; nobody else is signed out."""
    cookie, ben = await site.sign_in("ann"), await site.sign_in("ben")
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 200
    await site.revoke(site.keys["ann"])
    site.clock.shift_ms += CACHE_MS
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 401
    assert (await site.ask("GET", "/me", cookie=ben)).status == 200


async def test_a_sign_in_ends_when_it_is_idle(site: Site) -> None:
    """Not used for so long, and not a moment before."""
    used, idle = await site.sign_in("ann"), await site.sign_in("ann")
    site.clock.shift_ms += IDLE_MS - DAY_MS
    assert (await site.ask("GET", "/me", cookie=used)).status == 200
    site.clock.shift_ms += DAY_MS
    assert (await site.ask("GET", "/me", cookie=idle)).status == 401
    assert (await site.ask("GET", "/me", cookie=used)).status == 200


async def test_a_sign_in_that_is_used_ends_after_all(site: Site) -> None:
    """At the latest so long after its beginning, however often it was put off."""
    cookie = await site.sign_in("ann")
    days = 0
    while days < 200 and (await site.ask("GET", "/me", cookie=cookie)).status == 200:
        site.clock.shift_ms += DAY_MS
        days += 1
    assert days == MOST_MS // DAY_MS
    # The rows of what is over go with the next sign-in.
    await site.sign_in("ben")
    assert len(site.rows("SELECT 1 FROM sign_in")) == 1


async def test_one_key_is_not_signed_in_without_end(site: Site) -> None:
    """Past the most pages of one key the oldest are over."""
    first = await site.sign_in("ann")
    site.clock.shift_ms += CACHE_MS + 1
    for _ in range(MOST_OF_A_KEY):
        await site.sign_in("ann")
    assert (await site.ask("GET", "/me", cookie=first)).status == 401
    assert site.rows("SELECT count(*) FROM sign_in") == [(MOST_OF_A_KEY,)]


# Other sites' pages

READS: tuple[str, ...] = ("/me", "/conversations")
OTHERS = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": "https://chat.example"},
    {"origin": "http://localhost:9999"},
    {"origin": OWN, "sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_sites_page_cannot_use_the_cookie(site: Site, headers: dict[str, Any], method: str) -> None:
    """Neither to change anything nor to read, though a key of its own would be taken from an allowed origin."""
    cookie = await site.sign_in("ann")
    before = site.rows("SELECT count(*) FROM conversation")
    body = {"title": "x"} if method == "POST" else None
    answer = await site.ask(method, "/conversations", body, cookie=cookie, **headers)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "access-control-allow-credentials" not in answer.headers
    assert site.rows("SELECT count(*) FROM conversation") == before


@pytest.mark.parametrize("headers", [{}, {"sec_fetch_site": "none"}, *OTHERS], ids=str)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/conversations", {"title": "x"}),
        ("POST", "/chat/stream", {"message": "script: tokens=1"}),
        ("POST", "/chat/stream/r-0/stop", None),
        ("DELETE", "/conversations/c-1", None),
        ("PATCH", "/conversations/c-1", {"title": "x"}),
        ("POST", "/sign-out", None),
        ("POST", "/sign-in", {"key": "{key}"}),
    ],
)
async def test_nothing_changes_unless_it_is_known_whose_page_asks(
    site: Site, method: str, path: str, body: Any, headers: dict[str, Any]
) -> None:
    """A browser that says neither Origin nor Sec-Fetch-Site is refused too: it fails closed."""
    cookie = await site.sign_in("ann")
    if path == "/sign-in":
        body = {"key": site.keys["ben"]}
    answer = await site.ask(method, path, body, cookie=cookie, accept="application/json", **headers)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "set-cookie" not in answer.headers
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 200


@pytest.mark.parametrize("headers", [{"origin": OWN}, {"sec_fetch_site": "same-origin"}], ids=str)
async def test_a_page_of_this_server_may_do_all(site: Site, headers: dict[str, Any]) -> None:
    """It says so in one header or the other; what it posts is JSON, as ever."""
    cookie = await site.sign_in("ann")
    answer = await site.ask("POST", "/chat/stream", {"message": "script: tokens=2"}, cookie=cookie, **headers)
    assert (answer.status, b"event: complete" in answer.body) == (200, True)
    run_id = answer.headers["x-run-id"]
    assert (await site.ask("GET", f"/chat/stream/{run_id}", cookie=cookie)).status == 200
    assert (await site.ask("POST", f"/chat/stream/{run_id}/stop", cookie=cookie, **headers)).status == 202
    form = await site.ask(
        "POST", "/conversations", b"title=x", cookie=cookie, content_type="application/x-www-form-urlencoded", **headers
    )
    assert form.status == 415


# Guessing


async def test_guessing_is_slowed_down(site: Site) -> None:
    """So many wrong keys a minute from one address, whatever else is sent; then nobody is let in, and told when."""
    wrong = [site.ask("POST", "/sign-in", {"key": f"lk_{number:012x}_x"}, origin=OWN) for number in range(SIGN_INS + 5)]
    statuses = [answer.status for answer in await asyncio.gather(*wrong)]
    assert (statuses.count(401), statuses.count(429)) == (SIGN_INS, 5)
    answer = await site.ask("POST", "/sign-in", {"key": site.keys["ann"]}, origin=OWN)
    assert (answer.status, answer.json["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    site.clock.shift_ms += int(answer.headers["retry-after"]) * 1000
    assert (await site.ask("POST", "/sign-in", {"key": site.keys["ann"]}, origin=OWN)).status == 200


async def test_right_keys_do_not_count(site: Site) -> None:
    """An office behind one address signs in as often as it likes."""
    for _ in range(SIGN_INS + 2):
        assert await site.sign_in("ann")


async def test_addresses_are_told_apart_behind_a_trusted_proxy(tmp_path: Path) -> None:
    """One who guesses locks nobody else out; without the setting a client cannot say where it comes from."""
    async with open_site(tmp_path, trusted_proxies=["127.0.0.1"]) as site:
        await site.make_keys(ann="admin")
        for number in range(SIGN_INS + 1):
            wrong = {"key": f"lk_{number:012x}_x"}
            answer = await site.ask("POST", "/sign-in", wrong, origin=OWN, x_forwarded_for="192.0.2.1")
        assert answer.status == 429
        body = {"key": site.keys["ann"]}
        assert (await site.ask("POST", "/sign-in", body, origin=OWN, x_forwarded_for="192.0.2.2")).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        ([], 422),
        ({}, 422),
        ({"key": 5}, 422),
        ({"key": None}, 422),
        ({"key": "x" * 501}, 422),
        ({"key": "a\x00b"}, 422),
        ({"key": "x", "name": "y"}, 422),
        (json.dumps({"key": "x"}).encode().replace(b"x", b"\xff"), 400),
        ({"key": "x" * 2_000_000}, 413),
    ],
)
async def test_a_wrong_body_is_named(site: Site, body: Any, status: int) -> None:
    """And counts for nothing."""
    answer = await site.ask("POST", "/sign-in", body, origin=OWN)
    assert answer.status == status


@pytest.mark.parametrize("cookie", ["", "=", ";;;", '"', "\xff\xfe", "a" * 4000, "x; legato_session=y", "%00"])
async def test_a_wrong_cookie_is_no_sign_in(site: Site, cookie: str) -> None:
    """Whatever it holds."""
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 401
    assert (await site.ask("GET", "/me", origin=SHOP, cookie=cookie)).status == 403


async def test_signing_in_again_ends_the_sign_in_before(site: Site) -> None:
    """A browser has one."""
    first = await site.sign_in("ann")
    answer = await site.ask("POST", "/sign-in", {"key": site.keys["ben"]}, cookie=first, origin=OWN)
    assert answer.json["id"] == "ben"
    assert (await site.ask("GET", "/me", cookie=first)).status == 401
    assert (await site.ask("GET", "/me", cookie=cookie_of(answer))).json["id"] == "ben"


async def test_a_hint_takes_back_what_is_remembered(site: Site) -> None:
    """Another node has ended a sign-in: credentials are looked up again, and what a look has found that had begun
    before the hint is not kept."""
    known, key = credentials.Credentials(site.node), site.keys["ann"]
    forget = Hint(kind=HintKind.FORGET)
    assert await known.of_key(key)
    assert known.known(key)
    site.node.wakes.hints._hear([forget])
    assert known.known(key) is None
    look = asyncio.create_task(known.of_key(key))
    await asyncio.sleep(0)
    site.node.wakes.hints._hear([forget])
    assert await look
    assert known.known(key) is None
    assert await known.of_key(key)
    assert known.known(key)

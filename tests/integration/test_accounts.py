"""Accounts with a password: who signs in, how guessing is slowed down, what ends a page's sign-in, and the cookie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from legato.cli.accounts import app
from legato.core.errors import Overloaded
from legato.http.credentials import HOUR_MS
from legato.http.throttle import OF_ACCOUNT, SIGN_INS
from legato.policies import password_hashes
from legato.policies.password_hashes import MOST_WAITING, WORKERS, PasswordHashes, hash_password
from legato.storage.accounts import create_account, disable_account, find_by_name, set_password
from legato.storage.sign_ins import GRACE_MS, IDLE_MS, MOST_MS, ROTATE_MS
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import sign_in
from tests.asgi import AsgiAnswer
from tests.page_world import DAY_MS, OWN, Site, cookie_of, open_site

RIGHT = "bergamot lantern uphill"
OTHER = "seven quiet kettles hum"
_STORED: dict[str, str] = {}


def stored(password: str) -> str:
    """Hashed once for all tests: a hash is dear on purpose."""
    if password not in _STORED:
        _STORED[password] = hash_password(password)
    return _STORED[password]


async def make(site: Site, name: str, *, role: Any = "member", password: str | None = RIGHT) -> str:
    """Make an account; return its id."""
    password_hash = None if password is None else stored(password)
    made = await site.node.committer.write(
        lambda tx: create_account(
            tx, now_ms=1, label=name, name=name, owner=name, role=role, password_hash=password_hash
        )
    )
    assert made is not None
    return made.id


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make hashes cheap, but for tests that look at them."""
    if "dear" not in request.fixturenames:
        monkeypatch.setattr(password_hashes, "MEMORY_KIB", 64)
        monkeypatch.setattr(password_hashes, "ROUNDS", 1)
    for cached in (password_hashes._hasher, password_hashes._nobodys):
        cached.cache_clear()
    _STORED.clear()
    yield
    for cached in (password_hashes._hasher, password_hashes._nobodys):
        cached.cache_clear()


@pytest.fixture
def dear() -> None:
    """Hashes cost what they cost a server."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with accounts for Ann, an admin, and ben, and a key of ben's."""
    async with open_site(tmp_path, auth="accounts") as opened:
        await make(opened, "Ann", role="admin")
        await make(opened, "ben", password=OTHER)
        await opened.make_keys(ben="member")
        yield opened


async def enter(site: Site, name: str, password: str, **headers: str) -> AsgiAnswer:
    return await site.ask("POST", "/sign-in", {"name": name, "password": password}, origin=OWN, **headers)


async def cookie_for(site: Site, name: str = "Ann", password: str = RIGHT, **headers: str) -> str:
    answer = await enter(site, name, password, **headers)
    assert answer.status == 200, answer.body
    return cookie_of(answer)


async def status_of(site: Site, cookie: str) -> int:
    return (await site.ask("GET", "/me", cookie=cookie)).status


# Coming in


@pytest.mark.parametrize("disabled", [False, True])
async def test_a_password_that_changes_while_it_is_compared_lets_nobody_in(
    site: Site, monkeypatch: pytest.MonkeyPatch, disabled: bool
) -> None:
    """Comparing takes a while: what is changed meanwhile, or an account that is disabled, is not passed by."""
    compare = PasswordHashes.verify

    def change(tx: Transaction) -> None:
        found = find_by_name(tx, "Ann")
        assert found is not None
        if disabled:
            disable_account(tx, found.id, 2)
        else:
            set_password(tx, found.id, stored(OTHER), 2)

    async def compare_and_change(self: PasswordHashes, password: str, of: str | None) -> tuple[bool, str | None]:
        found = await compare(self, password, of)
        await site.node.committer.write(change)
        return found

    monkeypatch.setattr(PasswordHashes, "verify", compare_and_change)
    assert (await enter(site, "Ann", RIGHT)).status == 401
    assert await site.node.database.read(lambda tx: tx.all(Prepared(select(sign_in.c.id)))) == []


@pytest.mark.parametrize("name", ["Ann", "ann", " ANN ", "Ａnn"])
async def test_a_name_and_a_password_sign_in(site: Site, name: str) -> None:
    """However the name is written; the page is told who it is and how it came in."""
    answer = await enter(site, name, RIGHT)
    assert answer.status == 200
    assert answer.json | {"version": ""} == {
        "id": "Ann",
        "role": "admin",
        "auth": "accounts",
        "via": "session",
        "signedInBy": "password",
        "name": "Ann",
        "version": "",
    }
    me = await site.ask("GET", "/me", cookie=cookie_of(answer))
    assert me.json == answer.json
    assert RIGHT not in str(answer.headers)


async def test_keys_go_on_to_be_good(site: Site) -> None:
    """Beside accounts; who has both has the same conversations."""
    assert (await site.ask("POST", "/conversations", {"id": "c-1"}, key=site.keys["ben"])).status == 201
    cookie = await cookie_for(site, "ben", OTHER)
    assert (await site.ask("GET", "/conversations/c-1", cookie=cookie)).status == 200
    assert await site.sign_in("ben")


@pytest.mark.parametrize(
    ("name", "password"),
    [("Ann", OTHER), ("Ann", ""), ("nobody", RIGHT), ("Ann", RIGHT + " "), ("Ann", RIGHT.upper()), ("", RIGHT)],
)
async def test_what_does_not_belong_together_is_one_refusal(site: Site, name: str, password: str) -> None:
    """The same for a wrong password, a name that is not there, and one that is disabled or has no password."""
    await make(site, "dora")
    gone = await make(site, "gone")
    await make(site, "guest", password=None)
    await site.node.committer.write(lambda tx: disable_account(tx, gone, 1))
    refused = await enter(site, name, password)
    assert (refused.status, refused.json["code"]) == (401, "unauthenticated")
    assert "set-cookie" not in refused.headers
    for others in (("gone", RIGHT), ("guest", RIGHT), ("dora", OTHER)):
        assert (await enter(site, *others)).body == refused.body


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Ann"},
        {"password": RIGHT},
        {"key": "lk_x", "name": "Ann", "password": RIGHT},
        {"key": "lk_x", "password": RIGHT},
        {"name": "a" * 201, "password": RIGHT},
        {"name": "Ann", "password": "x" * 1025},
        {"name": "Ann\x00", "password": RIGHT},
        {"name": 5, "password": RIGHT},
        {"name": ["Ann"], "password": RIGHT},
    ],
)
async def test_a_wrong_body_is_named(site: Site, body: object) -> None:
    """And nothing is tried."""
    answer = await site.ask("POST", "/sign-in", body, origin=OWN)
    assert (answer.status, answer.json["code"]) == (422, "invalid_request")


async def test_passwords_count_only_where_there_are_accounts(tmp_path: Path) -> None:
    """A server with keys alone says that it has none, and so does one whose people come from an issuer alone."""
    oidc = {"issuer": "https://login.example", "client_id": "x", "allow_everybody": True}
    kinds: list[dict[str, Any]] = [{"auth": "keys"}, {"auth": "accounts", "accounts": {"passwords": False}}]
    for number, settings in enumerate(kinds):
        more: dict[str, Any] = {"oidc": oidc} if number else {}
        async with open_site(tmp_path / str(number), **settings, **more) as site:
            assert (await site.ask("GET", "/sign-in")).json["password"] is False
            await make(site, "Ann")
            assert (await enter(site, "Ann", RIGHT)).status == 409


async def test_what_is_stored_is_no_password(dear: None, site: Site) -> None:
    """An argon2id hash with a salt of its own; the cookie's hash; neither opens anything."""
    cookie = await cookie_for(site)
    ((first,), (_,)) = site.rows("SELECT password_hash FROM account ORDER BY name")
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert (await enter(site, "Ann", first)).status == 401
    await site.node.committer.flush()
    for path in site.node.settings.database_path.parent.iterdir():
        for secret in (RIGHT, cookie):
            assert secret.encode() not in path.read_bytes()


async def test_a_weaker_hash_is_made_anew(dear: None, site: Site) -> None:
    """With the parameters of now, by the sign-in itself: the password is at hand then."""
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    weak = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1),)).hash(RIGHT)
    made = lambda tx: create_account(tx, now_ms=1, label="old", name="old", role="member", password_hash=weak)  # noqa: E731
    await site.node.committer.write(made)
    assert await cookie_for(site, "old")
    ((now,),) = site.rows("SELECT password_hash FROM account WHERE name = 'old'")
    assert now.startswith("$argon2id$v=19$m=65536,t=3")
    assert await cookie_for(site, "old")


async def test_names_that_are_not_there_take_as_long(dear: None, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """Each try compares one hash of the same cost, whether there is such an account, a password, or neither."""
    compared: list[str] = []
    hasher = password_hashes._hasher()
    original = hasher.verify_and_update

    def comparing(password: str, given: str) -> Any:
        compared.append(given.rpartition("$")[0].rpartition("$")[0])
        return original(password, given)

    monkeypatch.setattr(hasher, "verify_and_update", comparing)
    await make(site, "guest", password=None)
    for name in ("Ann", "nobody", "guest"):
        assert (await enter(site, name, "x" * 20)).status == 401
    assert compared == ["$argon2id$v=19$m=65536,t=3,p=1"] * 3


# Guessing


async def test_guessing_at_one_name_is_slowed_down(tmp_path: Path) -> None:
    """From however many addresses, for a name that is there and one that is not; who is in stays in."""
    async with open_site(tmp_path, auth="accounts", trusted_proxies=["127.0.0.1"]) as site:
        await make(site, "Ann")
        cookie = await cookie_for(site, x_forwarded_for="192.0.2.200")
        for name in ("ann", "nobody"):
            answers = [
                await enter(site, name, f"wrong {number}", x_forwarded_for=f"192.0.2.{number}")
                for number in range(OF_ACCOUNT.amount + 2)
            ]
            statuses = [answer.status for answer in answers]
            assert statuses == [401] * OF_ACCOUNT.amount + [429] * 2
            assert 1 <= int(answers[-1].headers["retry-after"]) <= OF_ACCOUNT.window_s
        assert (await enter(site, "Ann", RIGHT, x_forwarded_for="192.0.2.201")).status == 429
        assert await status_of(site, cookie) == 200
        site.clock.shift_ms += OF_ACCOUNT.window_s * 1000
        assert (await enter(site, "Ann", RIGHT, x_forwarded_for="192.0.2.201")).status == 200


async def test_guessing_from_one_address_is_slowed_down(site: Site) -> None:
    """Keys and passwords together, over all names."""
    tries: list[dict[str, str]] = [{"name": f"n{number}", "password": "x"} for number in range(SIGN_INS - 5)]
    tries += [{"key": f"lk_{number:012x}_x"} for number in range(7)]
    statuses = [(await site.ask("POST", "/sign-in", body, origin=OWN)).status for body in tries]
    assert (statuses.count(401), statuses.count(429)) == (SIGN_INS, 2)
    assert (await enter(site, "Ann", RIGHT)).status == 429
    site.clock.shift_ms += 60_000
    # What was right does not count.
    for _ in range(3):
        assert (await enter(site, "Ann", RIGHT)).status == 200


async def test_hashes_are_made_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at once, so many waiting; past that a sign-in is refused, and the event loop goes on all the while."""
    at_once: list[int] = []
    running = 0

    def slow(password: str, stored: str | None) -> tuple[bool, str | None]:
        nonlocal running
        running += 1
        at_once.append(running)
        time.sleep(0.005)
        running -= 1
        return True, None

    monkeypatch.setattr(password_hashes, "verify_password", slow)
    hashes = PasswordHashes()
    most = WORKERS + MOST_WAITING
    tries = [asyncio.create_task(hashes.verify("x", None)) for _ in range(most + 5)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(each) for each in found] == [tuple] * most + [Overloaded] * 5
    assert max(at_once) <= WORKERS
    assert await hashes.verify("x", None) == (True, None)


# Going out


async def test_a_disabled_account_is_out_at_once(site: Site) -> None:
    """With its next request, though it was in a moment ago and the change was made beside the server."""
    cookie, ben = await cookie_for(site), await cookie_for(site, "ben", OTHER)
    assert await status_of(site, cookie) == 200
    database = site.node.database
    found = database.transact(lambda tx: find_by_name(tx, "ann"), writes=False)
    assert found is not None
    account_id = found.id
    database.transact(lambda tx: disable_account(tx, account_id, 1), writes=True)
    assert await status_of(site, cookie) == 401
    assert await status_of(site, ben) == 200
    assert (await enter(site, "Ann", RIGHT)).status == 401


async def test_a_new_password_signs_the_other_pages_out(site: Site) -> None:
    """This page gets another cookie and stays; the old password and all old cookies are worthless."""
    here, there = await cookie_for(site), await cookie_for(site)
    body = {"current": RIGHT, "password": OTHER}
    changed = await site.ask("PUT", "/me/password", body, cookie=here, origin=OWN)
    assert changed.status == 204, changed.body
    assert await status_of(site, here) == 401
    assert await status_of(site, there) == 401
    assert await status_of(site, cookie_of(changed)) == 200
    assert (await enter(site, "Ann", RIGHT)).status == 401
    assert (await enter(site, "Ann", OTHER)).status == 200


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
async def test_a_new_password_has_to_be_good(site: Site, current: str, password: str, status: int, words: str) -> None:
    """And whoever sits at the page has to know the present one; nothing has changed else."""
    cookie = await cookie_for(site)
    body = {"current": current, "password": password}
    refused = await site.ask("PUT", "/me/password", body, cookie=cookie, origin=OWN)
    assert (refused.status, words in refused.json["detail"]) == (status, True)
    assert password not in refused.body.decode()
    assert await status_of(site, cookie) == 200
    assert (await enter(site, "Ann", RIGHT)).status == 200


async def test_the_present_password_cannot_be_guessed_at_the_page(site: Site) -> None:
    """The tries count as those at the door do."""
    cookie = await cookie_for(site)
    body = {"current": "wrong", "password": OTHER}
    statuses = [
        (await site.ask("PUT", "/me/password", body, cookie=cookie, origin=OWN)).status
        for _ in range(OF_ACCOUNT.amount + 1)
    ]
    assert statuses == [403] * OF_ACCOUNT.amount + [429]


async def test_who_has_no_password_changes_none(site: Site) -> None:
    """A key, and a page that was signed in with one."""
    body = {"current": RIGHT, "password": OTHER}
    cookie = await site.sign_in("ben")
    for proof in ({"key": site.keys["ben"]}, {"cookie": cookie}):
        refused = await site.ask("PUT", "/me/password", body, origin=OWN, **proof)
        assert (refused.status, refused.json["code"]) == (409, "conflict")


async def test_ones_own_pages_are_listed_and_ended(site: Site) -> None:
    """By whatever they were signed in; nobody else's are seen or ended."""
    cookie = await cookie_for(site, "ben", OTHER, user_agent="Firefox on a table" + "x" * 500)
    by_key, ann = await site.sign_in("ben"), await cookie_for(site)
    listed = (await site.ask("GET", "/me/sessions", cookie=cookie)).json["sessions"]
    assert [(each["signedInBy"], each["current"]) for each in listed] == [("key", False), ("password", True)]
    assert listed[1]["agent"].startswith("Firefox on a table")
    assert len(listed[1]["agent"]) == 200
    assert listed[0].keys() == {"id", "current", "signedInBy", "agent", "createdAt", "lastUsedAt", "expiresAt"}
    other = listed[0]["id"]
    for wrong in ("i-absent", other):
        refused = await site.ask("DELETE", f"/me/sessions/{wrong}", cookie=ann, origin=OWN)
        assert (refused.status, refused.json["code"]) == (404, "not_found")
    assert (await site.ask("GET", "/me", cookie=by_key)).status == 200
    assert (await site.ask("DELETE", f"/me/sessions/{other}", cookie=cookie, origin=OWN)).status == 204
    assert await status_of(site, by_key) == 401
    assert await status_of(site, cookie) == 200


@pytest.mark.parametrize("by", ["cookie", "key"])
async def test_signing_out_everywhere(site: Site, by: str) -> None:
    """All pages, this one too; keys and others stay."""
    pages = [await cookie_for(site, "ben", OTHER), await cookie_for(site, "ben", OTHER), await site.sign_in("ben")]
    ann = await cookie_for(site)
    for page in pages:
        assert await status_of(site, page) == 200
    proof: dict[str, Any] = {"cookie": pages[0]} if by == "cookie" else {"key": site.keys["ben"]}
    answer = await site.ask("DELETE", "/me/sessions", origin=OWN, **proof)
    assert answer.status == 204
    assert ("set-cookie" in answer.headers) == (by == "cookie")
    assert [await status_of(site, page) for page in pages] == [401] * 3
    assert await status_of(site, ann) == 200
    assert (await site.ask("GET", "/me", key=site.keys["ben"])).status == 200


# The cookie


async def test_a_cookie_is_exchanged_while_it_is_used(site: Site) -> None:
    """After a day the page gets another; the one before is good until that is seen, and for a moment after."""
    cookie = await cookie_for(site)
    site.clock.shift_ms += ROTATE_MS - HOUR_MS
    assert "set-cookie" not in (await site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin")).headers
    site.clock.shift_ms += HOUR_MS
    # A request that does not say where its page is gets none.
    assert "set-cookie" not in (await site.ask("GET", "/me", cookie=cookie)).headers
    answer = await site.ask("GET", "/conversations", cookie=cookie, sec_fetch_site="same-origin")
    new = cookie_of(answer)
    assert new != cookie
    assert answer.headers["cache-control"] == "no-store"
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    # Others that are on their way get none of their own, and are good.
    assert "set-cookie" not in (await site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin")).headers
    assert await status_of(site, new) == 200
    assert await status_of(site, cookie) == 200
    site.clock.shift_ms += GRACE_MS + 1
    assert await status_of(site, cookie) == 401
    assert await status_of(site, new) == 200
    assert len((await site.ask("GET", "/me/sessions", cookie=new)).json["sessions"]) == 1


async def test_a_cookie_that_never_arrived_locks_nobody_out(site: Site) -> None:
    """The page goes on with the one that it has, and is offered another."""
    cookie = await cookie_for(site)
    site.clock.shift_ms += ROTATE_MS
    lost = cookie_of(await site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin"))
    site.clock.shift_ms += GRACE_MS + 1
    kept = cookie_of(await site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin"))
    assert await status_of(site, kept) == 200
    assert await status_of(site, lost) == 401


@pytest.mark.parametrize("which", ["old", "new"])
async def test_signing_out_in_the_midst_of_an_exchange_ends_both(site: Site, which: str) -> None:
    """Whichever of the two the browser brings."""
    cookie = await cookie_for(site)
    site.clock.shift_ms += ROTATE_MS
    new = cookie_of(await site.ask("GET", "/me", cookie=cookie, sec_fetch_site="same-origin"))
    brought = new if which == "new" else cookie
    assert (await site.ask("POST", "/sign-out", cookie=brought, origin=OWN)).status == 204
    assert [await status_of(site, each) for each in (cookie, new)] == [401, 401]


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({"sec_fetch_site": "same-origin", "host": "chat.example"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"origin": "https://localhost"}, True),
        ({"x_forwarded_proto": "https"}, True),
    ],
)
async def test_the_new_cookie_is_for_https_where_the_page_is(site: Site, headers: Any, secure: bool) -> None:
    """Also where the proxy says nothing: browsers send Sec-Fetch-Site over connections alone that they trust."""
    cookie = await cookie_for(site)
    site.clock.shift_ms += ROTATE_MS
    answer = await site.ask("GET", "/me", cookie=cookie, **headers)
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


# The command


def run(folder: Path, *arguments: str, typed: str = RIGHT) -> Result:
    return CliRunner().invoke(
        app, [*arguments, "--data-dir", str(folder)], input=typed, env={"COLUMNS": "250", "LEGATO_AUTH": "accounts"}
    )


async def test_the_command_makes_and_ends_accounts(tmp_path: Path) -> None:
    """Beside a server that runs: what it does counts with the next request."""
    async with open_site(tmp_path, auth="accounts") as site:
        folder = site.node.settings.data_dir

        def command(*arguments: str, typed: str = RIGHT) -> Any:
            return asyncio.to_thread(run, folder, *arguments, typed=typed)

        made = await command("add", "Ann", "--role", "admin")
        assert made.exit_code == 0, made.output
        assert RIGHT not in made.output
        cookie = await cookie_for(site)
        listed = await command("list")
        assert all(word in listed.stdout for word in ("ann", "Ann", "admin", "password", "account:"))
        assert "argon2" not in listed.stdout
        assert (await command("passwd", "ANN", typed=OTHER)).exit_code == 0
        assert await status_of(site, cookie) == 401
        cookie = await cookie_for(site, "Ann", OTHER)
        assert (await command("disable", "ann")).exit_code == 0
        assert await status_of(site, cookie) == 401
        assert (await command("enable", "ann")).exit_code == 0
        cookie = await cookie_for(site, "Ann", OTHER)
        assert (await command("remove", "ann")).exit_code == 0
        assert await status_of(site, cookie) == 401
        assert site.rows("SELECT count(*) FROM account") == [(0,)]
        actions = [action for (action,) in site.rows("SELECT action FROM audit_entry ORDER BY seq")]
        assert [each for each in actions if each.startswith("account")] == [
            "account.create",
            "account.change",
            "account.change",
            "account.change",
            "account.delete",
        ]


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "words"),
    [
        (["add", "ann"], RIGHT, 1, "already"),
        (["add", "Dora"], "short", 1, "12 are the least"),
        (["add", "Dora"], "password12345", 1, "somebody guesses"),
        (["add", "Dora"], "", 1, "0 characters"),
        (["add", " "], RIGHT, 2, "is blank"),
        (["add", "account:x"], RIGHT, 2, "another name"),
        (["add", "Dora", "--owner", "visitor:x"], RIGHT, 2, "the server's own"),
        (["add", "Dora", "--owner", "app"], RIGHT, 2, "the server's own"),
        (["add", "Dora", "--subject", "x"], RIGHT, 2, "[oidc]"),
        (["passwd", "nobody"], RIGHT, 1, "no account nobody"),
        (["disable", "nobody"], RIGHT, 1, "no account nobody"),
        (["remove", "nobody"], RIGHT, 1, "no account nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, arguments: list[str], typed: str, code: int, words: str
) -> None:
    """In words that say what would."""
    assert run(tmp_path, "add", "Ann").exit_code == 0
    refused = run(tmp_path, *arguments, typed=typed)
    assert refused.exit_code == code, refused.output
    assert words in " ".join(refused.output.replace("│", " ").split())


async def test_signing_in_and_failing_is_kept_in_the_audit_log(site: Site) -> None:
    """Who came in, and for whom somebody tried; never a name that is not there, nor a password."""
    await cookie_for(site)
    await enter(site, "Ann", "wrong")
    await enter(site, "nobody", "wrong")
    for _ in range(200):
        entries = site.rows("SELECT action, actor, owner, detail FROM audit_entry ORDER BY seq")
        if len(entries) == 2:
            break
        await asyncio.sleep(0.02)
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
        for number in range(OF_ACCOUNT.amount):
            assert (await enter((one, two)[number % 2], "ann", "wrong")).status == 401
        assert [(await enter(each, "Ann", RIGHT)).status for each in (one, two)] == [429, 429]
        assert [await status_of(each, cookie) for each in (one, two)] == [200, 200]
        await one.node.committer.write(lambda tx: disable_account(tx, account_id, 1))
        assert [await status_of(each, cookie) for each in (two, one)] == [401, 401]

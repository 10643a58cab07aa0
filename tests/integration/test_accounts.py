"""Accounts with a password: who signs in, and how guessing is slowed down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from legato.core.errors import Overloaded
from legato.http.password_throttle import FROM_ANYWHERE, FROM_HERE
from legato.http.throttle import SIGN_INS
from legato.policies import password_hashes
from legato.policies.password_hashes import MOST_WAITING, WORKERS, PasswordHashes
from legato.storage.accounts import create_account, disable_account, find_by_name, set_password
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import sign_in
from tests.account_world import OTHER, RIGHT, cookie_for, enter, make, status_of, stored
from tests.page_world import OWN, Site, cookie_of, open_site

pytestmark = pytest.mark.usefixtures("quick_hashes")


# Coming in


@pytest.mark.parametrize("disabled", [False, True])
async def test_a_password_that_changes_while_it_is_compared_lets_nobody_in(
    account_site: Site, monkeypatch: pytest.MonkeyPatch, disabled: bool
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
        await account_site.node.committer.write(change)
        return found

    monkeypatch.setattr(PasswordHashes, "verify", compare_and_change)
    assert (await enter(account_site, "Ann", RIGHT)).status == 401
    assert await account_site.node.database.read(lambda tx: tx.all(Prepared(select(sign_in.c.id)))) == []


@pytest.mark.parametrize("name", ["Ann", "ann", " ANN ", "Ａnn"])
async def test_a_name_and_a_password_sign_in(account_site: Site, name: str) -> None:
    """However the name is written; the page is told who it is and how it came in."""
    answer = await enter(account_site, name, RIGHT)
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
    me = await account_site.ask("GET", "/me", cookie=cookie_of(answer))
    assert me.json == answer.json
    assert RIGHT not in str(answer.headers)


async def test_keys_go_on_to_be_good(account_site: Site) -> None:
    """Beside accounts; who has both has the same conversations."""
    assert (await account_site.ask("POST", "/conversations", {"id": "c-1"}, key=account_site.keys["ben"])).status == 201
    cookie = await cookie_for(account_site, "ben", OTHER)
    assert (await account_site.ask("GET", "/conversations/c-1", cookie=cookie)).status == 200
    assert await account_site.sign_in("ben")


@pytest.mark.parametrize(
    ("name", "password"),
    [("Ann", OTHER), ("Ann", ""), ("nobody", RIGHT), ("Ann", RIGHT + " "), ("Ann", RIGHT.upper()), ("", RIGHT)],
)
async def test_what_does_not_belong_together_is_one_refusal(account_site: Site, name: str, password: str) -> None:
    """The same for a wrong password, a name that is not there, and one that is disabled or has no password."""
    await make(account_site, "dora")
    gone = await make(account_site, "gone")
    await make(account_site, "guest", password=None)
    await account_site.node.committer.write(lambda tx: disable_account(tx, gone, 1))
    refused = await enter(account_site, name, password)
    assert (refused.status, refused.json["code"]) == (401, "unauthenticated")
    assert "set-cookie" not in refused.headers
    for others in (("gone", RIGHT), ("guest", RIGHT), ("dora", OTHER)):
        assert (await enter(account_site, *others)).body == refused.body


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
async def test_a_wrong_body_is_named(account_site: Site, body: object) -> None:
    """And nothing is tried."""
    answer = await account_site.ask("POST", "/sign-in", body, origin=OWN)
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


async def test_what_is_stored_is_no_password(dear: None, account_site: Site) -> None:
    """An argon2id hash with a salt of its own; the cookie's hash; neither opens anything."""
    cookie = await cookie_for(account_site)
    ((first,), (_,)) = account_site.rows("SELECT password_hash FROM account ORDER BY name")
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert (await enter(account_site, "Ann", first)).status == 401
    await account_site.node.committer.flush()
    for path in account_site.node.settings.database_path.parent.iterdir():
        for secret in (RIGHT, cookie):
            assert secret.encode() not in path.read_bytes()


async def test_a_weaker_hash_is_made_anew(dear: None, account_site: Site) -> None:
    """With the parameters of now, by the sign-in itself: the password is at hand then."""
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    weak = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1),)).hash(RIGHT)
    made = lambda tx: create_account(tx, now_ms=1, label="old", name="old", role="member", password_hash=weak)  # noqa: E731
    await account_site.node.committer.write(made)
    assert await cookie_for(account_site, "old")
    ((now,),) = account_site.rows("SELECT password_hash FROM account WHERE name = 'old'")
    assert now.startswith("$argon2id$v=19$m=65536,t=3")
    assert await cookie_for(account_site, "old")


async def test_names_that_are_not_there_take_as_long(
    dear: None, monkeypatch: pytest.MonkeyPatch, account_site: Site
) -> None:
    """Each try compares one hash of the same cost, whether there is such an account, a password, or neither."""
    compared: list[str] = []
    hasher = password_hashes._hasher()
    original = hasher.verify_and_update

    def comparing(password: str, given: str) -> Any:
        compared.append(given.rpartition("$")[0].rpartition("$")[0])
        return original(password, given)

    monkeypatch.setattr(hasher, "verify_and_update", comparing)
    await make(account_site, "guest", password=None)
    for name in ("Ann", "nobody", "guest"):
        assert (await enter(account_site, name, "x" * 20)).status == 401
    assert compared == ["$argon2id$v=19$m=65536,t=3,p=1"] * 3


# Guessing


@pytest.fixture
async def behind_proxy(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with an account of Ann's, whose clients come from where X-Forwarded-For says."""
    async with open_site(tmp_path, auth="accounts", trusted_proxies=["127.0.0.1"]) as site:
        await make(site, "Ann")
        yield site


@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_guessing_at_one_name_is_slowed_down(
    behind_proxy: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """From however many addresses, for a name that is there and one that is not; who is in stays in.

    An address that has signed in before still does: whoever guesses keeps others out from nowhere else.
    """
    monkeypatch.setattr(PasswordHashes, "verify", _compares_nothing)
    site, at_home = behind_proxy, {"x_forwarded_for": "2001:db8:1:2::9"}
    cookie = await cookie_for(site, "Ann", RIGHT, **at_home)
    answers = [
        await enter(site, name, "wrong", x_forwarded_for=f"192.0.2.{number}")
        for number in range(FROM_ANYWHERE.amount + 2)
    ]
    assert [answer.status for answer in answers] == [401] * FROM_ANYWHERE.amount + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= FROM_ANYWHERE.window_s
    assert await status_of(site, cookie) == 200
    if name == "ann":
        assert (await enter(site, "Ann", RIGHT, x_forwarded_for="192.0.2.201")).status == 429
        # Another machine of the same household.
        assert (await enter(site, "Ann", RIGHT, x_forwarded_for="2001:db8:1:2::77")).status == 200
        statuses = [(await enter(site, "Ann", "wrong", **at_home)).status for _ in range(FROM_HERE.amount + 1)]
        assert statuses == [401] * FROM_HERE.amount + [429]
        site.clock.shift_ms += FROM_ANYWHERE.window_s * 1000
        assert (await enter(site, "Ann", RIGHT, x_forwarded_for="192.0.2.201")).status == 200


async def test_guessing_at_one_name_keeps_nobody_else_out(behind_proxy: Site) -> None:
    """What one address has tried is held against it alone, IPv6 by its household."""
    wrong = {"x_forwarded_for": "2001:db8:1:2::1"}
    statuses = [(await enter(behind_proxy, "Ann", "wrong", **wrong)).status for _ in range(FROM_HERE.amount + 1)]
    assert statuses == [401] * FROM_HERE.amount + [429]
    behind_proxy.clock.shift_ms += 60_000
    assert (await enter(behind_proxy, "Ann", RIGHT, x_forwarded_for="2001:db8:1:2:ffff::")).status == 429
    for address in ("2001:db8:1:3::1", "192.0.2.7"):
        assert (await enter(behind_proxy, "Ann", RIGHT, x_forwarded_for=address)).status == 200


async def test_what_was_not_compared_does_not_count(account_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many are signing in, at the door and on a page, nobody has tried anything."""
    cookie = await cookie_for(account_site)

    async def full(self: PasswordHashes, password: str, of: str | None) -> tuple[bool, str | None]:
        raise Overloaded("full")

    body = {"current": RIGHT, "password": OTHER}
    with monkeypatch.context() as patched:
        patched.setattr(PasswordHashes, "verify", full)
        for _ in range(FROM_HERE.amount + 1):
            assert (await enter(account_site, "Ann", RIGHT)).status == 503
            refused = await account_site.ask("PUT", "/me/password", body, cookie=cookie, origin=OWN)
            assert refused.status == 503
    assert (await enter(account_site, "Ann", RIGHT)).status == 200
    assert (await account_site.ask("PUT", "/me/password", body, cookie=cookie, origin=OWN)).status == 204


async def _compares_nothing(self: PasswordHashes, password: str, of: str | None) -> tuple[bool, str | None]:
    return password == RIGHT and of is not None, None


async def test_guessing_from_one_address_is_slowed_down(account_site: Site) -> None:
    """Keys and passwords together, over all names."""
    tries: list[dict[str, str]] = [{"name": f"n{number}", "password": "x"} for number in range(SIGN_INS - 5)]
    tries += [{"key": f"lk_{number:012x}_x"} for number in range(7)]
    statuses = [(await account_site.ask("POST", "/sign-in", body, origin=OWN)).status for body in tries]
    assert (statuses.count(401), statuses.count(429)) == (SIGN_INS, 2)
    assert (await enter(account_site, "Ann", RIGHT)).status == 429
    account_site.clock.shift_ms += 60_000
    # What was right does not count.
    for _ in range(3):
        assert (await enter(account_site, "Ann", RIGHT)).status == 200


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


def test_a_server_without_accounts_loads_none_of_it() -> None:
    """What only accounts and issuers need costs no memory, and no time at the start, where there are none."""
    names = ("joserfc", "cryptography", "pwdlib", "argon2", "aiohttp")
    code = f"import sys, legato.app, legato.http.api; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

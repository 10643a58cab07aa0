"""Signing in at an issuer: a real one on this machine, which checks clients, codes and PKCE with authlib's server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from legato.cli.check_access import check_comers
from legato.http import oidc_issuer
from legato.http.oidc import CALLBACK
from legato.http.oidc_issuer import FAILED_S, KEEP_S
from legato.http.throttle import FLOWS
from legato.storage.accounts import disable_account
from tests.issuer import Claims, Issuer
from tests.issuer_world import ANN, Browser, at_issuer, open_beside, signed_in
from tests.page_world import OWN, Site, open_site

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_person_signs_in_and_out(issuer_site: Site, issuer: Issuer) -> None:
    """Code and PKCE; the page is then signed in as an account of its own, the same one the next time."""
    ways = (await issuer_site.ask("GET", "/sign-in")).json
    assert ways == {"auth": "accounts", "password": True, "issuer": {"label": "Example"}}
    browser = Browser(issuer_site)
    answer = await browser.sign_in("/c/c-1")
    assert (answer.status, answer.headers["location"]) == (303, "/c/c-1")
    assert answer.headers["cache-control"] == "no-store"
    me = await browser.me()
    assert (me["role"], me["via"], me["signedInBy"], me["name"]) == ("member", "session", "issuer", "Ann Example")
    assert me["id"].startswith("account:")
    assert "legato_sign_in" not in browser.cookies
    assert (await browser.ask("POST", "/conversations", {"id": "c-1"}, origin=OWN)).status == 201
    assert (await browser.ask("POST", "/sign-out", origin=OWN)).status == 204
    again = Browser(issuer_site)
    await again.sign_in()
    assert (await again.me())["id"] == me["id"]
    assert (await again.ask("GET", "/conversations/c-1")).status == 200
    assert await browser.me() == 401


async def test_what_the_issuer_is_told(issuer_site: Site, issuer: Issuer) -> None:
    """The hash of a verifier, a state and a nonce that no two sign-ins share; never a secret."""
    one, two = Browser(issuer_site), Browser(issuer_site)
    asked = [parse_qs(urlsplit(await each.leave()).query) for each in (one, two)]
    assert asked[0]["response_type"] == ["code"]
    assert asked[0]["code_challenge_method"] == ["S256"]
    assert asked[0]["redirect_uri"] == [OWN + CALLBACK]
    assert asked[0]["scope"] == ["openid profile email"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[0][name][0]) == 43
        assert asked[0][name] != asked[1][name]
    secret = one.cookies["legato_sign_in"].partition(".")[0]
    assert secret not in str(asked)


# What binds an answer to the browser


async def test_an_answer_is_good_in_the_browser_that_asked(issuer_site: Site) -> None:
    """Somebody else's answer, or one of before, signs nobody in: no page can be put into an account by a link."""
    mallory, victim = Browser(issuer_site), Browser(issuer_site)
    path = await at_issuer(await mallory.leave())
    for browser in (
        victim,
        Browser(issuer_site, {"legato_sign_in": "x"}),
        Browser(issuer_site, {"legato_sign_in": "a.b.c"}),
    ):
        answer = await browser.ask("GET", path)
        assert (answer.status, answer.headers["location"]) == (303, "/?sign-in=expired")
        assert not [line for line in answer.fields("set-cookie") if line.startswith("legato_session")]
    await victim.leave()
    assert (await victim.ask("GET", path)).headers["location"] == "/?sign-in=expired"
    assert (await mallory.ask("GET", path)).headers["location"] == "/"
    # The issuer takes a code once.
    assert (await mallory.ask("GET", path)).headers["location"] == "/?sign-in=failed"


async def test_a_stolen_code_is_worth_nothing(issuer_site: Site) -> None:
    """In another browser's sign-in it meets another verifier."""
    ann, mallory = Browser(issuer_site), Browser(issuer_site)
    stolen = parse_qs(urlsplit(await at_issuer(await ann.leave())).query)["code"][0]
    state = parse_qs(urlsplit(await mallory.leave()).query)["state"][0]
    answer = await mallory.ask("GET", f"{CALLBACK}?code={stolen}&state={state}")
    assert answer.headers["location"] == "/?sign-in=failed"


async def test_the_cookie_of_a_sign_in_is_no_more_than_that(issuer_site: Site) -> None:
    """HttpOnly, for the way back alone, for ten minutes; Lax, since another site sends the browser back."""
    answer = await issuer_site.ask("POST", "/sign-in/issuer", {}, origin=OWN)
    (line,) = answer.fields("set-cookie")
    _, *attributes = line.split("; ")
    assert set(attributes) == {"HttpOnly", "Max-Age=600", "Path=/sign-in/issuer", "SameSite=lax"}
    https = await issuer_site.ask("POST", "/sign-in/issuer", {}, origin="https://localhost")
    (line,) = https.fields("set-cookie")
    assert line.startswith("__Host-legato_sign_in=")
    assert {"Secure", "Path=/"} <= set(line.split("; "))
    assert "redirect_uri=https%3A%2F%2Flocalhost%2F" in https.json["location"]


async def test_over_https_the_way_back_wants_the_hosts_own_cookie(issuer_site: Site) -> None:
    """One that a neighbouring host has put there leads nobody into somebody else's account."""
    mallory, victim = Browser(issuer_site), Browser(issuer_site)
    path = await at_issuer(await mallory.leave())
    for headers in ({"x_forwarded_proto": "https"}, {"host": "chat.example", "sec_fetch_site": "cross-site"}):
        victim.cookies = dict(mallory.cookies)
        assert (await victim.ask("GET", path, **headers)).headers["location"] == "/?sign-in=expired"
    tossed = {f"__Host-{name}": value for name, value in mallory.cookies.items()}
    own = await Browser(issuer_site, tossed).ask("GET", path, x_forwarded_proto="https")
    assert own.headers["location"] == "/"
    gone, given = own.fields("set-cookie")
    assert gone.startswith("__Host-legato_sign_in=;")
    assert given.startswith("__Host-legato_session=")


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/c/", "/c/a/b", "/admin/", "c/1", "/c/a\nb", ""],
)
async def test_the_way_back_leads_nowhere_else(issuer_site: Site, to: str) -> None:
    """Only to pages of this server; also where the cookie says otherwise."""
    refused = await issuer_site.ask("POST", "/sign-in/issuer", {"to": to}, origin=OWN)
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    browser = Browser(issuer_site)
    path = await at_issuer(await browser.leave())
    secret, origin, _ = browser.cookies["legato_sign_in"].split(".")
    place = base64.urlsafe_b64encode(to.encode()).rstrip(b"=").decode()
    browser.cookies["legato_sign_in"] = f"{secret}.{origin}.{place}"
    assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=expired"


@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}], ids=str)
async def test_only_a_page_of_this_server_begins(issuer_site: Site, headers: dict[str, str]) -> None:
    """No other site sends a browser off."""
    assert (await issuer_site.ask("POST", "/sign-in/issuer", {}, **headers)).status == 403


# Who may come in


@pytest.mark.parametrize(
    ("settings", "role"),
    [
        ({"admin_groups": ["staff"]}, "admin"),
        ({"allowed_domains": ["example.com"]}, "member"),
        ({"allowed_domains": ["other.example"]}, None),
    ],
)
async def test_who_may_come_in_and_as_what(
    tmp_path: Path, issuer: Issuer, settings: dict[str, Any], role: str | None
) -> None:
    """As tests/unit/test_oidc_claims.py has it; who may not is told so, and has no account."""
    async with open_beside(tmp_path, issuer, **settings) as site:
        browser = Browser(site)
        answer = await browser.sign_in()
        if role is None:
            assert answer.headers["location"] == "/?sign-in=refused"
            assert site.rows("SELECT count(*) FROM account") == [(0,)]
        else:
            assert (await browser.me())["role"] == role
        listed = await browser.ask("GET", "/admin/figures")
        assert listed.status == {"admin": 200, "member": 403, None: 401}[role]


async def test_an_account_is_the_issuers_person_and_no_address(issuer_site: Site, issuer: Issuer) -> None:
    """Another person with the same e-mail address, verified or not, is another one; the same with another is not."""
    await Browser(issuer_site).sign_in()
    first = (await signed_in(issuer_site))["id"]
    ann, issuer.user = issuer.user, ANN | {"sub": "mallory"}
    assert ann is not None
    assert (await signed_in(issuer_site))["id"] != first
    issuer.user = ann | {"email": "ann@new.example", "name": "Ann Newname"}
    me = await signed_in(issuer_site)
    assert (me["id"], me["name"]) == (first, "Ann Newname")


async def test_the_role_is_what_the_groups_say_now(tmp_path: Path, issuer: Issuer) -> None:
    """At each sign-in; the pages that are signed in follow."""
    async with open_beside(tmp_path, issuer, admin_groups=["ops"]) as site:
        browser = Browser(site)
        issuer.user = ANN | {"groups": ["ops"]}
        await browser.sign_in()
        assert (await browser.me())["role"] == "admin"
        issuer.user = ANN
        assert (await signed_in(site))["role"] == "member"
        assert (await browser.me())["role"] == "member"


async def test_claims_may_come_from_userinfo(tmp_path: Path, issuer: Issuer) -> None:
    """Where the identity token lacks them; of the same person alone."""
    issuer.only_userinfo = ("groups", "email", "email_verified")
    async with open_beside(tmp_path, issuer, allowed_groups=["staff"], admin_groups=["staff"]) as site:
        assert (await signed_in(site))["role"] == "admin"
        issuer.change_userinfo = lambda claims: claims.update(sub="another")
        assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=failed"


async def test_an_address_is_not_verified_by_another_documents_word(tmp_path: Path, issuer: Issuer) -> None:
    """The token names one address, userinfo says that it has verified another."""
    issuer.change_claims = lambda claims: claims.pop("email_verified") and None
    issuer.change_userinfo = lambda claims: claims.update(email="ann@evil.example")
    async with open_beside(tmp_path, issuer, allowed_domains=["example.com"]) as site:
        assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=refused"
        assert "/userinfo" in issuer.asked


async def test_a_disabled_account_stays_out(issuer_site: Site) -> None:
    """The issuer lets the person in, this server does not; a page that is signed in is out with its next request."""
    browser = Browser(issuer_site)
    await browser.sign_in()
    account_id = (await browser.me())["id"]
    # As the command does: beside the server.
    issuer_site.node.database.transact(lambda tx: disable_account(tx, account_id, 1), writes=True)
    assert await browser.me() == 401
    assert (await browser.sign_in()).headers["location"] == "/?sign-in=refused"
    assert await browser.me() == 401


# Trouble


async def test_a_person_may_say_no(issuer_site: Site, issuer: Issuer) -> None:
    """The page says so, and nothing has happened."""
    issuer.user = None
    assert (await Browser(issuer_site).sign_in()).headers["location"] == "/?sign-in=denied"


async def test_an_issuer_that_is_down_is_said_to_be(issuer_site: Site, issuer: Issuer) -> None:
    """Before the browser is sent away, and when it comes back; keys and passwords sign in all the same."""
    browser = Browser(issuer_site)
    location = await browser.leave()
    path = await at_issuer(location)
    issuer.down = True
    assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=unreachable"
    issuer_site.clock.shift_ms += int(KEEP_S * 1000)
    for _ in range(3):
        answer = await issuer_site.ask("POST", "/sign-in/issuer", {}, origin=OWN)
        assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    # It is not asked again by each.
    assert issuer.asked.count("/.well-known/openid-configuration") == 2
    await issuer_site.make_keys(ben="member")
    assert await issuer_site.sign_in("ben")
    issuer.down = False
    issuer_site.clock.shift_ms += int(FAILED_S * 1000)
    assert (await Browser(issuer_site).sign_in()).headers["location"] == "/"


async def test_keys_that_are_slow_hold_nobody_else_up(issuer_site: Site, issuer: Issuer) -> None:
    """Who needs them waits for one answer together; who is only on the way out does not wait at all."""
    browsers = [Browser(issuer_site) for _ in range(3)]
    paths = [await at_issuer(await each.leave()) for each in browsers]
    held = issuer.held["/keys"] = asyncio.Event()
    coming = [asyncio.create_task(each.ask("GET", path)) for each, path in zip(browsers, paths, strict=True)]
    while issuer.asked.count("/token") < len(coming) or "/keys" not in issuer.asked:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    assert (await issuer_site.ask("POST", "/sign-in/issuer", {}, origin=OWN)).status == 200
    # The first goes away: the others wait for the same answer all the same.
    coming.pop(0).cancel()
    held.set()
    assert [answer.headers["location"] for answer in await asyncio.gather(*coming)] == ["/", "/"]
    assert issuer.asked.count("/keys") == 1


async def test_keys_that_are_not_given_are_not_asked_for_by_each(issuer_site: Site, issuer: Issuer) -> None:
    """Who comes next is told so at once; a moment later they are asked for again."""
    paths = [
        (each, await at_issuer(await each.leave()))
        for each in (Browser(issuer_site), Browser(issuer_site), Browser(issuer_site))
    ]
    keys, issuer.change_keys = issuer.change_keys, lambda document: document.pop("keys")
    for browser, path in paths[:2]:
        assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=unreachable"
    assert issuer.asked.count("/keys") == 1
    issuer.change_keys = keys
    issuer_site.clock.shift_ms += int(FAILED_S * 1000)
    browser, path = paths[2]
    assert (await browser.ask("GET", path)).headers["location"] == "/"


async def test_a_sign_in_has_its_time(issuer_site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers of a slow issuer it takes, each within its own time."""
    browser = Browser(issuer_site)
    path = await at_issuer(await browser.leave())
    monkeypatch.setattr(oidc_issuer, "SIGN_IN_S", 0.05)
    held = issuer.held["/token"] = asyncio.Event()
    async with asyncio.timeout(5):
        assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=unreachable"
    held.set()


METADATA: dict[str, Callable[[Claims], Any]] = {
    "another issuer": lambda found: found.update(issuer="https://evil.example"),
    "a trailing slash": lambda found: found.update(issuer=found["issuer"] + "/"),
    "plain http": lambda found: found.update(token_endpoint="http://login.example/token"),
    "no keys": lambda found: found.pop("jwks_uri"),
    "a script": lambda found: found.update(authorization_endpoint="javascript:alert(1)"),
    "shared secrets": lambda found: found.update(id_token_signing_alg_values_supported=["HS256"]),
}


@pytest.mark.parametrize("name", METADATA)
async def test_an_issuer_that_describes_itself_wrongly_is_not_used(
    issuer_site: Site, issuer: Issuer, name: str
) -> None:
    """Another name, plain http, no keys: 503 and words that say which."""
    issuer.change_metadata = METADATA[name]
    answer = await issuer_site.ask("POST", "/sign-in/issuer", {}, origin=OWN)
    assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
    assert "/token" not in issuer.asked


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
async def test_a_client_proves_itself_as_the_issuer_wants(tmp_path: Path, issuer: Issuer, method: str) -> None:
    """Also without a secret: PKCE is what counts then. A wrong secret is a fault of this server's settings."""
    issuer.client.auth_method = method
    more: dict[str, Any] = {"client_auth": "post"} if method == "client_secret_post" else {}
    more |= {"client_secret": None} if method == "none" else {}
    async with open_beside(tmp_path / "right", issuer, **more) as site:
        assert (await Browser(site).sign_in()).headers["location"] == "/"
    if method != "none":
        async with open_beside(tmp_path / "wrong", issuer, **more, client_secret="wrong") as site:
            assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=unreachable"


async def test_it_is_not_tried_without_end(issuer_site: Site, issuer: Issuer) -> None:
    """So many a minute from one address, however they end; the issuer is asked no more."""
    statuses = [(await issuer_site.ask("POST", "/sign-in/issuer", {}, origin=OWN)).status for _ in range(FLOWS + 2)]
    assert (statuses.count(200), statuses.count(429)) == (FLOWS, 2)
    browser = Browser(issuer_site)
    issuer_site.clock.shift_ms += 60_000
    path = await at_issuer(await browser.leave())
    for _ in range(FLOWS):
        answer = await browser.ask("GET", path)
    assert answer.headers["location"] == "/?sign-in=often"


async def test_without_an_issuer_nobody_is_sent_anywhere(tmp_path: Path) -> None:
    """With keys alone, and with accounts of one's own."""
    for auth in ("none", "keys", "accounts"):
        async with open_site(tmp_path / auth, auth=auth) as site:
            assert (await site.ask("GET", "/sign-in")).json["issuer"] is None
            assert (await site.ask("POST", "/sign-in/issuer", {}, origin=OWN)).status == 409
            assert (await site.ask("GET", CALLBACK)).headers["location"] == "/?sign-in=failed"


async def test_doctor_asks_the_issuer(issuer_site: Site, issuer: Issuer) -> None:
    """Whether it answers, calls itself so, and has keys of the right kind; a server starts without it all the same."""

    async def look(*, offline: bool = False) -> tuple[str, str]:
        settings, database = issuer_site.node.settings, issuer_site.node.database
        checks = await asyncio.to_thread(lambda: list(check_comers(settings, database, offline=offline)))
        (found,) = [each for each in checks if each.name == "issuer"]
        return found.state, found.found

    assert await look() == ("ok", "Example answers, and its keys can be read")
    assert (await look(offline=True))[0] == "skipped"
    issuer.keys = []
    assert await look() == ("note", "the issuer publishes no key for RS256 or ES256")
    issuer.down = True
    assert (await look())[0] == "note"

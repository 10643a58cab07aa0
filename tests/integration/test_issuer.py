"""Signing in at an issuer: a real one on this machine, which checks clients, codes and PKCE with authlib's server."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from legato.cli.check_access import check_comers
from legato.http.oidc import CALLBACK
from legato.http.oidc_claims import SKEW_S
from legato.http.oidc_issuer import FAILED_S, KEEP_S, RENEW_LEAST_S
from legato.http.throttle import FLOWS
from legato.storage.accounts import disable_account
from tests.asgi import AsgiAnswer, call
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Claims, Issuer, open_issuer
from tests.page_world import OWN, Site, open_site

ANN: Claims = {
    "sub": "248289761001",
    "name": "Ann Example",
    "email": "ann@example.com",
    "email_verified": True,
    "groups": ["staff"],
}


@dataclass
class Browser:
    """A browser with its cookies, which goes where it is sent."""

    site: Site
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> AsgiAnswer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            fields["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return await call(self.site.api, method, path, body, fields)

    def keep(self, answer: AsgiAnswer) -> None:
        for line in answer.fields("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    async def leave(self, to: str | None = None) -> str:
        """Press the button; return where the issuer is."""
        answer = await self.ask("POST", "/sign-in/issuer", {} if to is None else {"to": to}, origin=OWN)
        assert answer.status == 200, answer.body
        self.keep(answer)
        location: str = answer.json["location"]
        return location

    async def come_back(self, location: str) -> AsgiAnswer:
        """Go to the issuer, and whither it sends the browser."""
        path = await at_issuer(location)
        answer = await self.ask("GET", path, sec_fetch_site="cross-site", sec_fetch_mode="navigate")
        self.keep(answer)
        return answer

    async def sign_in(self, to: str | None = None) -> AsgiAnswer:
        return await self.come_back(await self.leave(to))

    async def me(self) -> Any:
        answer = await self.ask("GET", "/me")
        return answer.json if answer.status == 200 else answer.status


async def at_issuer(location: str) -> str:
    """Return the path that the issuer sends a browser back to."""
    async with aiohttp.ClientSession() as session, session.get(location, allow_redirects=False) as answer:
        assert answer.status == 302, await answer.text()
        back = urlsplit(answer.headers["Location"])
    assert f"{back.scheme}://{back.netloc}" == OWN
    return f"{back.path}?{back.query}"


def settings_of(issuer: Issuer, **more: Any) -> dict[str, Any]:
    table = {"issuer": issuer.address, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "label": "Example"}
    if not {"allowed_domains", "allowed_groups"} & more.keys():
        more = {"allow_everybody": True} | more
    return {"auth": "accounts", "oidc": table | more}


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with open_issuer(OWN + CALLBACK) as opened:
        opened.user = dict(ANN)
        yield opened


@pytest.fixture
async def site(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Site]:
    async with open_site(tmp_path, **settings_of(issuer)) as opened:
        yield opened


async def test_a_person_signs_in_and_out(site: Site, issuer: Issuer) -> None:
    """Code and PKCE; the page is then signed in as an account of its own, the same one the next time."""
    ways = (await site.ask("GET", "/sign-in")).json
    assert ways == {"auth": "accounts", "password": True, "issuer": {"label": "Example"}}
    browser = Browser(site)
    answer = await browser.sign_in("/c/c-1")
    assert (answer.status, answer.headers["location"]) == (303, "/c/c-1")
    assert answer.headers["cache-control"] == "no-store"
    me = await browser.me()
    assert (me["role"], me["via"], me["signedInBy"], me["name"]) == ("member", "session", "issuer", "Ann Example")
    assert me["id"].startswith("account:")
    assert "legato_sign_in" not in browser.cookies
    assert (await browser.ask("POST", "/conversations", {"id": "c-1"}, origin=OWN)).status == 201
    assert (await browser.ask("POST", "/sign-out", origin=OWN)).status == 204
    again = Browser(site)
    await again.sign_in()
    assert (await again.me())["id"] == me["id"]
    assert (await again.ask("GET", "/conversations/c-1")).status == 200
    assert await browser.me() == 401


async def test_what_the_issuer_is_told(site: Site, issuer: Issuer) -> None:
    """The hash of a verifier, a state and a nonce that no two sign-ins share; never a secret."""
    one, two = Browser(site), Browser(site)
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


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_tokens_are_not_kept(tmp_path: Path, algorithm: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither in a file nor in a log: no code, no access token, no identity token; either algorithm signs in."""
    async with open_issuer(OWN + CALLBACK, algorithm=algorithm) as issuer:
        issuer.user = dict(ANN)
        async with open_site(tmp_path, **settings_of(issuer)) as site:
            browser = Browser(site)
            await browser.sign_in()
            assert (await browser.me())["name"] == "Ann Example"
            await site.node.committer.flush()
            assert len(issuer.tokens) == 3
            files = b"".join(path.read_bytes() for path in site.node.settings.database_path.parent.iterdir())
            for token in [*issuer.tokens, browser.cookies["legato_session"]]:
                assert token.encode() not in files
            said = "".join(capfd.readouterr())
            assert not [token for token in issuer.tokens if token in said]


# What binds an answer to the browser


async def test_an_answer_is_good_in_the_browser_that_asked(site: Site) -> None:
    """Somebody else's answer, or one of before, signs nobody in: no page can be put into an account by a link."""
    mallory, victim = Browser(site), Browser(site)
    path = await at_issuer(await mallory.leave())
    for browser in (victim, Browser(site, {"legato_sign_in": "x"}), Browser(site, {"legato_sign_in": "a.b.c"})):
        answer = await browser.ask("GET", path)
        assert (answer.status, answer.headers["location"]) == (303, "/?sign-in=expired")
        assert not [line for line in answer.fields("set-cookie") if line.startswith("legato_session")]
    await victim.leave()
    assert (await victim.ask("GET", path)).headers["location"] == "/?sign-in=expired"
    assert (await mallory.ask("GET", path)).headers["location"] == "/"
    # The issuer takes a code once.
    assert (await mallory.ask("GET", path)).headers["location"] == "/?sign-in=failed"


async def test_a_stolen_code_is_worth_nothing(site: Site) -> None:
    """In another browser's sign-in it meets another verifier."""
    ann, mallory = Browser(site), Browser(site)
    stolen = parse_qs(urlsplit(await at_issuer(await ann.leave())).query)["code"][0]
    state = parse_qs(urlsplit(await mallory.leave()).query)["state"][0]
    answer = await mallory.ask("GET", f"{CALLBACK}?code={stolen}&state={state}")
    assert answer.headers["location"] == "/?sign-in=failed"


async def test_the_cookie_of_a_sign_in_is_no_more_than_that(site: Site) -> None:
    """HttpOnly, for the way back alone, for ten minutes; Lax, since another site sends the browser back."""
    answer = await site.ask("POST", "/sign-in/issuer", {}, origin=OWN)
    (line,) = answer.fields("set-cookie")
    _, *attributes = line.split("; ")
    assert set(attributes) == {"HttpOnly", "Max-Age=600", "Path=/sign-in/issuer", "SameSite=lax"}
    https = await site.ask("POST", "/sign-in/issuer", {}, origin="https://localhost")
    assert "Secure" in https.fields("set-cookie")[0]
    assert "redirect_uri=https%3A%2F%2Flocalhost%2F" in https.json["location"]


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/c/", "/c/a/b", "/admin/", "c/1", "/c/a\nb", ""],
)
async def test_the_way_back_leads_nowhere_else(site: Site, to: str) -> None:
    """Only to pages of this server; also where the cookie says otherwise."""
    refused = await site.ask("POST", "/sign-in/issuer", {"to": to}, origin=OWN)
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    browser = Browser(site)
    path = await at_issuer(await browser.leave())
    secret, origin, _ = browser.cookies["legato_sign_in"].split(".")
    place = base64.urlsafe_b64encode(to.encode()).rstrip(b"=").decode()
    browser.cookies["legato_sign_in"] = f"{secret}.{origin}.{place}"
    assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=expired"


@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}], ids=str)
async def test_only_a_page_of_this_server_begins(site: Site, headers: dict[str, str]) -> None:
    """No other site sends a browser off."""
    assert (await site.ask("POST", "/sign-in/issuer", {}, **headers)).status == 403


# Identity tokens


def none(issuer: Issuer, claims: Claims) -> str:
    return ".".join([_encoded({"alg": "none"}), _encoded(claims), ""])


def _encoded(value: Claims) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def shared_secret(issuer: Issuer, claims: Claims) -> str:
    """HS256 with the bytes of the issuer's public key: what a careless library takes."""
    parts = [_encoded(each) for each in ({"alg": "HS256", "kid": issuer.keys[0].kid}, claims)]
    digest = hmac.digest(issuer.keys[0].as_pem(private=False), ".".join(parts).encode(), "sha256")
    return ".".join([*parts, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()])


def other_key(issuer: Issuer, claims: Claims) -> str:
    key = RSAKey.generate_key(2048)
    return jwt.encode({"alg": "RS256", "kid": issuer.keys[0].kid}, claims, key, ["RS256"])


def own_key(issuer: Issuer, claims: Claims) -> str:
    """Signed with a key that comes along in the header."""
    key = RSAKey.generate_key(2048)
    header = {"alg": "RS256", "kid": "mine", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key, ["RS256"])


def other_algorithm(issuer: Issuer, claims: Claims) -> str:
    key = issuer.keys[0]
    fitting = RSAKey.import_key({name: value for name, value in key.as_dict(private=True).items() if name != "alg"})
    return jwt.encode({"alg": "PS256", "kid": key.kid}, claims, fitting, ["PS256"])


def cut(issuer: Issuer, claims: Claims) -> str:
    return issuer.signed(claims)[:-4]


@pytest.mark.parametrize("sign", [none, shared_secret, other_key, own_key, other_algorithm, cut, lambda *_: "x"])
async def test_a_token_that_is_not_the_issuers_is_refused(
    site: Site, issuer: Issuer, sign: Callable[[Issuer, Claims], str]
) -> None:
    """Whatever algorithm it claims to be signed with."""
    issuer.sign = sign
    browser = Browser(site)
    assert (await browser.sign_in()).headers["location"] == "/?sign-in=failed"
    assert await browser.me() == 401
    issuer.sign = None
    assert (await browser.sign_in()).headers["location"] == "/"


CLAIMS: dict[str, tuple[Callable[[Claims], Any], bool]] = {
    "another issuer": (lambda claims: claims.update(iss="https://evil.example"), False),
    "no issuer": (lambda claims: claims.pop("iss"), False),
    "for somebody else": (lambda claims: claims.update(aud="another client"), False),
    "for several": (lambda claims: claims.update(aud=[CLIENT_ID, "x"]), False),
    "for several, given to us": (lambda claims: claims.update(aud=[CLIENT_ID, "x"], azp=CLIENT_ID), True),
    "given to somebody else": (lambda claims: claims.update(azp="x"), False),
    "for nobody": (lambda claims: claims.pop("aud"), False),
    "another sign-in": (lambda claims: claims.update(nonce="x" * 43), False),
    "no nonce": (lambda claims: claims.pop("nonce"), False),
    "expired": (lambda claims: claims.update(exp=claims["iat"] - SKEW_S - 1), False),
    "expired within the skew": (lambda claims: claims.update(exp=claims["iat"] - SKEW_S + 30), True),
    "never expires": (lambda claims: claims.pop("exp"), False),
    "expires in words": (lambda claims: claims.update(exp="never"), False),
    "of the future": (lambda claims: claims.update(iat=claims["iat"] + SKEW_S + 60), False),
    "of the near future": (lambda claims: claims.update(iat=claims["iat"] + SKEW_S - 30), True),
    "not yet": (lambda claims: claims.update(nbf=claims["iat"] + SKEW_S + 60), False),
    "nobody": (lambda claims: claims.pop("sub"), False),
    "an empty name": (lambda claims: claims.update(sub=""), False),
    "a number": (lambda claims: claims.update(sub=5), False),
    "a long name": (lambda claims: claims.update(sub="x" * 256), False),
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_each_claim_is_checked(site: Site, issuer: Issuer, name: str) -> None:
    """A genuine token that is for another server, another sign-in or another time signs nobody in."""
    change, good = CLAIMS[name]
    issuer.change_claims = change
    browser = Browser(site)
    assert (await browser.sign_in()).headers["location"] == ("/" if good else "/?sign-in=failed")
    assert (await browser.me() != 401) == good


async def test_the_answer_of_another_issuer_is_refused(site: Site, issuer: Issuer) -> None:
    """RFC 9207: where an issuer is named it must be ours, and where ours always names itself it must."""
    browser = Browser(site)
    path = await at_issuer(await browser.leave())
    assert (await browser.ask("GET", f"{path}&iss=https://evil.example")).headers["location"] == "/?sign-in=failed"
    issuer.change_metadata = lambda found: found.update(authorization_response_iss_parameter_supported=True)
    site.clock.shift_ms += int(KEEP_S * 1000)
    path = await at_issuer(await browser.leave())
    assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=failed"
    assert "/token" not in issuer.asked


# Keys


async def test_keys_are_kept_and_looked_for_anew(site: Site, issuer: Issuer) -> None:
    """Asked for once in an hour; a token of a key that is not known has them asked for, though not at each try."""
    for _ in range(3):
        assert (await Browser(site).sign_in()).headers["location"] == "/"
    assert (issuer.asked.count("/keys"), issuer.asked.count("/.well-known/openid-configuration")) == (1, 1)
    issuer.rotate()
    site.clock.shift_ms += int(RENEW_LEAST_S * 1000)
    assert (await Browser(site).sign_in()).headers["location"] == "/"
    assert issuer.asked.count("/keys") == 2
    issuer.sign = other_key
    for _ in range(3):
        assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=failed"
    assert issuer.asked.count("/keys") == 2


# Who may come in


ROLES = [
    ({"admin_groups": ["ops"]}, {}, "member"),
    ({"admin_groups": ["staff"]}, {}, "admin"),
    (
        {"admin_groups": ["admin"], "groups_claim": "realm_access.roles"},
        {"realm_access": {"roles": ["admin"]}},
        "admin",
    ),
    (
        {"admin_groups": ["admin"], "groups_claim": "https://x.example/roles"},
        {"https://x.example/roles": "admin"},
        "admin",
    ),
    ({"admin_groups": ["admin"]}, {"groups": {"admin": True}}, "member"),
    ({"allowed_domains": ["example.com"]}, {}, "member"),
    ({"allowed_domains": ["@Example.COM"]}, {}, "member"),
    ({"allowed_domains": ["example.com"]}, {"email_verified": False}, None),
    ({"allowed_domains": ["example.com"]}, {"email_verified": "true"}, None),
    ({"allowed_domains": ["example.com"]}, {"email": "ann@evil-example.com"}, None),
    ({"allowed_domains": ["example.com"]}, {"email": "ann@example.com@evil.example"}, None),
    ({"allowed_domains": ["example.com"]}, {"email": "example.com"}, None),
    ({"allowed_groups": ["staff"]}, {}, "member"),
    ({"allowed_groups": ["staff"]}, {"groups": ["guests"]}, None),
    ({"allowed_groups": ["staff"]}, {"groups": None}, None),
    ({"allowed_groups": ["staff"], "allowed_domains": ["other.example"]}, {}, "member"),
]


@pytest.mark.parametrize(("settings", "claims", "role"), ROLES, ids=str)
async def test_who_may_come_in_and_as_what(
    tmp_path: Path, issuer: Issuer, settings: dict[str, Any], claims: Claims, role: str | None
) -> None:
    """By groups and by verified e-mail addresses; everybody else is told that they may not, and has no account."""
    issuer.user = ANN | claims
    async with open_site(tmp_path, **settings_of(issuer, **settings)) as site:
        browser = Browser(site)
        answer = await browser.sign_in()
        if role is None:
            assert answer.headers["location"] == "/?sign-in=refused"
            assert site.rows("SELECT count(*) FROM account") == [(0,)]
        else:
            assert (await browser.me())["role"] == role
        listed = await browser.ask("GET", "/admin/figures")
        assert listed.status == {"admin": 200, "member": 403, None: 401}[role]


async def test_an_account_is_the_issuers_person_and_no_address(site: Site, issuer: Issuer) -> None:
    """Another person with the same e-mail address, verified or not, is another one; the same with another is not."""
    await Browser(site).sign_in()
    first = (await _signed_in(site))["id"]
    issuer.user = ANN | {"sub": "mallory"}
    assert (await _signed_in(site))["id"] != first
    issuer.user = ANN | {"email": "ann@new.example", "name": "Ann Newname"}
    me = await _signed_in(site)
    assert (me["id"], me["name"]) == (first, "Ann Newname")


async def test_the_role_is_what_the_groups_say_now(tmp_path: Path, issuer: Issuer) -> None:
    """At each sign-in; the pages that are signed in follow."""
    async with open_site(tmp_path, **settings_of(issuer, admin_groups=["ops"])) as site:
        browser = Browser(site)
        issuer.user = ANN | {"groups": ["ops"]}
        await browser.sign_in()
        assert (await browser.me())["role"] == "admin"
        issuer.user = ANN
        assert (await _signed_in(site))["role"] == "member"
        assert (await browser.me())["role"] == "member"


async def test_claims_may_come_from_userinfo(tmp_path: Path, issuer: Issuer) -> None:
    """Where the identity token lacks them; of the same person alone."""
    issuer.only_userinfo = ("groups", "email", "email_verified")
    async with open_site(tmp_path, **settings_of(issuer, allowed_groups=["staff"], admin_groups=["staff"])) as site:
        assert (await _signed_in(site))["role"] == "admin"
        issuer.change_userinfo = lambda claims: claims.update(sub="another")
        assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=failed"


async def test_a_disabled_account_stays_out(site: Site) -> None:
    """The issuer lets the person in, this server does not; a page that is signed in is out with its next request."""
    browser = Browser(site)
    await browser.sign_in()
    account_id = (await browser.me())["id"]
    # As the command does: beside the server.
    site.node.database.transact(lambda tx: disable_account(tx, account_id, 1), writes=True)
    assert await browser.me() == 401
    assert (await browser.sign_in()).headers["location"] == "/?sign-in=refused"
    assert await browser.me() == 401


# Trouble


async def test_a_person_may_say_no(site: Site, issuer: Issuer) -> None:
    """The page says so, and nothing has happened."""
    issuer.user = None
    assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=denied"


async def test_an_issuer_that_is_down_is_said_to_be(site: Site, issuer: Issuer) -> None:
    """Before the browser is sent away, and when it comes back; keys and passwords sign in all the same."""
    browser = Browser(site)
    location = await browser.leave()
    path = await at_issuer(location)
    issuer.down = True
    assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=unreachable"
    site.clock.shift_ms += int(KEEP_S * 1000)
    for _ in range(3):
        answer = await site.ask("POST", "/sign-in/issuer", {}, origin=OWN)
        assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    # It is not asked again by each.
    assert issuer.asked.count("/.well-known/openid-configuration") == 2
    await site.make_keys(ben="member")
    assert await site.sign_in("ben")
    issuer.down = False
    site.clock.shift_ms += int(FAILED_S * 1000)
    later_s = site.clock.shift_ms // 1000
    issuer.change_claims = lambda claims: claims.update(iat=claims["iat"] + later_s, exp=claims["exp"] + later_s)
    assert (await Browser(site).sign_in()).headers["location"] == "/"


METADATA: dict[str, Callable[[Claims], Any]] = {
    "another issuer": lambda found: found.update(issuer="https://evil.example"),
    "a trailing slash": lambda found: found.update(issuer=found["issuer"] + "/"),
    "plain http": lambda found: found.update(token_endpoint="http://login.example/token"),
    "no keys": lambda found: found.pop("jwks_uri"),
    "a script": lambda found: found.update(authorization_endpoint="javascript:alert(1)"),
    "shared secrets": lambda found: found.update(id_token_signing_alg_values_supported=["HS256"]),
}


@pytest.mark.parametrize("name", METADATA)
async def test_an_issuer_that_describes_itself_wrongly_is_not_used(site: Site, issuer: Issuer, name: str) -> None:
    """Another name, plain http, no keys: 503 and words that say which."""
    issuer.change_metadata = METADATA[name]
    answer = await site.ask("POST", "/sign-in/issuer", {}, origin=OWN)
    assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
    assert "/token" not in issuer.asked


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
async def test_a_client_proves_itself_as_the_issuer_wants(tmp_path: Path, issuer: Issuer, method: str) -> None:
    """Also without a secret: PKCE is what counts then. A wrong secret is a fault of this server's settings."""
    issuer.client.auth_method = method
    more: dict[str, Any] = {"client_auth": "post"} if method == "client_secret_post" else {}
    more |= {"client_secret": None} if method == "none" else {}
    async with open_site(tmp_path / "right", **settings_of(issuer, **more)) as site:
        assert (await Browser(site).sign_in()).headers["location"] == "/"
    if method != "none":
        async with open_site(tmp_path / "wrong", **settings_of(issuer, **more, client_secret="wrong")) as site:
            assert (await Browser(site).sign_in()).headers["location"] == "/?sign-in=unreachable"


async def test_it_is_not_tried_without_end(site: Site, issuer: Issuer) -> None:
    """So many a minute from one address, however they end; the issuer is asked no more."""
    statuses = [(await site.ask("POST", "/sign-in/issuer", {}, origin=OWN)).status for _ in range(FLOWS + 2)]
    assert (statuses.count(200), statuses.count(429)) == (FLOWS, 2)
    browser = Browser(site)
    site.clock.shift_ms += 60_000
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


async def test_doctor_asks_the_issuer(site: Site, issuer: Issuer) -> None:
    """Whether it answers, calls itself so, and has keys of the right kind; a server starts without it all the same."""

    async def look(*, offline: bool = False) -> tuple[str, str]:
        settings, database = site.node.settings, site.node.database
        checks = await asyncio.to_thread(lambda: list(check_comers(settings, database, offline=offline)))
        (found,) = [each for each in checks if each.name == "issuer"]
        return found.state, found.found

    assert await look() == ("ok", "Example answers, and its keys can be read")
    assert (await look(offline=True))[0] == "skipped"
    issuer.keys = []
    assert await look() == ("note", "the issuer publishes no key for RS256 or ES256")
    issuer.down = True
    assert (await look())[0] == "note"


def test_a_server_without_accounts_loads_none_of_it() -> None:
    """What only accounts and issuers need costs no memory, and no time at the start, where there are none."""
    names = ("authlib", "joserfc", "cryptography", "pwdlib", "argon2", "aiohttp")
    code = f"import sys, legato.app, legato.http.api; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def _signed_in(site: Site) -> Any:
    browser = Browser(site)
    assert (await browser.sign_in()).headers["location"] == "/"
    return await browser.me()

"""Identity tokens: who has signed them, for whom, when, and with which key."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from legato.http.oidc import CALLBACK
from legato.http.oidc_claims import SKEW_S
from legato.http.oidc_issuer import KEEP_S, RENEW_LEAST_S
from tests.issuer import CLIENT_ID, Claims, Issuer, open_issuer
from tests.issuer_world import ANN, Browser, at_issuer, settings_of
from tests.page_world import OWN, Site, open_site

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
    issuer_site: Site, issuer: Issuer, sign: Callable[[Issuer, Claims], str]
) -> None:
    """Whatever algorithm it claims to be signed with."""
    issuer.sign = sign
    browser = Browser(issuer_site)
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
async def test_each_claim_is_checked(issuer_site: Site, issuer: Issuer, name: str) -> None:
    """A genuine token that is for another server, another sign-in or another time signs nobody in."""
    change, good = CLAIMS[name]
    issuer.change_claims = change
    browser = Browser(issuer_site)
    assert (await browser.sign_in()).headers["location"] == ("/" if good else "/?sign-in=failed")
    assert (await browser.me() != 401) == good


async def test_the_answer_of_another_issuer_is_refused(issuer_site: Site, issuer: Issuer) -> None:
    """RFC 9207: where an issuer is named it must be ours, and where ours always names itself it must."""
    browser = Browser(issuer_site)
    path = await at_issuer(await browser.leave())
    assert (await browser.ask("GET", f"{path}&iss=https://evil.example")).headers["location"] == "/?sign-in=failed"
    issuer.change_metadata = lambda found: found.update(authorization_response_iss_parameter_supported=True)
    issuer_site.clock.shift_ms += int(KEEP_S * 1000)
    path = await at_issuer(await browser.leave())
    assert (await browser.ask("GET", path)).headers["location"] == "/?sign-in=failed"
    assert "/token" not in issuer.asked


# Keys


async def test_keys_are_kept_and_looked_for_anew(issuer_site: Site, issuer: Issuer) -> None:
    """Asked for once in an hour; a token of a key that is not known has them asked for, though not at each try."""
    for _ in range(3):
        assert (await Browser(issuer_site).sign_in()).headers["location"] == "/"
    assert (issuer.asked.count("/keys"), issuer.asked.count("/.well-known/openid-configuration")) == (1, 1)
    issuer.rotate()
    issuer_site.clock.shift_ms += int(RENEW_LEAST_S * 1000)
    assert (await Browser(issuer_site).sign_in()).headers["location"] == "/"
    assert issuer.asked.count("/keys") == 2
    issuer.sign = other_key
    for _ in range(3):
        assert (await Browser(issuer_site).sign_in()).headers["location"] == "/?sign-in=failed"
    assert issuer.asked.count("/keys") == 2

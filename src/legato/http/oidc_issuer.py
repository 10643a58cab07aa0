"""The issuer: its description, its keys, and the exchange of a code for who somebody is.

What it says of itself and its keys are kept for KEEP_S. A token that no known key has signed has the keys asked for
anew, once in RENEW_LEAST_S: an issuer takes new ones now and then. An issuer that is slow holds up nobody for longer
than PATIENCE_S an answer and SIGN_IN_S in all, and of those who wait for the same answer it is asked once. Tokens stay
in this file: they are neither kept nor logged.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from legato.core.clock import Clock
from legato.core.errors import ConfigurationError, IssuerUnavailable
from legato.http.fetched import Fetched
from legato.http.oidc_claims import (
    ALGORITHMS,
    KeyUnknown,
    Person,
    TokenRefused,
    join_claims,
    read_keys,
    read_person,
    read_token,
    says_who,
)
from legato.settings_access import LOOPBACK_HOSTS, OidcSettings

if TYPE_CHECKING:
    import aiohttp

    from legato.http.oidc_claims import Key

KEEP_S: Final = 3600.0
RENEW_LEAST_S: Final = 30.0
FAILED_S: Final = 3.0
"""For so long an issuer that did not answer is not asked again for the same."""
PATIENCE_S: Final = 10.0
"""How long one answer of the issuer's is waited for."""
SIGN_IN_S: Final = 20.0
"""How long all of them are that a sign-in takes."""
MAX_BYTES: Final = 1_048_576
"""No answer of an issuer is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What an issuer says of itself."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    says_issuer: bool
    """Whether it puts its name into the answer that comes by the browser (RFC 9207)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What binds an answer to the browser that asked; the issuer is told a hash of the verifier."""

    state: str
    nonce: str
    verifier: str


class Issuer:
    """One OpenID Connect issuer.

    Raises:
        ConfigurationError: Its secret is not in the environment.
    """

    def __init__(self, settings: OidcSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._secret = _secret_of(settings)
        self._described: Fetched[Described] = Fetched(clock, failed_s=FAILED_S)
        self._keys: Fetched[list[Key]] = Fetched(clock, failed_s=FAILED_S)

    @property
    def label(self) -> str:
        """What its button says."""
        return self.settings.label or urlsplit(self.settings.issuer).hostname or "OpenID Connect"

    async def check(self) -> None:
        """Ask what it says of itself, and for its keys.

        Raises:
            IssuerUnavailable: It does not answer, or not rightly; says what is wrong.
        """
        if not await self._find_keys(await self._describe(), renew=False):
            raise IssuerUnavailable(f"the issuer publishes no key for {' or '.join(ALGORITHMS)}")

    async def address(self, secrets: Secrets, redirect_uri: str) -> str:
        """Return where a browser is sent to sign in.

        Raises:
            IssuerUnavailable: The issuer does not answer, or what it says is not right.
        """
        described = await self._describe()
        scopes = dict.fromkeys(["openid", *self.settings.scopes])
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(scopes),
            "state": secrets.state,
            "nonce": secrets.nonce,
            "code_challenge": _challenge_of(secrets.verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(described.authorization_endpoint).query else "?"
        return f"{described.authorization_endpoint}{joint}{urlencode(asked)}"

    async def person(self, code: str, secrets: Secrets, redirect_uri: str, *, said_issuer: str | None) -> Person:
        """Return who has signed in.

        Args:
            said_issuer: The issuer that the browser's answer names; None where it names none.

        Raises:
            IssuerUnavailable: The issuer does not answer, or what it says is not right.
            TokenRefused: The code, or what it was exchanged for, is not good.
            PersonRefused: The person may not come in here.
        """
        try:
            async with asyncio.timeout(SIGN_IN_S):
                return await self._person(code, secrets, redirect_uri, said_issuer)
        except TimeoutError:
            raise IssuerUnavailable(
                "the issuer is too slow: sign in later, or in another way", seen=f"longer than {SIGN_IN_S:g} s in all"
            ) from None

    async def _person(self, code: str, secrets: Secrets, redirect_uri: str, said_issuer: str | None) -> Person:
        described = await self._describe()
        if said_issuer != self.settings.issuer and (said_issuer is not None or described.says_issuer):
            raise TokenRefused("the answer is of another issuer (iss)")
        given = await self._exchange(described, code, secrets.verifier, redirect_uri)
        token = given.get("id_token")
        if not isinstance(token, str):
            raise TokenRefused("the issuer gave no identity token: is `openid` among the scopes?")
        claims = await self._claims(described, token, secrets.nonce)
        access = given.get("access_token")
        if not says_who(claims, self.settings) and described.userinfo_endpoint and isinstance(access, str):
            more = await self._get_json(described.userinfo_endpoint, {"Authorization": f"Bearer {access}"})
            if more.get("sub") != claims["sub"]:
                raise TokenRefused("the issuer speaks of another person (userinfo)")
            claims = join_claims(claims, more)
        return read_person(claims, self.settings)

    async def _claims(self, described: Described, token: str, nonce: str) -> dict[str, Any]:
        for renew in (False, True):
            keys = await self._find_keys(described, renew=renew)
            try:
                return read_token(
                    token,
                    keys,
                    issuer=self.settings.issuer,
                    client_id=self.settings.client_id,
                    nonce=nonce,
                    now_s=self._clock.now_ms() // 1000,
                )
            except KeyUnknown:
                if renew:
                    raise
        raise AssertionError("the second try returns or raises")

    async def _exchange(self, described: Described, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        import aiohttp

        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form |= {"code_verifier": verifier}
        headers = {"Accept": "application/json"}
        if self._secret and self.settings.client_auth == "basic":
            # With %20, which every decoder of forms takes: some do not take the plus sign.
            words = (quote(word, safe="") for word in (self.settings.client_id, self._secret))
            headers["Authorization"] = aiohttp.encode_basic_auth(*words)
        else:
            form["client_id"] = self.settings.client_id
            if self._secret:
                form["client_secret"] = self._secret
        status, body = await self._ask("POST", described.token_endpoint, headers, form)
        if status == 200:
            return body
        error = body.get("error")
        if status in (400, 401) and error in ("invalid_grant", "invalid_request"):
            raise TokenRefused(f"the issuer does not take the code ({error})")
        # Never more of the answer: it may repeat what was sent.
        known = error if error in ("invalid_client", "unauthorized_client", "unsupported_grant_type") else status
        raise IssuerUnavailable(
            "the issuer refuses this server: check client_id and secret of [oidc]", seen=f"the token endpoint: {known}"
        )

    async def _describe(self) -> Described:
        async def fetch() -> Described:
            address = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
            return _read_description(await self._get_json(address), self.settings)

        return await self._described.get(fetch, most_age_s=KEEP_S)

    async def _find_keys(self, described: Described, *, renew: bool) -> list[Key]:
        async def fetch() -> list[Key]:
            try:
                return read_keys(await self._get_json(described.jwks_uri))
            except TokenRefused as error:
                raise IssuerUnavailable(str(error)) from None

        return await self._keys.get(fetch, most_age_s=RENEW_LEAST_S if renew else KEEP_S)

    async def _get_json(self, address: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        status, body = await self._ask("GET", address, {"Accept": "application/json"} | dict(headers or {}))
        if status != 200:
            raise IssuerUnavailable(
                f"the issuer answered {status}: sign in later, or in another way", seen=_where(address)
            )
        return body

    async def _ask(
        self, method: str, address: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object of an answer; an empty one where it is none."""
        import aiohttp

        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=PATIENCE_S), cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
                ) as session,
                session.request(method, address, headers=headers, data=form, allow_redirects=False) as response,
            ):
                data = await _read(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise IssuerUnavailable(
                "the issuer cannot be reached: sign in later, or in another way",
                seen=f"{_where(address)}: {type(error).__name__}",
            ) from None
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            if status != 200:
                return status, {}
            raise IssuerUnavailable(
                "the issuer's answer is no JSON object: sign in later, or in another way", seen=_where(address)
            )
        return status, body


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = b""
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_BYTES:
            raise IssuerUnavailable("the issuer's answer is too long: sign in later, or in another way")
    return data


def _read_description(found: Mapping[str, Any], settings: OidcSettings) -> Described:
    if found.get("issuer") != settings.issuer:
        raise IssuerUnavailable("the issuer calls itself otherwise than `issuer` of [oidc] does: set that exactly so")
    addresses = {}
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
        value = found.get(name)
        if value is None and name == "userinfo_endpoint":
            continue
        if not isinstance(value, str) or not _is_safe(value):
            raise IssuerUnavailable(f"the issuer's {name} is no address that begins with https://")
        addresses[name] = value
    signs = found.get("id_token_signing_alg_values_supported")
    if isinstance(signs, list) and signs and ALGORITHMS.keys().isdisjoint(map(str, signs)):
        raise IssuerUnavailable(f"the issuer signs with nothing of {', '.join(ALGORITHMS)}")
    return Described(
        authorization_endpoint=addresses["authorization_endpoint"],
        token_endpoint=addresses["token_endpoint"],
        jwks_uri=addresses["jwks_uri"],
        userinfo_endpoint=addresses.get("userinfo_endpoint"),
        says_issuer=found.get("authorization_response_iss_parameter_supported") is True,
    )


def _challenge_of(verifier: str) -> str:
    """Return the hash of a verifier that the issuer is told (RFC 7636, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def _is_safe(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
    )


def _secret_of(settings: OidcSettings) -> str:
    if settings.client_secret_env:
        value = os.environ.get(settings.client_secret_env, "")
        if not value:
            raise ConfigurationError(
                f"the environment has no {settings.client_secret_env}, which client_secret_env of [oidc] names"
            )
        return value
    return settings.client_secret.get_secret_value() if settings.client_secret else ""


def _where(address: str) -> str:
    """Return an address for the log: without what may stand behind it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

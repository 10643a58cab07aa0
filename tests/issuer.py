"""A real OpenID Connect issuer on this machine: authlib's server behind aiohttp, which checks clients, codes and PKCE.

What a test wants wrong it says in `Issuer.change_claims`, `Issuer.sign` and the like.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from aiohttp import web
from authlib.common.security import generate_token
from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import AuthorizationServer, grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6749.util import scope_to_list
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT_ID = "legato tests"
CLIENT_SECRET = "s3cret: with/signs&more"
Claims = dict[str, Any]


@dataclass
class Client:
    """The server under test, as the issuer knows it."""

    redirect_uris: list[str]
    client_id: str = CLIENT_ID
    auth_method: str = "client_secret_basic"

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uris[0]

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(each for each in scope_to_list(scope) if each in ("openid", "profile", "email", "groups"))

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.auth_method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code:
    """What was given to a browser, once."""

    code: str
    user: Claims
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, request: web.Request, form: dict[str, str]) -> None:
        super().__init__(request.method, str(request.url), None, dict(request.headers))
        self._args, self._form = dict(request.query), form
        self.payload = BasicOAuth2Payload(self._args | self._form)

    @property
    def args(self) -> dict[str, str]:
        return self._args

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Grant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = ["client_secret_basic", "client_secret_post", "none"]

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        data = request.payload.data
        self.server.issuer.codes[code] = Code(
            code=code,
            user=request.user,
            redirect_uri=request.payload.redirect_uri,
            scope=request.scope,
            nonce=data.get("nonce"),
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        return self.server.issuer.codes.get(code)  # type: ignore[no-any-return]

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del self.server.issuer.codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> Claims:
        return authorization_code.user


class _Server(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, issuer: Issuer) -> None:
        super().__init__(scopes_supported=None)
        self.issuer = issuer
        self.register_token_generator("default", BearerTokenGenerator(lambda *_, **__: generate_token(42)))
        self.register_grant(_Grant, [CodeChallenge(required=True), _IdentityToken(issuer)])

    def query_client(self, client_id: str) -> Client | None:
        return self.issuer.client if client_id == self.issuer.client.client_id else None

    def save_token(self, token: Claims, request: OAuth2Request) -> None:
        self.issuer.access[token["access_token"]] = request.user

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None: ...

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=dict(headers))


class _IdentityToken:
    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def __call__(self, grant: Any) -> None:
        grant.register_hook("after_create_token_response", self._add)

    def _add(self, grant: Any, response: tuple[int, Claims, Any]) -> None:
        _, token, _ = response
        code: Code = grant.request.authorization_code
        token["id_token"] = self._issuer.identity_token(code)


@dataclass
class Issuer:
    """The issuer, who is at its page, and what it does wrong.

    Attributes:
        user: Claims of who signs in, `sub` at least; None: the person says no.
        only_userinfo: Claims that are not in the identity token, but told by the userinfo endpoint.
        down: Every answer is 503.
        held: Paths whose answers wait for an event.
        now_ms: Its clock.
        asked: Paths that were asked for.
    """

    address: str
    client: Client
    user: Claims | None = None
    only_userinfo: tuple[str, ...] = ()
    change_claims: Callable[[Claims], None] = lambda claims: None
    sign: Callable[[Issuer, Claims], str] | None = None
    change_metadata: Callable[[Claims], None] = lambda metadata: None
    change_userinfo: Callable[[Claims], None] = lambda claims: None
    change_keys: Callable[[Claims], Any] = lambda document: None
    down: bool = False
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    algorithm: str = "RS256"
    keys: list[RSAKey | ECKey] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    access: dict[str, Claims] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """All that it ever gave: identity tokens, access tokens and codes."""

    def do_right(self) -> None:
        """Forget what a test wanted wrong, and what was asked."""
        fresh = Issuer("", Client([]))
        for name in ("only_userinfo", "change_claims", "sign", "change_metadata", "change_userinfo", "change_keys"):
            setattr(self, name, getattr(fresh, name))
        self.down, self.held = False, {}
        self.client.auth_method = fresh.client.auth_method
        self.keys = [_first_key(self.algorithm)]
        self.asked.clear()

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish it alone."""
        self.keys = [_new_key(self.algorithm)]

    def identity_token(self, code: Code) -> str:
        now_s = self.now_ms() // 1000
        claims = {key: value for key, value in code.user.items() if key not in self.only_userinfo}
        claims |= {"iss": self.address, "aud": CLIENT_ID, "iat": now_s, "exp": now_s + 300, "nonce": code.nonce}
        self.change_claims(claims)
        token = self.sign(self, claims) if self.sign else self.signed(claims)
        self.tokens.append(token)
        return token

    def signed(self, claims: Claims, **header: Any) -> str:
        key = self.keys[0]
        return jwt.encode({"alg": self.algorithm, "kid": key.kid} | header, claims, key, [self.algorithm])

    def metadata(self) -> Claims:
        found: Claims = {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/keys",
            "userinfo_endpoint": f"{self.address}/userinfo",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.algorithm],
        }
        self.change_metadata(found)
        return found


def _new_key(algorithm: str) -> RSAKey | ECKey:
    parameters: Any = {"use": "sig", "alg": algorithm}
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", parameters, auto_kid=True)
    return RSAKey.generate_key(2048, parameters, auto_kid=True)


@cache
def _first_key(algorithm: str) -> RSAKey | ECKey:
    """Made once: a key of RSA takes a tenth of a second."""
    return _new_key(algorithm)


@asynccontextmanager
async def open_issuer(*redirect_uris: str, algorithm: str = "RS256") -> AsyncIterator[Issuer]:
    """Serve an issuer on a free port of loopback."""
    issuer = Issuer("", Client([*redirect_uris]), algorithm=algorithm)
    issuer.keys = [_first_key(algorithm)]
    server = _Server(issuer)

    @web.middleware
    async def watch(request: web.Request, handler: Any) -> web.StreamResponse:
        issuer.asked.append(request.path)
        if issuer.down:
            return web.Response(status=503, text="down")
        if request.path in issuer.held:
            await issuer.held[request.path].wait()
        answer: web.StreamResponse = await handler(request)
        return answer

    async def describe(request: web.Request) -> web.Response:
        return web.json_response(issuer.metadata())

    async def keys(request: web.Request) -> web.Response:
        document: Claims = {**KeySet(list(issuer.keys)).as_dict(private=False)}
        issuer.change_keys(document)
        return web.json_response(document)

    async def authorize(request: web.Request) -> web.Response:
        asked = _Request(request, {})
        grant = server.get_consent_grant(asked, issuer.user)
        answer: web.Response = server.create_authorization_response(asked, issuer.user, grant)
        issuer.tokens += [
            word for name, word in parse_qsl(answer.headers["Location"].partition("?")[2]) if name == "code"
        ]
        return answer

    async def token(request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        answer: web.Response = server.create_token_response(_Request(request, form))
        if answer.status == 200:
            issuer.tokens.append(json.loads(answer.text or "")["access_token"])
        return answer

    async def userinfo(request: web.Request) -> web.Response:
        user = issuer.access.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if user is None:
            return web.Response(status=401)
        told = dict(user)
        issuer.change_userinfo(told)
        return web.json_response(told)

    app = web.Application(middlewares=[watch])
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", describe),
            web.get("/keys", keys),
            web.get("/authorize", authorize),
            web.post("/token", token),
            web.get("/userinfo", userinfo),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    issuer.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()

"""Who may come in: host, origin and credential of every request, before any route.

Fails closed. Without authentication only loopback is served, to pages of this server alone: the Host check stops DNS
rebinding, the Origin check and JSON-only bodies stop other sites' pages. Sets `scope["state"]["caller"]` and
`["principal"]`; on the routes that are open to everybody (http.roles) neither is there.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.errors import Forbidden, LegatoError, Unauthenticated
from legato.core.principal import LOCAL_CALLER, Caller
from legato.http.cookies import SESSION, read_cookie, session_cookie
from legato.http.credentials import Credentials
from legato.http.own_page import check_own_page, host_name, is_https_page, is_own
from legato.http.problems import problem_response, wants_event
from legato.http.roles import SAFE, check_role, is_open, may_call
from legato.runs.erasing import Erasing

EXPOSED = (
    "X-Session-Id, X-Conversation-Id, X-Run-Id, X-Message-Id, X-Trace-Id, Retry-After, "
    "RateLimit-Policy, RateLimit, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
)
ALLOWED_HEADERS = "Content-Type, Authorization, Idempotency-Key, Last-Event-ID, Accept, Traceparent"

NEW_COOKIE = "new_cookie"
"""Key in a request's state: what the cookie of its page is to be from now on."""
SLASH = "\x1f"
"""Stands for a slash inside a path's part (`%2F`) while the path is routed; no id may hold this character."""
_SLASH_IN_PART = re.compile(rb"%2f", re.IGNORECASE)


class Guard:
    """ASGI middleware: lets a request in with its caller, or answers itself.

    Args:
        credentials: Looks them up; None serves everybody as the local principal (loopback only).
        erasing: Knows who is refused, whatever the credential: of whom everything is being erased.
        hosts: Host names that are served, without port; empty serves any.
        origins: Other sites whose pages may call.
    """

    def __init__(
        self, app: ASGIApp, *, credentials: Credentials | None, erasing: Erasing, hosts: list[str], origins: list[str]
    ) -> None:
        self._app = app
        self._erasing = erasing
        self._credentials = credentials
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        raw_path: bytes | None = scope.get("raw_path")
        if raw_path and b"%" in raw_path and _SLASH_IN_PART.search(raw_path):
            scope["path"] = unquote(_SLASH_IN_PART.sub(b"%1F", raw_path).decode("ascii"))
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        crossing = None
        try:
            self._check_host(headers)
            if origin is not None and not self._is_allowed(scope, headers, origin):
                await self._check_widget_origin(origin)
            crossing = origin
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await self._cross(Response(status_code=204), origin)(scope, receive, send)
                return
            state = scope.setdefault("state", {})
            caller = LOCAL_CALLER if self._credentials is None else await self._caller(scope, headers, origin)
            if caller is not None:
                if not is_open(scope["method"], scope["path"]):
                    await self._erasing.check(caller.principal.id)
                state["caller"], state["principal"] = caller, caller.principal
        except LegatoError as error:
            event = wants_event(scope["method"], scope["path"], headers.get("accept", ""))
            response = self._cross(problem_response(error, as_event=event), crossing)
            await response(scope, receive, send)
            return
        token: str | None = state.get(NEW_COOKIE)
        if origin is None and token is None:
            await self._app(scope, receive, send)
            return

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if origin is not None:
                    self._add_cross(headers, origin)
                if token is not None and "set-cookie" not in headers:
                    assert self._credentials is not None
                    headers.append("Set-Cookie", session_cookie(scope, token, self._credentials.lives.most_ms))
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_more)

    def _check_host(self, headers: Headers) -> None:
        if not self._hosts:
            return
        if host_name(headers) not in self._hosts:
            raise Forbidden("this host name is not served here: name it in LEGATO_ALLOWED_HOSTS")

    def _is_allowed(self, scope: Scope, headers: Headers, origin: str) -> bool:
        return origin.lower() in self._origins or is_own(scope, headers, origin)

    async def _check_widget_origin(self, origin: str) -> None:
        """Let pages in that have a widget; what they may do is known when their credential is."""
        if self._credentials is None or not await self._credentials.is_of_widget(origin.lower()):
            raise Forbidden("pages of this origin may not call: name it in LEGATO_ALLOWED_ORIGINS")

    async def _caller(self, scope: Scope, headers: Headers, origin: str | None) -> Caller | None:
        assert self._credentials is not None
        method, path = scope["method"], scope["path"]
        if is_open(method, path):
            return None
        authorization = headers.get("authorization")
        if authorization is None and (token := read_cookie(scope, headers, SESSION)):
            return await self._signed_in(scope, headers, token)
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated("send a key: Authorization: Bearer lk_…")
        caller = self._credentials.known(key) or await self._credentials.of_key(key)
        if caller is None:
            raise Unauthenticated("this key is not known, or was revoked")
        if caller.origins:
            _check_widget(caller, scope, headers, origin)
        elif origin is not None and not self._is_allowed(scope, headers, origin):
            raise Forbidden("a secret key does not belong in a page: make one with legato keys create --publishable")
        else:
            check_role(caller.principal, method, path)
        return caller

    async def _signed_in(self, scope: Scope, headers: Headers, token: str) -> Caller:
        assert self._credentials is not None
        # Before the cookie is looked at: what another site's page does with it has no effect at all.
        check_own_page(scope, headers)
        # A request that does not tell whether its page is on https cannot be given a cookie for it.
        tells = is_https_page(scope, headers) or "origin" in headers or "sec-fetch-site" in headers
        page = await self._credentials.of_cookie(token, may_exchange=tells)
        if page is None:
            raise Unauthenticated("this sign-in is over: sign in again")
        if page.token is not None:
            scope["state"][NEW_COOKIE] = page.token
        check_role(page.caller.principal, scope["method"], scope["path"])
        return page.caller

    def _cross(self, response: Response, origin: str | None) -> Response:
        if origin is not None:
            self._add_cross(response.headers, origin)
        return response

    def _add_cross(self, headers: MutableHeaders, origin: str) -> None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSED
        headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
        headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = "600"
        headers.add_vary_header("Origin")


def _check_widget(caller: Caller, scope: Scope, headers: Headers, origin: str | None) -> None:
    """Refuse a publishable key, or a visitor, where it is not for.

    A page of another site cannot leave Origin out where it sends a credential; a page of this server does when it
    reads.

    Raises:
        Forbidden: The route, or the origin, is not for them.
    """
    method, path = scope["method"], scope["path"]
    if origin is None:
        if method not in SAFE or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Forbidden("a widget calls from a page: the header Origin is missing")
    elif not is_own(scope, headers, origin) and origin.lower() not in caller.origins:
        raise Forbidden("this widget's key is not for pages of this origin")
    if not may_call(caller.via, method, path):
        allowed = "may only chat" if caller.via == "visitor" else "only makes visitors of its widget"
        who = "a visitor of a widget" if caller.via == "visitor" else "a publishable key"
        raise Forbidden(f"{who} {allowed}")

"""Who may come in: host, origin and credential of every request, before any route.

Fails closed. Without authentication only loopback is served, to pages of this server alone: the Host check stops DNS
rebinding, the Origin check and JSON-only bodies stop other sites' pages.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.clock import Clock
from legato.core.errors import Forbidden, LegatoError, Unauthenticated
from legato.core.principal import LOCAL, Principal
from legato.http.problems import problem_response, wants_event

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
EXPOSED = (
    "X-Session-Id, X-Conversation-Id, X-Run-Id, X-Message-Id, X-Trace-Id, Retry-After, "
    "RateLimit-Policy, RateLimit, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
)
ALLOWED_HEADERS = "Content-Type, Authorization, Idempotency-Key, Last-Event-ID, Accept, Traceparent"
KEY_CACHE_S = 5.0
"""How long a good key is taken for good without looking again; a revoked one works for so long at most."""
KEY_CACHE_SIZE = 10_000

SLASH = "\x1f"
"""Stands for a slash inside a path's part (`%2F`) while the path is routed; no id may hold this character."""
_SLASH_IN_PART = re.compile(rb"%2f", re.IGNORECASE)

FindPrincipal = Callable[[str], Awaitable[Principal | None]]


class Guard:
    """ASGI middleware: sets `scope["state"]["principal"]`, or answers itself.

    Args:
        find_principal: Looks a key up; None serves everybody as the local principal (loopback only).
        hosts: Host names that are served, without port; empty serves any.
        origins: Other sites whose pages may call.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        find_principal: FindPrincipal | None,
        hosts: list[str],
        origins: list[str],
        clock: Clock,
    ) -> None:
        self._app = app
        self._find_principal = find_principal
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._clock = clock
        self._known: dict[bytes, tuple[Principal, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        raw_path: bytes | None = scope.get("raw_path")
        if raw_path and b"%" in raw_path and _SLASH_IN_PART.search(raw_path):
            scope["path"] = unquote(_SLASH_IN_PART.sub(b"%1F", raw_path).decode("ascii"))
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._check_host(headers)
            self._check_origin(headers, origin)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await self._cross(Response(status_code=204), origin)(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = await self._principal(headers)
        except LegatoError as error:
            event = wants_event(scope["method"], scope["path"], headers.get("accept", ""))
            response = problem_response(error, as_event=event)
            if not isinstance(error, Forbidden):
                self._cross(response, origin)
            await response(scope, receive, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
            return

        async def send_crossed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_cross(MutableHeaders(scope=message), origin)
            await send(message)

        await self._app(scope, receive, send_crossed)

    def _check_host(self, headers: Headers) -> None:
        if not self._hosts:
            return
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            raise Forbidden("this host name is not served here: name it in LEGATO_ALLOWED_HOSTS")

    def _check_origin(self, headers: Headers, origin: str | None) -> None:
        if origin is None:
            return
        own = origin.lower().partition("://")[2]
        if origin.lower() not in self._origins and (not own or own != headers.get("host", "").lower()):
            raise Forbidden("pages of this origin may not call: name it in LEGATO_ALLOWED_ORIGINS")

    async def _principal(self, headers: Headers) -> Principal:
        if self._find_principal is None:
            return LOCAL
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated("send a key: Authorization: Bearer lk_…")
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        now_s = self._clock.monotonic_s()
        known = self._known.get(digest)
        if known is not None and known[1] > now_s:
            return known[0]
        principal = await self._find_principal(key)
        if principal is None:
            self._known.pop(digest, None)
            raise Unauthenticated("this key is not known, or was revoked")
        if len(self._known) >= KEY_CACHE_SIZE:
            self._known.clear()
        self._known[digest] = (principal, now_s + KEY_CACHE_S)
        return principal

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

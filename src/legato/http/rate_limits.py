"""What is left of the rate limits, told on every answer to a posted message.

The fields are those of draft-ietf-httpapi-ratelimit-headers (`RateLimit-Policy`, `RateLimit`), and the three older
ones, which tell of the limit of which least is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.errors import StorageUnavailable
from legato.core.principal import Principal
from legato.http.edge import EXTENSION, Connection
from legato.policies.client_address import TrustedProxies
from legato.policies.rate_limit import RateLimits, Standing


class RateLimitFields:
    """ASGI middleware behind the guard: finds the client's address, and adds the fields to answers.

    Args:
        limits: Of those who hold a secret key; None where nothing is limited.
        visitor_limits: Of the visitors of widgets.
    """

    def __init__(self, app: ASGIApp, limits: RateLimits | None, visitor_limits: RateLimits | None) -> None:
        self._app = app
        self._limits = limits
        self._visitor_limits = visitor_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not _posts_message(scope["path"]):
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        principal: Principal = state["principal"]
        limits = self._limits if principal.role != "visitor" else self._visitor_limits
        if limits is None:
            await self._app(scope, receive, send)
            return
        if limits.proxies is not None:
            state["address"] = client_address(scope, limits.proxies)

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                session_id = state.get("session_id")
                if session_id is None:
                    # A session that the server made is known by the answer alone.
                    session_id = unquote(Headers(raw=message["headers"]).get("x-session-id", "")) or None
                try:
                    standings = await limits.standings(principal.id, session_id, state.get("address"))
                except StorageUnavailable:
                    # The answer says so itself, or was given just before.
                    standings = []
                # A widget may be limited as a whole alone, of which no visitor is told.
                if standings:
                    fields = rate_limit_fields(standings).items()
                    message["headers"] += [(name.lower().encode(), value.encode()) for name, value in fields]
            await send(message)

        await self._app(scope, receive, send_with_fields)


def rate_limit_fields(standings: Sequence[Standing]) -> dict[str, str]:
    """Return the fields that tell of these limits, of which there is one at least.

    Source:
        https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
    """
    tightest = min(standings, key=lambda each: (each.remaining, -each.reset_s))
    return {
        "RateLimit-Policy": ", ".join(
            f'"{each.limit.name}";q={each.limit.rate.amount};w={each.limit.rate.window_s}' for each in standings
        ),
        "RateLimit": ", ".join(
            f'"{each.limit.name}";r={each.remaining};t={math.ceil(each.reset_s)}' for each in standings
        ),
        "RateLimit-Limit": str(tightest.limit.rate.amount),
        "RateLimit-Remaining": str(tightest.remaining),
        "RateLimit-Reset": str(math.ceil(tightest.reset_s)),
    }


def client_address(scope: Scope, proxies: TrustedProxies) -> str | None:
    """Return the address that a request comes from, IPv6 as its /64; None where it is not known."""
    return proxies.client(_peer(scope), Headers(scope=scope).getlist("x-forwarded-for"))


def _peer(scope: Scope) -> str | None:
    connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
    if connection is not None:
        return connection.peer()
    client = scope.get("client")
    return client[0] if client else None


def _posts_message(path: str) -> bool:
    return path == "/chat/stream" or (
        path.startswith("/messages/") and path.endswith("/regenerate") and path.count("/") == 3
    )

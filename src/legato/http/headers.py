"""Headers that every answer has, so that no browser makes of it what it is not.

A page has stricter ones of its own (http.page_files), and the widget's is shown in frames; what an answer says itself
stays as it is.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = b"content-security-policy"
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
# Of what is no page: nothing of it may be run, loaded or shown in a frame.
_NO_PAGE: Final = (
    (POLICY, b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
"""For a year; subdomains are not this server's to speak for."""


class StrictHeaders:
    """ASGI around everything: adds what an answer has not said itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strict(message: Message) -> None:
            # What is not modified has the headers of then: a browser would take others in their place.
            if message["type"] == "http.response.start" and message["status"] != 304:
                given = list(message["headers"])
                names = {name.lower() for name, _ in given}
                given += [field for field in _ALWAYS if field[0] not in names]
                if POLICY not in names:
                    given += [field for field in _NO_PAGE if field[0] not in names]
                if _HSTS[0] not in names and is_https(scope):
                    given.append(_HSTS)
                message = {**message, "headers": given}
            await send(message)

        await self._app(scope, receive, send_strict)


def is_https(scope: Scope) -> bool:
    """Whether the browser sees https: this server may have a proxy before it that ends TLS.

    Anybody can say so of their own request. It makes cookies and headers stricter, never looser.
    """
    if scope.get("scheme") == "https":
        return True
    return any(name == b"x-forwarded-proto" and value == b"https" for name, value in scope["headers"])

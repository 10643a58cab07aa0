"""The cookies of this server: what a signed-in page has, and what a browser has on its way to the issuer and back.

Where the page is on https their names begin with `__Host-`, and no others count: neither a page of a neighbouring host
nor somebody on a connection without TLS can put one of theirs in the place of it.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from legato.http.own_page import HOST_PREFIX, is_https_page

SESSION: Final = "legato_session"
FLOW: Final = "legato_sign_in"
FLOW_PATH: Final = "/sign-in/issuer"


def read_cookie(scope: Scope, headers: Headers, name: str) -> str:
    """Return the value of one of this server's cookies; empty where there is none that counts."""
    line = headers.get("cookie")
    if not line:
        return ""
    found = cookie_parser(line)
    value = found.get(HOST_PREFIX + name, "")
    return value if value or is_https_page(scope, headers) else found.get(name, "")


def session_cookie(scope: Scope, token: str, most_ms: int) -> str:
    """Return the field that gives a signed-in page its cookie."""
    https = is_https_page(scope, Headers(scope=scope))
    return _field(SESSION, token, max_age_s=most_ms // 1000, path="/", same_site="strict", https=https)


def flow_cookie(secret: str, max_age_s: int, *, https: bool) -> str:
    """Return the field that gives a browser what it brings back from the issuer.

    Lax: the browser brings it when another site, the issuer, sends it here.
    """
    return _field(FLOW, secret, max_age_s=max_age_s, path=FLOW_PATH, same_site="lax", https=https)


def _field(name: str, value: str, *, max_age_s: int, path: str, same_site: str, https: bool) -> str:
    if https:
        # With this prefix a cookie has no path of its own.
        name, path, same_site = HOST_PREFIX + name, "/", f"{same_site}; Secure"
    return f"{name}={value}; HttpOnly; Max-Age={max_age_s}; Path={path}; SameSite={same_site}"

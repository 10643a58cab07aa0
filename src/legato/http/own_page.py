"""Whether it is a page of this server that asks, and over https: as far as a request tells.

Pure. What it tells is believed where it makes something stricter: a browser cannot be made to say less, and what
somebody says of their own request harms nobody else.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from legato.core.errors import Forbidden
from legato.core.origins import is_here
from legato.http.headers import is_https
from legato.http.roles import SAFE

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
HOST_PREFIX: Final = "__Host-"
"""Of a cookie's name: browsers take such a one from this very host over https alone, for all of its paths."""


def host_name(headers: Headers) -> str:
    """Return the host that a request names, lower case and without its port."""
    host = headers.get("host", "").lower()
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def is_https_page(scope: Scope, headers: Headers) -> bool:
    """Whether the page that asks is on https, also where the proxy that ends TLS does not say so.

    Browsers do, in Origin too.
    """
    if _must_be_https(scope, headers):
        return True
    origin = headers.get("origin")
    return origin is not None and is_own(scope, headers, origin) and origin.lower().startswith("https://")


def is_own(scope: Scope, headers: Headers, origin: str) -> bool:
    """Whether an origin is this server's, as the request calls it.

    Where https is seen by something else than Origin, a page of plain http is another site's.
    """
    scheme, _, own = origin.lower().partition("://")
    if not own or own != headers.get("host", "").lower():
        return False
    return scheme == "https" or (scheme == "http" and not _must_be_https(scope, headers))


def check_own_page(scope: Scope, headers: Headers) -> None:
    """Refuse what no page of this server does with its cookie.

    Browsers say by themselves, and no page can change it, whose page asks: in Origin, and where the connection can
    be trusted in Sec-Fetch-Site. What says neither may only read.

    Raises:
        Forbidden: Another site's page asks, or nothing tells that it is this server's own.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if (origin is not None and not is_own(scope, headers, origin)) or site not in (None, "same-origin", "none"):
        raise Forbidden("only pages of this server may use its sign-in")
    if scope["method"] not in SAFE and origin is None and site != "same-origin":
        raise Forbidden("nothing tells that a page of this server asks: send a key, or the header Origin")


def _must_be_https(scope: Scope, headers: Headers) -> bool:
    # Browsers send Sec-Fetch-Site, and a cookie with this prefix, over connections alone that they trust.
    return (
        is_https(scope)
        or ("sec-fetch-site" in headers and not is_here(host_name(headers)))
        or HOST_PREFIX in headers.get("cookie", "")
    )

"""Origins of web pages: scheme, host and port, as browsers write them.

Pure.

Source:
    https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

MAX_CHARS: Final = 300
_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
HOW: Final = "write scheme, host and port alone, such as https://shop.example or http://localhost:8000"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine; an IPv6 address may stand in brackets."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_here(host: str) -> bool:
    """As `is_loopback`, and so for every name under `localhost`, as browsers have it."""
    return is_loopback(host) or host.endswith(".localhost")


def parse_origin(text: str) -> str:
    """Return an origin as browsers send it: lower case, ASCII, without the scheme's own port.

    Raises:
        ValueError: It is none; the message says what is wrong with it and what would be right.
    """
    try:
        parts = urlsplit(text.strip())
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
        if len(text) > MAX_CHARS or scheme not in _PORTS or not host:
            raise ValueError
        host = f"[{IPv6Address(host).compressed}]" if ":" in host else host.encode("idna").decode("ascii").lower()
    except ValueError:
        raise ValueError(f"{text[:100]!r} is no origin: {HOW}") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc or text.strip()[-1] in "?#":
        raise ValueError(f"{text[:100]!r} is more than an origin: {HOW}")
    if not host.startswith("[") and not _HOST.fullmatch(host):
        raise ValueError(f"{text[:100]!r} names no single host: {HOW}")
    return f"{scheme}://{host}" + (f":{port}" if port is not None and port != _PORTS[scheme] else "")

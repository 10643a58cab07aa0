"""Which addresses tools may reach: public ones, and private ones whose host is allowed by name.

A model's words end up in URLs, so a tool that fetches one is a way into the network that the server stands in. A name
is looked up once and the connection goes to an address that was checked, never to a second look-up's (DNS rebinding).
`legato.tools.guarded_http.guarded_client` holds every connection to this, those after redirects too.

Source:
    https://www.iana.org/assignments/iana-ipv4-special-registry
    https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias
from urllib.parse import urlsplit

from legato.core.errors import AddressRefused

Address: TypeAlias = IPv4Address | IPv6Address
LookUp: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, as text, or raises OSError."""

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; metadata of Alibaba's machines
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, a public address that is not
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; metadata of Oracle's machines
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/3",  # all of IPv6 but what is given out as global unicast
        "4000::/2",
        "8000::/1",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",  # 6to4, long out of use: a way to any IPv4 address
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet, looking through those that carry an IPv4 one."""
    if isinstance(address, IPv6Address):
        carried = address.ipv4_mapped
        if address in _NAT64:
            carried = IPv4Address(int(address) & 0xFFFF_FFFF)
        if carried is not None:
            return is_public(carried)
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


class AddressGuard:
    """Decides which hosts may be reached, and at which addresses.

    Attributes:
        allowed: Hosts that may be private: `localhost`, `mcp.internal`, `10.0.0.5` or, for one port, `localhost:8080`.
    """

    def __init__(self, allowed: Collection[str] = (), *, look_up: LookUp | None = None) -> None:
        self.allowed = frozenset(_plain(host) for host in allowed)
        self._look_up = look_up or system_look_up

    def allows(self, host: str, port: int) -> bool:
        """Return whether a host may be private because it is allowed by name."""
        plain = _plain(host)
        bracketed = f"[{plain}]" if ":" in plain else plain
        return not self.allowed.isdisjoint((plain, bracketed, f"{bracketed}:{port}"))

    def check_literal(self, url: str) -> tuple[str, int]:
        """Return host and port of a URL, checked as far as that goes without looking a name up.

        Raises:
            AddressRefused: It is no http(s) URL, or its host is a private address or this machine's own name.
        """
        host, port = _target(url)
        if self.allows(host, port):
            return host, port
        if host == "localhost" or host.endswith(".localhost"):
            raise _refused(host, "this machine's own name")
        address = _literal(host)
        if address is not None and not is_public(address):
            raise _refused(host, "a private address")
        return host, port

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses that may be connected to for a host.

        A host that has public and private addresses is refused whole: an honest one does not.

        Raises:
            AddressRefused: One of its addresses is private.
            OSError: It has no address.
        """
        plain = _plain(host)
        literal = _literal(plain)
        found = [str(literal)] if literal is not None else list(dict.fromkeys(await self._look_up(plain, port)))
        if not found:
            raise OSError(f"{plain} has no address")
        if not self.allows(plain, port):
            for text in found:
                address = _literal(text)
                if address is None or not is_public(address):
                    raise _refused(plain, "a private address")
        return found


async def system_look_up(host: str, port: int) -> list[str]:
    """Return a host's addresses in the order in which the system would try them."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host[:80]!r} is no host name") from error
    return [str(address[0]) for *_, address in found]


def _target(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("the address is no URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise AddressRefused("the address must begin with http:// or https:// and name a host")
    return _plain(host), port or (443 if parts.scheme == "https" else 80)


def _plain(host: str) -> str:
    """Return a host as it is compared: lower-case, without a final dot, an address without brackets."""
    text = host.strip().lower().rstrip(".")
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as, in any form that the system's look-up takes for one."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # 127.1, 0x7f000001, 2130706433
        return IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except (OSError, ValueError):
        return None


def _refused(host: str, why: str) -> AddressRefused:
    return AddressRefused(
        f"{host} is {why}, and tools reach public ones only: allow it by name in allowed_private_hosts"
    )

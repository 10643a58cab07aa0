"""Which address a request comes from, behind proxies that are trusted by name.

Pure. `X-Forwarded-For` can be written by anybody: only what a trusted proxy put at its end is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from legato.core.errors import ConfigurationError

IPV6_PREFIX: Final = 64
"""One household or machine has as many IPv6 addresses as it likes, all with one such prefix."""

Address = IPv4Address | IPv6Address


class TrustedProxies:
    """The proxies whose word on a client's address is taken.

    Args:
        words: Addresses and networks (CIDR).

    Raises:
        ConfigurationError: One is neither, or trusts everybody; names it and what would be right.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._networks = tuple(_network(word) for word in words)

    def client(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """Return the client's address, IPv6 as its /64; None where even the peer's is not known.

        Args:
            peer: The other end of the connection.
            forwarded: All fields `X-Forwarded-For`, in their order.
        """
        found = _address(peer or "")
        if found is None:
            return None
        entries = [entry for value in forwarded for entry in value.split(",")]
        # From the right: each entry was written by the one before, which is believed as long as it is a trusted proxy.
        while entries and self._trusts(found):
            named = _address(entries.pop())
            if named is None:
                break
            found = named
        if isinstance(found, IPv6Address):
            return str(IPv6Network((int(found), IPV6_PREFIX), strict=False))
        return str(found)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(word)
    except ValueError:
        raise ConfigurationError(
            f"LEGATO_TRUSTED_PROXIES names {word[:100]!r}: write addresses and networks, such as 192.0.2.7, 10.0.0.0/8"
        ) from None
    if network.prefixlen == 0:
        raise ConfigurationError(
            f"LEGATO_TRUSTED_PROXIES names {word!r}, which trusts every client to say its own address: "
            "name the proxies alone"
        )
    return network


def _address(text: str) -> Address | None:
    """Return the address in an entry, which may have a port, or None."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return found.ipv4_mapped or found
    return found

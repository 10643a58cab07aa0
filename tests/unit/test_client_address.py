"""Which address a request comes from: only what a trusted proxy says is believed."""

from __future__ import annotations

import pytest

from legato.core.errors import ConfigurationError
from legato.policies.client_address import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        # Nobody but a trusted proxy is believed.
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        ("203.0.113.5", ["10.0.0.1"], "203.0.113.5"),
        # The last proxy's word, whatever the client wrote before it.
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1", "10.9.9.9 ,192.0.2.7"], "198.51.100.1"),
        ("192.0.2.7", ["198.51.100.1, 203.0.113.9, 10.0.0.3"], "203.0.113.9"),
        # All of them proxies: the first.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        # Ports, spaces, IPv6 in its brackets.
        ("10.0.0.1", [" 198.51.100.1:4711 "], "198.51.100.1"),
        ("10.0.0.1", ['"[2001:db8:1:2:3::4]:443"'], "2001:db8:1:2::/64"),
        # IPv6 by its /64, IPv4 in IPv6 as what it is.
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", [], "2001:db8:1:2::/64"),
        ("2001:db8:ffff::1", ["2001:db8:1:3::1"], "2001:db8:1:3::/64"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", [], "fe80::/64"),
        # What is no address: the last one that is known.
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1, 999.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["x" * 10_000], "10.0.0.1"),
        (None, ["198.51.100.1"], None),
        ("", ["198.51.100.1"], None),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(peer: str | None, forwarded: list[str], client: str | None) -> None:
    """From the right, as far as trusted proxies go; a client gains nothing by what it writes itself."""
    assert PROXIES.client(peer, forwarded) == client


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("proxy.example", "write addresses and networks"),
        ("10.0.0.1/8", "write addresses and networks"),
        ("10.0.0.0/33", "write addresses and networks"),
        ("", "write addresses and networks"),
        ("0.0.0.0/0", "trusts every client"),
        ("::/0", "trusts every client"),
    ],
)
def test_what_is_no_proxy_is_refused(word: str, said: str) -> None:
    """The message names it, and what would be right."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        TrustedProxies(["10.0.0.0/8", word])
    assert repr(word) in caught.value.message

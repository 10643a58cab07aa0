"""Which addresses tools may reach."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.errors import AddressRefused
from legato.tools.addresses import AddressGuard, is_public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2002:808:808::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_the_public_internets_is_private(address: str) -> None:
    """Loopback, networks behind the server, clouds' metadata and everything that carries one of them are private."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.15",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.1.1",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2001:4860:4860::8888",
        "2606:4700::1",
    ],
)
def test_an_address_of_the_public_internet_is_public(address: str) -> None:
    """Neighbours of the private ranges, and forms that carry a public IPv4 address, may be reached."""
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """The list holds at least what the standard library knows of."""
    carried = getattr(address, "ipv4_mapped", None) or address
    if address in ipaddress.ip_network("64:ff9b::/96"):
        # Reserved, and a way to any IPv4 address: judged by that one.
        carried = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if (
        carried.is_private
        or carried.is_loopback
        or carried.is_link_local
        or carried.is_multicast
        or carried.is_reserved
    ):
        assert not is_public(address)


LITERALS = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.0.0.1./",
    "http://[::1]:8080/",
    "http://[::ffff:127.0.0.1]/",
    "http://[fe80::1%25eth0]/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "https://169.254.169.254/latest/meta-data",
    "http://user@10.0.0.1/",
    "http://8.8.8.8@10.0.0.1/",
]


@pytest.mark.parametrize("url", LITERALS)
def test_a_private_address_is_refused_however_it_is_written(url: str) -> None:
    """Each form that a system's look-up would take for a private address is refused, before anything is looked up."""
    with pytest.raises(AddressRefused, match="allowed_private_hosts"):
        AddressGuard(look_up=never).check_literal(url)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/", "http://", "http:///x", "x", "http://a:b/"]
)
def test_what_is_no_url_of_the_web_is_refused(url: str) -> None:
    """Only http and https, with a host."""
    with pytest.raises(AddressRefused):
        AddressGuard().check_literal(url)


async def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up")


class Names:
    """A name service of the test's own, which counts and may answer otherwise each time."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0)


async def test_a_name_is_looked_up_once_and_what_was_checked_is_what_is_used() -> None:
    """The addresses given are those that were checked: there is no second look-up to be lied to."""
    names = Names(["93.184.216.34", "2606:2800:220:1::1"], ["127.0.0.1"])
    guard = AddressGuard(look_up=names)
    host, port = guard.check_literal("https://Example.ORG./x")
    assert await guard.resolve(host, port) == ["93.184.216.34", "2606:2800:220:1::1"]
    assert names.asked == ["example.org"]
    with pytest.raises(AddressRefused, match=r"^example.org is a private address"):
        await guard.resolve("example.org", 443)


@pytest.mark.parametrize(
    "answer",
    [["10.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"], ["no address"]],
)
async def test_a_name_with_a_private_address_is_refused_whole(answer: list[str]) -> None:
    """One private address among several is enough."""
    with pytest.raises(AddressRefused):
        await AddressGuard(look_up=Names(answer)).resolve("rebound.example", 80)


@pytest.mark.parametrize(
    ("allowed", "host", "port", "may"),
    [
        ("localhost", "localhost", 80, True),
        ("localhost", "LocalHost.", 80, True),
        ("localhost", "localhost.example", 80, False),
        ("localhost", "127.0.0.1", 80, False),
        ("localhost:8080", "localhost", 8080, True),
        ("localhost:8080", "localhost", 80, False),
        ("127.0.0.1", "127.0.0.1", 1, True),
        ("127.0.0.1", "127.0.0.2", 1, False),
        ("[::1]", "::1", 1, True),
        ("::1", "::1", 1, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:80", "::1", 81, False),
        ("MCP.internal", "mcp.internal", 1, True),
        ("mcp.internal", "evil.mcp.internal", 1, False),
    ],
)
async def test_a_host_is_allowed_by_its_own_name_alone(allowed: str, host: str, port: int, may: bool) -> None:
    """An entry allows one name, in one spelling or another, and one port where it names one."""
    guard = AddressGuard([allowed], look_up=Names(["10.0.0.5"]))
    assert guard.allows(host, port) is may
    if may:
        assert await guard.resolve(host, port)
    else:
        with pytest.raises(AddressRefused):
            await guard.resolve(host, port)


async def test_a_host_without_an_address_is_an_os_error() -> None:
    """A name that does not exist is no refusal: it may exist later."""
    with pytest.raises(OSError, match="has no address"):
        await AddressGuard(look_up=Names([])).resolve("absent.example", 80)
    with pytest.raises(OSError):
        await AddressGuard().resolve("a" * 70 + ".example", 80)


async def test_the_systems_own_names_are_checked() -> None:
    """The look-up of the system finds loopback behind a name, and it is refused."""
    with pytest.raises(AddressRefused, match=r"^localhost is a private address"):
        await AddressGuard().resolve("localhost", 80)

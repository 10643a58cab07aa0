"""The client that reaches public addresses only: every connection, redirects too, goes where was checked."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx2
import pytest
import trustme
from aiohttp import web

from legato.core.errors import AddressRefused
from legato.tools.addresses import AddressGuard
from legato.tools.guarded_http import TooLongAnswer, guarded_client
from tests.server import free_port


class Names:
    """A name service of the test's own; the last answer stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Site:
    """A server on loopback: `/`, `/to?url=`, `/long`, `/packed`, `/events`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.hosts: list[str] = []
        self._tls = tls

    async def __aenter__(self) -> Site:
        app = web.Application()
        app.router.add_get("/{name:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.hosts.append(request.headers["Host"])
        match request.match_info["name"]:
            case "to":
                return web.Response(status=302, headers={"Location": request.query["url"]})
            case "long":
                return web.Response(body=b"x" * 5000)
            case "packed":
                packed = gzip.compress(b"x" * 1_000_000)
                return web.Response(body=packed, headers={"Content-Encoding": "gzip"})
            case "events":
                return web.Response(body=b"data: x\n\n" * 1000, content_type="text/event-stream")
        return web.Response(text=request.headers.get("Accept-Encoding", ""))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as made:
        yield made


async def test_a_private_address_is_not_reached(site: Site) -> None:
    """Not by number, not by name, in no spelling; nothing arrives there."""
    async with guarded_client() as client:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1"):
            with pytest.raises(AddressRefused):
                await client.get(f"http://{host}:{site.port}/")
    assert site.hosts == []


async def test_the_checked_address_is_the_one_that_is_connected_to(site: Site) -> None:
    """A name that is looked up once cannot answer otherwise the second time."""
    names = Names(["127.0.0.1"])
    guard = AddressGuard([f"site.example:{site.port}"], look_up=names)
    async with guarded_client(guard=guard) as client:
        for _ in range(3):
            response = await client.get(f"http://site.example:{site.port}/")
            assert response.text == "identity"
    # One connection, one look-up; the server sees the name.
    assert names.asked == ["site.example"]
    assert set(site.hosts) == {f"site.example:{site.port}"}


async def test_a_name_that_turns_private_is_refused_with_its_next_connection(site: Site) -> None:
    """DNS rebinding: what was public at the first look is checked again at the next."""
    names = Names(["93.184.216.34"], ["127.0.0.1"])
    guard = AddressGuard(look_up=names)
    assert await guard.resolve("rebound.example", site.port)
    async with guarded_client(guard=guard) as client:
        with pytest.raises(AddressRefused):
            await client.get(f"http://rebound.example:{site.port}/")
    assert site.hosts == []


async def test_an_address_that_does_not_answer_gives_way_to_the_next(site: Site) -> None:
    """All of a host's addresses are tried, in their order."""
    guard = AddressGuard(["site.example"], look_up=Names(["127.0.0.9", "127.0.0.1"]))
    async with guarded_client(guard=guard) as client:
        assert (await client.get(f"http://site.example:{site.port}/")).status_code == 200
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://site.example:{free_port()}/")


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://169.254.169.254/"])
async def test_a_redirect_to_a_private_address_is_refused(site: Site, target: str) -> None:
    """An allowed host cannot send the client where it may not go."""
    guard = AddressGuard(["site.example"], look_up=Names(["127.0.0.1"]))
    async with guarded_client(guard=guard, follow_redirects=True) as client:
        with pytest.raises(AddressRefused):
            await client.get(
                f"http://site.example:{site.port}/to", params={"url": target.replace("{port}", str(site.port))}
            )
    assert len(site.hosts) == 1


async def test_no_proxy_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would look names up where nothing is checked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{site.port}")
    async with guarded_client() as client:
        with pytest.raises(AddressRefused):
            await client.get("http://10.0.0.1/")
    assert site.hosts == []


async def test_an_answer_is_bounded(site: Site) -> None:
    """A long body is cut off with an error; compression, which would hide its length, is refused; streams may go on."""
    async with guarded_client(allowed=["127.0.0.1"], max_response_bytes=1000) as client:
        url = f"http://127.0.0.1:{site.port}"
        with pytest.raises(TooLongAnswer):
            await client.get(f"{url}/long")
        with pytest.raises(httpx2.RemoteProtocolError, match="compressed"):
            await client.get(f"{url}/packed")
        assert len((await client.get(f"{url}/events")).content) == 9000
        assert (await client.get(f"{url}/")).text == "identity"


async def test_certificates_are_checked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to an address, and the certificate must still be the name's."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("site.example").configure_cert(tls)
    guard = AddressGuard(["site.example", "other.example"], look_up=Names(["127.0.0.1"]))
    async with Site(tls) as site, guarded_client(guard=guard) as client:
        assert (await client.get(f"https://site.example:{site.port}/")).status_code == 200
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            await client.get(f"https://other.example:{site.port}/")

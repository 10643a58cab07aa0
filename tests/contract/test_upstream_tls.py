"""TLS and proxies on the way to a model's server."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from legato.core.run_errors import UpstreamRefused, UpstreamUnavailable
from legato.providers.openai import OpenAIProvider
from tests.contract.upstream_server import Do, ProxyServer, UpstreamServer, answer, chunked, head
from tests.contract.upstream_shapes import HELLO, HI, text
from tests.contract.upstream_world import REQUEST, STOPPED, Deltas, World, cancelled, direct, stack, world

__all__ = ["stack", "world"]


class Authority:
    """A certificate authority of the tests' own, and a server's certificate for localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.file = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.file))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def tls_server(stack: AsyncExitStack, authority: Authority) -> UpstreamServer:
    return await stack.enter_async_context(UpstreamServer(tls=authority.server))


async def test_tls_streams_reuses_and_cancels(world: World, stack: AsyncExitStack, authority: Authority) -> None:
    """Everything that holds in the clear holds over TLS, through a tunnel as well."""
    server = await tls_server(stack, authority)
    held = (head() + chunked(text("Hel")), Do.HOLD)
    server.scripts.extend([(answer(HI),), (answer(HI),), (Do.CLOSE,), (answer(HI),), held])
    provider = await world.provider(server, ca_file=str(authority.file))
    for _ in range(3):
        sink = Deltas()
        assert await provider.call(REQUEST, sink) == STOPPED
        assert tuple(sink.texts) == HELLO
    assert [seen.connection for seen in server.requests] == [1, 1, 1, 2]
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await asyncio.wait_for(world.sink.came.wait(), 2.0)
    await cancelled(task)
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_a_certificate_that_is_not_trusted_is_refused(
    world: World, stack: AsyncExitStack, authority: Authority
) -> None:
    """It will not be trusted the next time either, and the message says what to set."""
    server = await tls_server(stack, authority)
    provider = await world.provider(server)
    with pytest.raises(UpstreamRefused, match=r"not trusted.*set ca_file or SSL_CERT_FILE"):
        await provider.call(REQUEST, world.sink)
    assert server.requests == []


async def test_a_certificate_for_another_name_is_refused(
    world: World, stack: AsyncExitStack, authority: Authority
) -> None:
    """The name is checked, not only the authority."""
    server = await tls_server(stack, authority)
    base_url = server.base_url.replace("localhost", "127.0.0.1")
    provider = await world.provider(server, base_url=base_url, ca_file=str(authority.file))
    with pytest.raises(UpstreamRefused, match="not trusted"):
        await provider.call(REQUEST, world.sink)


async def test_ssl_cert_file_is_honoured(
    world: World, stack: AsyncExitStack, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment may name the authorities for all programs."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    server = await tls_server(stack, authority)
    server.scripts.append((answer(HI),))
    provider = await world.provider(server)
    assert await provider.call(REQUEST, world.sink) == STOPPED


async def test_verification_can_be_switched_off(world: World, stack: AsyncExitStack, authority: Authority) -> None:
    """For a laboratory's self-signed server."""
    server = await tls_server(stack, authority)
    server.scripts.append((answer(HI),))
    provider = await world.provider(server, verify=False)
    assert await provider.call(REQUEST, world.sink) == STOPPED


async def test_tls_to_a_server_without_it_is_unavailable(world: World) -> None:
    """The handshake fails, in words."""
    server = await world.server()
    server.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    provider = await world.provider(server, base_url=server.base_url.replace("http:", "https:"))
    with pytest.raises(UpstreamUnavailable, match="the TLS handshake with"):
        await asyncio.wait_for(provider.call(REQUEST, world.sink), 5.0)


async def test_connecting_has_a_limit(world: World) -> None:
    """A server that takes the connection and says nothing in the handshake is given up."""
    server = await world.server()
    base_url = server.base_url.replace("http:", "https:")
    provider = await world.provider(server, base_url=base_url, connect_timeout_s=0.2)
    with pytest.raises(UpstreamUnavailable, match=r"no connection to localhost:\d+ within 0\.2 s"):
        await asyncio.wait_for(provider.call(REQUEST, world.sink), 2.0)


async def test_the_environment_names_a_proxy(
    stack: AsyncExitStack, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY tunnels and HTTP_PROXY forwards; NO_PROXY and loopback go without."""
    server = await tls_server(stack, authority)
    plain = await stack.enter_async_context(UpstreamServer())
    for each in (server, plain):
        each.scripts.append((answer(HI),))
    tunnel = await stack.enter_async_context(ProxyServer(server.port))
    forward = await stack.enter_async_context(ProxyServer(plain.port))
    monkeypatch.setenv("https_proxy", tunnel.url)
    monkeypatch.setenv("http_proxy", forward.url)
    monkeypatch.setenv("no_proxy", "direct.invalid")
    for url in ("https://localhost.test/v1", "http://model.test/v1"):
        provider = OpenAIProvider("test", model="m", base_url=url, verify=False)
        stack.push_async_callback(provider.close)
        assert await provider.call(REQUEST, Deltas()) == STOPPED
    assert tunnel.lines == ["CONNECT localhost.test:443 HTTP/1.1"]
    assert forward.lines == ["POST http://model.test/v1/chat/completions HTTP/1.1"]
    provider = OpenAIProvider("test", model="m", base_url="http://direct.invalid")
    with pytest.raises(UpstreamUnavailable, match="could not connect"):
        await provider.call(REQUEST, Deltas())
    assert len(forward.lines) == 1


async def test_a_proxy_takes_credentials_and_keeps_them(stack: AsyncExitStack) -> None:
    """They go to the proxy alone; a wrong one is a refusal that names no secret."""
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.append((answer(HI),))
    proxy = await stack.enter_async_context(ProxyServer(server.port, credentials="dXNlcjpwYXNz"))
    for credentials, good in (("user:pass@", True), ("user:hush@", False)):
        address = proxy.url.replace("//", f"//{credentials}")
        provider = direct(server, proxy=address)
        stack.push_async_callback(provider.close)
        if good:
            assert await provider.call(REQUEST, Deltas()) == STOPPED
            continue
        with pytest.raises(UpstreamRefused) as caught:
            await provider.call(REQUEST, Deltas())
        assert "hush" not in caught.value.message
        assert "407" in caught.value.message


@pytest.mark.parametrize(("status", "kind"), [(407, UpstreamRefused), (502, UpstreamUnavailable)])
async def test_a_tunnel_that_is_refused_is_said(
    stack: AsyncExitStack, authority: Authority, status: int, kind: type[UpstreamRefused]
) -> None:
    """What the proxy says of a tunnel is told apart from what the model's server says."""
    server = await tls_server(stack, authority)
    proxy = await stack.enter_async_context(ProxyServer(server.port, refusal=status))
    provider = direct(server, proxy=proxy.url)
    stack.push_async_callback(provider.close)
    with pytest.raises(kind, match="the proxy"):
        await provider.call(REQUEST, Deltas())


async def test_no_proxy_listening_is_unavailable(stack: AsyncExitStack) -> None:
    """It is the proxy that is away, and so it is said."""
    server = await stack.enter_async_context(UpstreamServer())
    provider = direct(server, proxy="http://127.0.0.1:9")
    stack.push_async_callback(provider.close)
    with pytest.raises(UpstreamUnavailable, match="could not connect to the proxy"):
        await provider.call(REQUEST, Deltas())

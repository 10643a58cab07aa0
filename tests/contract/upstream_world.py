"""What the contract suites of the OpenAI-compatible provider share: the two ways to a server, and a sink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from legato.providers import openai_http
from legato.providers.base import CallEnd, CallRequest, ChatMessage, Pausable
from legato.providers.openai import OpenAIProvider
from tests.contract.upstream_server import ProxyServer, Script, Step, UpstreamServer

KEY = "sk-test-0123456789abcdef"
REQUEST = CallRequest(
    run_id="r-1",
    messages=[ChatMessage(role="system", content="Be kind."), ChatMessage(role="user", content="Hi ☺")],
    temperature=0.5,
    max_tokens=64,
)


class Deltas:
    """A sink that remembers, and tells when something has come."""

    def __init__(self) -> None:
        self.opens = 0
        self.flow: Pausable | None = None
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.came = asyncio.Event()

    def opened(self, flow: Pausable | None) -> None:
        self.opens += 1
        self.flow = flow

    def text(self, delta: str) -> None:
        if delta:
            self.texts.append(delta)
        self.came.set()

    def reasoning(self, delta: str) -> None:
        self.thoughts.append(delta)
        self.came.set()


class World:
    """A scripted server, the way to it, and a provider that takes that way."""

    def __init__(self, way: str, stack: AsyncExitStack) -> None:
        self.way = way
        self._stack = stack
        self.sink = Deltas()

    async def server(self, *scripts: Script) -> UpstreamServer:
        server = await self._stack.enter_async_context(UpstreamServer())
        server.scripts.extend(scripts)
        return server

    async def provider(self, server: UpstreamServer, **settings: object) -> OpenAIProvider:
        if self.way == "proxied":
            proxy = await self._stack.enter_async_context(ProxyServer(server.port))
            settings = {"proxy": proxy.url, **settings}
        settings = {"model": "m", "base_url": server.base_url, "api_key": KEY, **settings}
        provider = OpenAIProvider("test", **settings)  # type: ignore[arg-type]
        await provider.start()
        self._stack.push_async_callback(provider.close)
        return provider

    async def call(self, *script: Step) -> CallEnd:
        """Make one call that is answered by `script`."""
        provider = await self.provider(await self.server(script))
        return await provider.call(REQUEST, self.sink)


@pytest.fixture(params=["direct", "direct, not compiled", "proxied"])
async def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    if request.param == "direct, not compiled":
        monkeypatch.setattr(openai_http, "plain_texts", None)
    async with AsyncExitStack() as stack:
        yield World(request.param, stack)


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


async def cancelled(task: asyncio.Task[CallEnd]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def settled(value: Callable[[], int]) -> None:
    """Return when `value` has not changed for 0.2 s."""
    async with asyncio.timeout(10.0):
        before = -1
        while before != (now := value()):
            before = now
            await asyncio.sleep(0.2)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def direct(server: UpstreamServer, **settings: object) -> OpenAIProvider:
    settings = {"model": "m", "base_url": server.base_url, "proxy": "", **settings}
    return OpenAIProvider("test", **settings)  # type: ignore[arg-type]


STOPPED = CallEnd(reason="stop")

"""An HTTP client that reaches public addresses only, and private ones whose host is allowed by name.

Every connection that it makes, after a redirect too, goes to an address that legato.tools.addresses has checked. A
proxy would look names up elsewhere, so none is used, whatever the environment says. Answers are bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2

from legato.tools.addresses import AddressGuard

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
CONNECT_TIMEOUT_S = 10.0


def guarded_client(
    *,
    allowed: Collection[str] = (),
    guard: AddressGuard | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float | None = 30.0,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
    follow_redirects: bool = False,
) -> httpx2.AsyncClient:
    """Return a client to be used as a context manager.

    Args:
        allowed: Hosts that may be private, by name; see AddressGuard.
        guard: In place of `allowed`.
        timeout_s: Between two pieces of an answer; None for no limit. Connecting may take CONNECT_TIMEOUT_S.
        max_response_bytes: Longest body, event streams apart; past it the read raises httpx2.StreamError.

    Its requests raise AddressRefused for what they may not reach.
    """
    return httpx2.AsyncClient(
        # Compression would let a small body become a large one behind the limit.
        headers={"accept-encoding": "identity", **(headers or {})},
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        follow_redirects=follow_redirects,
        trust_env=False,
        transport=_GuardedTransport(guard or AddressGuard(allowed), max_response_bytes),
    )


class TooLongAnswer(httpx2.StreamError):
    """A body is longer than the client takes."""


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Looks names up, checks what comes, and connects to just that."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._plain = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._guard.resolve(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"looking up {host} took too long") from error
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} has no address") from error
        share_s = None if timeout is None else timeout / len(addresses)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._plain.connect_tcp(address, port, share_s, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("unix sockets are not for tools")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _GuardedTransport(httpx2.AsyncBaseTransport):
    """httpx2's own transport has no place for a backend; only what both libraries document is used here."""

    def __init__(self, guard: AddressGuard, max_response_bytes: int) -> None:
        self._max_bytes = max_response_bytes
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=100,
            max_keepalive_connections=10,
            keepalive_expiry=30.0,
            network_backend=_GuardedBackend(guard),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        with _translated():
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        headers = httpx2.Headers(response.headers)
        if headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("the answer is compressed, which was not asked for", request=request)
        is_stream = headers.get("content-type", "").lower().startswith("text/event-stream")
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_BoundedStream(response, None if is_stream else self._max_bytes),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response, most_bytes: int | None) -> None:
        self._response = response
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        assert isinstance(self._response.stream, AsyncIterable)
        with _translated():
            async for piece in self._response.stream:
                seen += len(piece)
                if self._most_bytes is not None and seen > self._most_bytes:
                    raise TooLongAnswer(f"the answer is longer than {self._most_bytes} bytes")
                yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise httpx2's exceptions for httpcore2's, which have the same names."""
    try:
        yield
    except Exception as error:
        for kind in type(error).__mro__:
            if kind.__module__.partition(".")[0] == "httpcore2" and hasattr(httpx2, kind.__name__):
                raise getattr(httpx2, kind.__name__)(str(error)) from error
        raise

"""The transport for what stands behind a proxy: aiohttp, which speaks CONNECT and forwarding.

It costs about twice the CPU of the direct transport per chunk (docs/benchmarks.md), and pauses by
not reading.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp

from legato.core.run_errors import RunError, UpstreamInvalid, UpstreamRefused, UpstreamUnavailable
from legato.providers.openai_transport import Receiver, Target, connect_error, unanswered


class Gate:
    """Pauses one call's stream: the loop that reads waits here while it is shut."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pause_reading(self) -> None:
        self._open.clear()

    def resume_reading(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        """Return when the gate is open; at once, without a task switch, if it is."""
        if not self._open.is_set():
            await self._open.wait()


class AiohttpTransport:
    """Calls through a proxy, or directly without one (see openai_transport.Transport)."""

    def __init__(self, target: Target, *, proxy: str | None) -> None:
        """Make ready; no connection is opened, and no running loop needed.

        Args:
            target: Where calls are posted to.
            proxy: `http://` or `https://` address of the proxy, with its credentials if it wants
                any; None to connect directly.
        """
        self._target = target
        self._proxy = proxy
        self._slots = asyncio.Semaphore(target.max_connections)
        self._calls: set[asyncio.Timeout] = set()
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, request_id: str, receiver: Receiver) -> None:
        """Post `body`; see the seam. The one retry may meet a second stale connection, and fails."""
        headed = False
        try:
            async with self._slots, asyncio.timeout(None) as limit:
                self._calls.add(limit)
                try:
                    response = await self._send(body, request_id)
                    headed = True
                    await self._read(response, receiver)
                finally:
                    self._calls.discard(limit)
        except TimeoutError:
            if headed:
                receiver.end(clean=False)
            else:
                raise unanswered(self._target) from None

    async def close(self) -> None:
        """Close all connections; see the seam."""
        # aiohttp leaves whoever reads from a closed session waiting for ever.
        now = asyncio.get_running_loop().time()
        for limit in self._calls:
            limit.reschedule(now)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, body: bytes, request_id: str) -> aiohttp.ClientResponse:
        target = self._target
        headers = {**target.headers, "x-client-request-id": request_id}
        for last in (False, True):
            attempt = SimpleNamespace(reused=False)
            try:
                return await self._opened_session().post(
                    target.url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    proxy=self._proxy,
                    trace_request_ctx=attempt,
                )
            except TimeoutError as error:
                raise connect_error(error, target) from error
            except aiohttp.ClientError as error:
                if not attempt.reused or last or not _closed_early(error):
                    raise self._meaning(error) from error
        raise AssertionError("the last attempt returns or raises")

    async def _read(self, response: aiohttp.ClientResponse, receiver: Receiver) -> None:
        gate = Gate()
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        try:
            receiver.head(response.status, headers, gate)
            while not receiver.done:
                await gate.passed()
                data = await response.content.readany()
                if not data:
                    receiver.end(clean=True)
                    break
                receiver.body(data)
        except aiohttp.ClientError:
            receiver.end(clean=False)
        finally:
            # A message that is complete has given its connection back already.
            response.close()

    def _opened_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            target = self._target
            trace = aiohttp.TraceConfig()
            trace.on_connection_reuseconn.append(_mark_reused)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=target.idle_s, ssl=target.tls or True),
                timeout=aiohttp.ClientTimeout(total=None, connect=target.connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("accept-encoding", "user-agent"),
                trace_configs=[trace],
            )
        return self._session

    def _meaning(self, error: aiohttp.ClientError) -> RunError:
        """Return what a failure before any answer means."""
        where = self._target.authority
        match error:
            case aiohttp.ClientConnectorCertificateError():
                cause = error.certificate_error
                return connect_error(cause if isinstance(cause, OSError) else OSError(str(cause)), self._target)
            case aiohttp.ClientHttpProxyError(status=407):
                return UpstreamRefused("the proxy wants credentials (407): check the proxy setting")
            case aiohttp.ClientHttpProxyError():
                return UpstreamUnavailable(f"the proxy answered {error.status} instead of connecting to {where}")
            case aiohttp.ClientProxyConnectionError():
                return UpstreamUnavailable(f"could not connect to the proxy for {where}")
            case aiohttp.ClientConnectorSSLError():
                return UpstreamUnavailable(f"the TLS handshake with {where} failed")
            case aiohttp.ClientConnectorError():
                return connect_error(error.os_error, self._target)
            case aiohttp.ClientResponseError():
                return UpstreamInvalid(f"the answer of {where} is not HTTP")
            case _:
                return unanswered(self._target)


def _closed_early(error: aiohttp.ClientError) -> bool:
    """Return whether the connection ended before a head, of which at most nothing had come."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is the half of a head that did come
    return isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ClientConnectorError)


async def _mark_reused(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True

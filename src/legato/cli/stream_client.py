"""A client of POST /chat/stream that outlives cuts: it goes on from its cursor until the reply's one end.

The message is posted under an Idempotency-Key, so that a post which was cut before its answer came can be repeated
without a second reply being made. From the first header on, the run's id is known and the reply is followed with GET.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from legato.cli.reply_stream import Cut, Happening, ReplyFold, Restarted

PATIENCE_S: Final = 90.0
"""How long the server may be away, without a byte from it, before the reader is told."""
_FIRST_PATIENCE_S: Final = 10.0
"""The same for a server that has not begun to answer: perhaps there is none."""
_SILENCE_S: Final = 45.0
"""Longest silence on an open connection; the server's heartbeat comes every 10 s."""
_CONNECT_S: Final = 10.0
_WAIT_FIRST_S: Final = 0.1
_WAIT_MOST_S: Final = 5.0
_ERROR_BYTES: Final = 65_536

_STREAM: Final = "text/event-stream"
_NOT_LEGATO: Final = "what answers there is no Legato server"
_ACCEPT: Final = f"{_STREAM}, application/problem+json"
_UNCONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, OSError)


class Unreachable(Exception):
    """No server answers at the address; `was_there` tells whether one did before."""

    def __init__(self, why: str, *, was_there: bool) -> None:
        super().__init__(why)
        self.was_there = was_there


class Refused(Exception):
    """The server answered with an error instead of a stream."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float | None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


def reconnect_delay(attempt: int, *, jitter: float) -> float:
    """Return how long to wait before the next connection.

    Args:
        attempt: Failed attempts since the last byte, >= 1.
        jitter: Uniform draw in [0, 1).

    Returns:
        Seconds: 0.05 to 0.1 at first, doubling, at most 5.
    """
    return min(_WAIT_MOST_S, _WAIT_FIRST_S * 2.0 ** min(attempt - 1, 16)) * (0.5 + jitter / 2)


def open_session(key: str | None) -> aiohttp.ClientSession:
    """Return the session that replies are read with."""
    return aiohttp.ClientSession(
        # A terminal waits for minutes between two messages: a kept connection would be stale.
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )


class ReplyReader:
    """One message and the reply to it.

    Args:
        url: The server's address, without a slash at its end.
        conversation_id: None begins a conversation; the reader's own attribute then tells its id.
        patience_s: See PATIENCE_S.
        jitter: Draws from [0, 1).
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        message: str,
        *,
        conversation_id: str | None = None,
        patience_s: float = PATIENCE_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._session = session
        self._url = url
        self._body = {"message": message} | ({"conversationId": conversation_id} if conversation_id else {})
        self._key = uuid.uuid4().hex
        self._patience_s = patience_s
        self._jitter = jitter
        self._fold = ReplyFold()
        self._fold.conversation_id = conversation_id
        self._run_known = asyncio.Event()
        self._heard = False
        self._heard_at_s = time.monotonic()
        self._failures = 0

    @property
    def conversation_id(self) -> str | None:
        return self._fold.conversation_id

    @property
    def run_id(self) -> str | None:
        return self._fold.run_id

    async def happenings(self) -> AsyncIterator[Happening]:
        """Post the message and yield what happens; the last is Ended, and comes once.

        Raises:
            Unreachable: Nobody answers, at first or for `patience_s` after a cut.
            Refused: The server said no.
        BadStream: What answers does not speak the protocol.
        """
        while not self._fold.ended:
            wait_s = 0.0
            try:
                async for happening in self._read():
                    yield happening
                if self._fold.ended:
                    return
            except Refused as refused:
                if refused.status == 409 and refused.code == "cursor_diverged" and self._fold.cursor is not None:
                    self._fold.restart()
                    yield Restarted()
                    continue
                # A server that drains or is just starting: what it had promised it will keep.
                if refused.status not in (429, 502, 503, 504) or not self._heard:
                    raise
                wait_s = refused.retry_after_s or 0.0
            except aiohttp.InvalidURL as error:
                raise Unreachable("that is no address", was_there=False) from error
            except _UNCONNECTED as error:
                if not self._heard:
                    raise Unreachable(_why(error), was_there=False) from error
            except aiohttp.ClientResponseError as error:
                if not self._heard:
                    raise Refused(error.status, "", _NOT_LEGATO, None) from error
            except _BROKEN:
                self._heard = True
            self._failures += 1
            away_s = time.monotonic() - self._heard_at_s
            if self._fold.run_id is None and away_s > _FIRST_PATIENCE_S:
                raise Unreachable("it closes the connection without an answer", was_there=False)
            if away_s > self._patience_s:
                raise Unreachable("it has not come back", was_there=True)
            wait_s = max(reconnect_delay(self._failures, jitter=self._jitter()), min(wait_s, _WAIT_MOST_S))
            yield Cut(wait_s)
            await asyncio.sleep(wait_s)

    async def stop(self) -> None:
        """Ask the server to stop the reply, until it has heard or the reply has ended."""
        await self._run_known.wait()
        address = f"{self._url}/chat/stream/{quote(self._fold.run_id or '', safe='')}/stop"
        while not self._fold.ended:
            try:
                async with self._session.post(address) as response:
                    if response.status < 500 and response.status != 429:
                        return
            except _BROKEN:
                pass
            await asyncio.sleep(0.3)

    async def decide(self, call_id: str, *, granted: bool) -> None:
        """Tell the server whether a tool call that waits for approval may be made.

        Raises:
            Unreachable: Nobody has answered for `patience_s`.
            Refused: The call was decided on before, say, or the key may not decide.
        """
        address = self.approval_address(call_id)
        until_s = time.monotonic() + self._patience_s
        while time.monotonic() < until_s:
            try:
                async with self._session.post(address, json={"granted": granted}, allow_redirects=False) as response:
                    if response.status == 200:
                        return
                    if response.status < 500 and response.status != 429:
                        raise await _refusal(response)
            except _BROKEN:
                pass
            await asyncio.sleep(0.3)
        raise Unreachable("it has not come back", was_there=True)

    def approval_address(self, call_id: str) -> str:
        """Return where a decision on a tool call is posted; whatever the ids are, it needs no quoting after the url."""
        return f"{self._url}/chat/stream/{quote(self._fold.run_id or '', safe='')}/approvals/{quote(call_id, safe='')}"

    async def _read(self) -> AsyncIterator[Happening]:
        async with self._open() as response:
            if response.status == 204:
                # Its end is said to lie behind the cursor, and was not seen: the cursor is wrong.
                raise Refused(409, "cursor_diverged", "the reply has ended elsewhere", None)
            if response.status != 200 or response.content_type != _STREAM:
                raise await _refusal(response)
            self._heard = True
            self._note_bytes()
            self._fold.run_id = self._fold.run_id or response.headers.get("X-Run-Id")
            self._fold.connected()
            if self._fold.run_id:
                self._run_known.set()
            async for piece in response.content.iter_any():
                self._note_bytes()
                for happening in self._fold.feed(piece):
                    self._failures = 0
                    yield happening
                    # A person may have been asked meanwhile: that was no silence of the server's.
                    self._note_bytes()
                if self._fold.ended:
                    return

    def _open(self) -> Any:
        if self._fold.run_id is None:
            return self._session.post(
                f"{self._url}/chat/stream",
                json=self._body,
                headers={"Accept": _ACCEPT, "Idempotency-Key": self._key},
                allow_redirects=False,
            )
        headers = {"Accept": _ACCEPT} | ({"Last-Event-ID": self._fold.cursor} if self._fold.cursor else {})
        return self._session.get(
            f"{self._url}/chat/stream/{quote(self._fold.run_id, safe='')}", headers=headers, allow_redirects=False
        )

    def _note_bytes(self) -> None:
        self._heard_at_s = time.monotonic()


async def _refusal(response: aiohttp.ClientResponse) -> Refused:
    """Return what an answer that is no stream says."""
    raw = await response.content.read(_ERROR_BYTES)
    try:
        problem = json.loads(raw)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:
        return Refused(response.status, "", _NOT_LEGATO, _retry_after(response))
    detail = str(problem.get("detail") or problem.get("title") or "refused")
    return Refused(response.status, str(problem["code"]), detail, _retry_after(response))


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and math.isfinite(float(value)) else None


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer within 10 s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its TLS certificate is not trusted here"
    if isinstance(error, aiohttp.ClientSSLError):
        return "it does not speak TLS there: http:// perhaps"
    return os.strerror(error.errno).lower() if error.errno else "no connection"

"""Requests of one server: its address and credentials, how long to wait for what, and what its refusals say."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from legato.client.errors import ChatError, Refused, Unreachable
from legato.core.errors import FieldError

BROKEN: Final = (aiohttp.ClientError, TimeoutError, OSError)
UNCONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

_ERROR_BYTES: Final = 65_536
_INSIST_S: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client waits for what, in seconds.

    Attributes:
        away_s: How long a server may be away, without a byte from it, before the reader is told.
        first_s: The same for a server that has not begun to answer: perhaps there is none.
        silence_s: Longest silence on an open connection; three heartbeats.
        connect_s: Longest time for making a connection.
        jitter: Draws from [0, 1).
    """

    away_s: float = 90.0
    first_s: float = 10.0
    silence_s: float = 30.0
    connect_s: float = 10.0
    jitter: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where requests go.

    Attributes:
        base_url: Without a slash at its end.
        headers: Sent with each request.
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    patience: Patience = field(default_factory=Patience)

    @property
    def address(self) -> str:
        """Where the server is, for people: without name, password, query and fragment."""
        told = self.base_url.split("?", 1)[0].split("#", 1)[0]
        scheme, separator, rest = told.rpartition("//")
        host, slash, path = rest.partition("/")
        return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"

    def open_session(self) -> aiohttp.ClientSession:
        """Return a session for one reply or command; every request has a connection of its own."""
        # Minutes may pass between two messages: a kept connection would be stale.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.patience.connect_s, sock_read=self.patience.silence_s
            ),
            headers=self.headers,
        )

    async def insist(self, path: str, body: Any, *, enough: Callable[[], bool] = lambda: False) -> None:
        """Post a command that may be repeated, until the server has taken it or `enough` says that it need not.

        Raises:
            Refused: The server said no. (409 after a try that was cut is taken for the answer to that try.)
            Unreachable: It has been away for `patience.away_s`.
        """
        until_s = time.monotonic() + self.patience.away_s
        cut = False
        async with self.open_session() as session:
            while not enough() and time.monotonic() < until_s:
                try:
                    async with session.post(self.base_url + path, json=body, allow_redirects=False) as response:
                        if response.status < 300 or (response.status == 409 and cut):
                            return
                        if response.status < 500 and response.status != 429:
                            raise await refusal(response)
                except aiohttp.InvalidURL as error:
                    raise broken(error, address=self.address, was_there=False) from error
                except UNCONNECTED:
                    pass
                except BROKEN:
                    cut = True
                await asyncio.sleep(_INSIST_S)
        if not enough():
            raise Unreachable("it has not come back", address=self.address, was_there=True)


async def refusal(response: aiohttp.ClientResponse) -> Refused:
    """Return what an answer says that is no stream."""
    retry_after_s = _retry_after(response)
    try:
        problem = json.loads(await response.content.read(_ERROR_BYTES))
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or not isinstance(code := problem.get("code"), str):
        return not_legato(response.status, retry_after_s)
    wrong = problem.get("errors")
    return Refused(
        str(problem.get("detail") or problem.get("title") or "refused"),
        code=code,
        status=response.status,
        retryable=problem.get("retryable") is True,
        retry_after_s=retry_after_s,
        fields=tuple(_field(each) for each in wrong if isinstance(each, dict)) if isinstance(wrong, list) else (),
    )


def not_legato(status: int, retry_after_s: float | None = None) -> Refused:
    """Return the error for an answer that is none of Legato's."""
    return Refused(
        "what answers there is no Legato server",
        code="not_legato",
        status=status,
        retryable=status >= 502 or status == 429,
        retry_after_s=retry_after_s,
    )


def run_path(run_id: str) -> str:
    """Return where a run is read."""
    return f"/chat/stream/{quote(run_id, safe='')}"


def broken(error: Exception | None, *, address: str, was_there: bool) -> ChatError:
    """Return what a connection that was not made, or has ended too early, is for the caller."""
    if isinstance(error, aiohttp.InvalidURL):
        return Unreachable("that is no address", address=address, was_there=False)
    if isinstance(error, UNCONNECTED):
        return Unreachable(_why(error), address=address, was_there=was_there)
    if isinstance(error, aiohttp.ClientResponseError):
        return not_legato(error.status)
    return Unreachable("it closes the connection without a whole answer", address=address, was_there=was_there)


def _field(told: Mapping[str, Any]) -> FieldError:
    nearest = told.get("nearest")
    return FieldError(
        field=str(told.get("field", "")),
        message=str(told.get("message", "")),
        nearest=nearest if isinstance(nearest, str) else None,
    )


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and math.isfinite(float(value)) else None


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its TLS certificate is not trusted here"
    if isinstance(error, aiohttp.ClientSSLError):
        return "it does not speak TLS there: http:// perhaps"
    return os.strerror(error.errno).lower() if error.errno else "no connection"

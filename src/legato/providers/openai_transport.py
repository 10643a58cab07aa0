"""The seam between the OpenAI-compatible provider and the connection that carries its calls.

Two transports stand behind it: an own one for the direct case (openai_http.py) and aiohttp where a
proxy is asked for (openai_aiohttp.py). One contract suite runs over both.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from legato.core.run_errors import RunError, UpstreamRefused, UpstreamUnavailable
from legato.providers.base import Pausable


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where calls are posted to.

    Attributes:
        scheme: `http` or `https`.
        host: Name or address, in ASCII, without brackets.
        port: 1 to 65535.
        path: Absolute path with its query, percent-encoded.
        headers: Sent with every call; names in lower case, values in ASCII. Never shown.
        tls: The context for `https`; None for `http`.
        connect_timeout_s: Longest time for name look-up, connection and TLS together.
        max_connections: Most calls at a time; further ones wait.
        idle_s: How long an unused connection is kept.
    """

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    connect_timeout_s: float
    max_connections: int
    idle_s: float

    @property
    def authority(self) -> str:
        """The host, in brackets if it is an IPv6 address, and the port unless it is the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class Receiver(Protocol):
    """What takes one HTTP answer apart. All but `end` may raise; the connection is closed then.

    Attributes:
        done: Nothing more of the answer is needed; asked after each piece of the body.
    """

    done: bool

    @property
    def is_between(self) -> bool:
        """Whether what comes next of the body is the beginning of an event."""
        ...

    def texts(self, texts: list[str]) -> None:
        """Take what was found to be plain text deltas, in place of the events that held them."""
        ...

    def head(self, status: int, headers: Mapping[str, str], flow: Pausable) -> None:
        """Take the final status and the headers, names in lower case; called once, and first."""
        ...

    def body(self, data: bytes) -> None:
        """Take a piece of the body, freed of its transfer coding; never empty, never after `done`."""
        ...

    def end(self, *, clean: bool) -> None:
        """Learn that nothing more comes; `clean` is False if the message was cut."""
        ...


class Transport(Protocol):
    """Posts requests to one target and pushes the answers into receivers."""

    async def post(self, body: bytes, request_id: str, receiver: Receiver) -> None:
        """Post `body` and return once the answer has ended or its receiver is done.

        Cancellation closes the connection at once. A connection from the pool that turns out to be
        closed is replaced once by a fresh one, if nothing of an answer had come.

        Raises:
            UpstreamUnavailable: No answer came.
            UpstreamRefused: The server's certificate is not trusted, or a proxy refuses.
            UpstreamInvalid: What came is not HTTP.
        """
        ...

    async def close(self) -> None:
        """Close all connections; calls under way end as cut."""
        ...


def connect_error(error: OSError, target: Target) -> RunError:
    """Return what a failure to connect means: all pass, except a certificate that is not trusted."""
    where = target.authority
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamRefused(
            f"the certificate of {where} is not trusted ({error.verify_message}): "
            "set ca_file or SSL_CERT_FILE to the certificate of its authority"
        )
    if isinstance(error, ssl.SSLError):
        return UpstreamUnavailable(f"the TLS handshake with {where} failed")
    if isinstance(error, TimeoutError):
        limit = target.connect_timeout_s
        return UpstreamUnavailable(f"no connection to {where} within {limit:g} s")
    return UpstreamUnavailable(f"could not connect to {where}")


def unanswered(target: Target) -> UpstreamUnavailable:
    """Return the error for a connection that was closed before a whole head of an answer came."""
    return UpstreamUnavailable(f"{target.authority} closed the connection without an answer")

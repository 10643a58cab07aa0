"""The listening server: uvicorn with our edge, and a stop that drains first."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from legato.core.errors import ConfigurationError
from legato.http.edge import StreamingHttpProtocol

BACKLOG = 4096
GRACE_S = 5
"""How long requests that came while the server drained, or outlast it, may take to end."""
LOOK_TICKS = 50
"""uvicorn's ticks, ten a second, between two looks at connections on which nothing goes on."""


class LegatoServer(uvicorn.Server):
    """Serves an application until told to stop.

    Args:
        on_ready: Called once, when the sockets listen.
        on_stop: Awaited at the first SIGTERM or SIGINT while the sockets still listen; a second signal does not wait.
        send_timeout_s: A connection whose other end takes nothing for so long is cut.
    """

    def __init__(
        self,
        api: ASGIApp,
        *,
        on_ready: Callable[[], None],
        on_stop: Callable[[], Awaitable[None]],
        send_timeout_s: float,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                api,
                http=StreamingHttpProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._on_ready = on_ready
        self._send_timeout_s = send_timeout_s
        self._on_stop = on_stop
        self._stopping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def requests(self) -> set[asyncio.Task[None]]:
        """The tasks of the requests that are being answered; a reply's open stream has none."""
        return self.server_state.tasks

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % LOOK_TICKS == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, StreamingHttpProtocol):
                    connection.look(now_s, self._send_timeout_s)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """Begin to stop; a second call stops at once."""
        if self._stopping is not None:
            self._stopping.cancel()
            self.force_exit = True
            self.should_exit = True
            return
        self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        try:
            await self._on_stop()
        finally:
            self.should_exit = True


@contextmanager
def kept_sigterm() -> Iterator[Callable[[], bool]]:
    """Keep a SIGTERM that comes while a server starts, and return what tells whether one came; a second one ends it.

    A node that has made itself known has to leave, or the others wait until its lease has run out.
    """
    came: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(signal.SIGTERM, former)

    if threading.current_thread() is not threading.main_thread():
        # Signals are another's here.
        yield lambda: False
        return
    former = signal.signal(signal.SIGTERM, keep)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, former)


def listen(host: str, port: int, *, one_of_several: bool = False) -> list[socket.socket]:
    """Return listening sockets; `localhost` is IPv4 and, where there is one, IPv6 loopback. Port 0 picks a free one.

    Args:
        one_of_several: Other sockets may be bound to the same port so. It does not listen yet: connections are shared
            out among those that do.

    Raises:
        ConfigurationError: The address cannot be had; says what to do.
    """
    hosts = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    sockets: list[socket.socket] = []
    for each in hosts:
        family = socket.AF_INET6 if ":" in each else socket.AF_INET
        try:
            sock = socket.socket(family)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if one_of_several:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((each, port))
            if not one_of_several:
                sock.listen(BACKLOG)
            sock.setblocking(False)
            port = sock.getsockname()[1]
        except (OSError, UnicodeError) as error:
            sockets.pop().close()
            if each == "::1" and sockets and getattr(error, "errno", None) != errno.EADDRINUSE:
                break
            for sock in sockets:
                sock.close()
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"port {port} is in use: stop what listens there, or give another one with --port"
                ) from error
            raise ConfigurationError(
                f"{host} is no address of this machine: give one with --host, such as localhost"
            ) from error
    return sockets


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us, and make room for them now.

    The kernel grows a process's file table in steps, and stalls all its threads for 10 to 25 ms at each.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY:
        try:
            os.close(os.dup2(0, min(soft, 65536) - 1))
        except OSError:
            # Without standard input there is nothing to copy; the table grows when it must.
            pass

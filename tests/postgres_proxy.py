"""A proxy in front of PostgreSQL that breaks connections off at a chosen message: before the server gets it, or when
the server has answered it and the client has not heard."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from tests.server import free_port

Cut = Literal["before", "answer"]
"""What is lost: the client's message, or the server's answer to it."""


class PostgresProxy:
    """One port of 127.0.0.1 that leads to a server.

    Args:
        url: The database behind it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._server = (parts.hostname, parts.port or 5432)
        self._port = free_port()
        self.url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self._port}").geturl()
        self.cuts = 0
        self._left: int | None = None
        self._cut: Cut = "before"
        self._for_good = False
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()

    def start(self) -> PostgresProxy:
        """Take connections."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Break all connections off, and refuse new ones."""
        self._refuse()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _shut(*pair)

    def cut_at(self, message: int, cut: Cut, *, for_good: bool = False) -> None:
        """Break the connection off at the client's n-th message from now, of whatever connection; 1 is the next one.

        Args:
            for_good: Refuse new connections from then on, until `start`.
        """
        self._left, self._cut, self._for_good = message, cut, for_good

    def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # A thread waits in accept(): closing alone would not wake it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry what comes from either side, until one of them is done."""
        with client, server:
            swallow = False
            while True:
                try:
                    ready, _, _ = select.select((client, server), (), ())
                    for each in ready:
                        data = each.recv(65536)
                        if not data or (each is server and swallow):
                            return
                        if each is client and self._left is not None:
                            self._left -= 1
                            if self._left == 0:
                                self._left = None
                                self.cuts += 1
                                if self._for_good:
                                    self._refuse()
                                if self._cut == "before":
                                    return
                                swallow = True
                        (server if each is client else client).sendall(data)
                except (OSError, ValueError):
                    return


@contextmanager
def open_proxy(url: str) -> Iterator[PostgresProxy]:
    """Open a proxy in front of a database, until the end of the block."""
    proxy = PostgresProxy(url).start()
    try:
        yield proxy
    finally:
        proxy.stop()


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

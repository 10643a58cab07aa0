"""Reads replies at a node that does not make them, and notes how late each chunk is."""

import re
import selectors
import socket
import threading
import time

import psycopg

STAMP = re.compile(rb"\d{6}:(\d{15})")
"""A token of the mock: its number, and the monotonic time of its write in microseconds."""
OLD_S = 0.5
"""What comes so soon after the connection may be of before it."""
OVERLAP = 24
"""Bytes of a stamp that may have been cut."""

_RUNNING = "SELECT id FROM run WHERE state = 'running' ORDER BY key DESC LIMIT %s"


class Follower:
    """Follows some of the replies that are being made when it starts.

    Args:
        url: Of the database, where their names stand.
        port: Of the node to read at.
        most: How many.
    """

    def __init__(self, url: str, port: int, most: int) -> None:
        self.followed = 0
        self._url, self._port, self._most = url, port, most
        self._late_us: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def finish(self) -> list[float]:
        """Return how late each chunk was, in microseconds after its write."""
        self.stop()
        self._thread.join()
        return self._late_us

    def _follow(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            run_ids = [run_id for (run_id,) in connection.execute(_RUNNING, [self._most]).fetchall()]
        self.followed = len(run_ids)
        with selectors.DefaultSelector() as selector:
            for run_id in run_ids:
                sock = socket.create_connection(("127.0.0.1", self._port), timeout=10)
                sock.sendall(f"GET /chat/stream/{run_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ, bytearray())
            begin_us = (time.monotonic() + OLD_S) * 1e6
            while selector.get_map() and not self._stopping.is_set():
                for key, _ in selector.select(0.2):
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(65536)
                    if not data:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        continue
                    self._take(key.data, data, begin_us)
            for left in list(selector.get_map().values()):
                assert isinstance(left.fileobj, socket.socket)
                left.fileobj.close()

    def _take(self, rest: bytearray, data: bytes, begin_us: float) -> None:
        now_us = time.monotonic_ns() / 1000
        rest += data
        end = 0
        for found in STAMP.finditer(rest):
            end = found.end()
            if (stamp_us := int(found[1])) >= begin_us:
                self._late_us.append(now_us - stamp_us)
        del rest[: max(end, len(rest) - OVERLAP)]

"""What a worker of `legato serve --workers N` is given by its parent: a number, the listening sockets, a channel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from dataclasses import dataclass
from typing import Final

from legato.core.errors import ConfigurationError

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable: where the processes of one server keep what they count."""
BEAT_S: Final = 5.0
"""Between two bytes on the channel: the event loop turns."""
BEAT: Final = b"."


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A worker's place.

    Attributes:
        number: 1 for the first worker. One that is started anew has that of the one before it.
        channel: File descriptor of its end of the channel.
        sockets: File descriptors of the listening sockets.
    """

    number: int
    channel: int
    sockets: tuple[int, ...]

    def __str__(self) -> str:
        return ":".join(map(str, (self.number, self.channel, *self.sockets)))

    @classmethod
    def parse(cls, text: str) -> Seat:
        """Return what `str` made.

        Raises:
            ConfigurationError: It is none.
        """
        try:
            number, channel, *sockets = map(int, text.split(":"))
            return cls(number=number, channel=channel, sockets=tuple(sockets))
        except ValueError:
            raise ConfigurationError(f"{text!r} is no seat of a worker: `legato serve` makes them itself") from None

    def take(self) -> Worker:
        """Make this process a worker. Called before anything is counted.

        Raises:
            ConfigurationError: The files are not open here.
        """
        try:
            for fd in (self.channel, *self.sockets):
                os.set_inheritable(fd, False)
            return Worker(
                self.number, socket.socket(fileno=self.channel), [socket.socket(fileno=s) for s in self.sockets]
            )
        except OSError as error:
            raise ConfigurationError(f"the seat {self} is not open: `legato serve` makes workers itself") from error


class Worker:
    """This process as a worker; it stops, as at SIGTERM, when its parent is gone.

    Attributes:
        sockets: The listening ones.
    """

    def __init__(self, number: int, channel: socket.socket, sockets: list[socket.socket]) -> None:
        from prometheus_client import values

        self.sockets = sockets
        self._channel = channel
        self._beating: asyncio.Task[None] | None = None
        # By its number, not by its pid: whoever comes after it goes on with its counters.
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
        threading.Thread(target=self._wait_for_parent, name="legato-parent", daemon=True).start()

    def serves(self) -> None:
        """Tell the parent that the server listens, and from now on that its event loop turns."""
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            try:
                self._channel.send(BEAT, socket.MSG_DONTWAIT)
            except OSError:
                # A parent that is stopped reads later, one that is gone is noticed by the thread.
                pass
            await asyncio.sleep(BEAT_S)

    def _wait_for_parent(self) -> None:
        try:
            self._channel.recv(1)
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

"""`legato serve --workers N`: a process that holds the address, and below it N servers, each a node.

A worker is the same command once more. It is given its sockets, and one end of a channel on which it says that it
serves and that its event loop turns; where the channel ends, its parent is gone, and it stops as at SIGTERM. Each has a
process group of its own, so that a Ctrl-C at the terminal reaches it once, by way of its parent.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from legato.cli.exits import OK
from legato.cli.seat import BEAT_S, METRICS_FOLDER, Seat
from legato.http.server import listen

if TYPE_CHECKING:
    from legato.settings import Settings

log = structlog.get_logger(__name__)

SHARED_OUT: Final = sys.platform == "linux"
"""Whether the kernel shares connections out among the sockets of one port."""
FIRST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 30.0
"""Pause before a worker that ended is started anew; it doubles as long as none stays."""
STAYED_S: Final = 30.0
"""A worker that has served for so long has stayed."""
DEAF_BEATS: Final = 6
"""So many beats left out, one after another, and a worker is taken for stuck: it is killed, and started anew."""


def serve_with(settings: Settings, arguments: Sequence[str], on_ready: Callable[[int], None]) -> int:
    """Serve with `settings.workers` processes until told to stop; return the exit code.

    Where the first worker ends before it serves, so does this: it ends as one process would.

    Args:
        arguments: Those of this command line.
        on_ready: Called with the port when the first worker serves.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    folder = Path(tempfile.mkdtemp(prefix="legato-metrics-"))
    try:
        with Address(settings.host, settings.port) as address:
            command = [sys.executable, "-P", "-m", "legato", *arguments, "--no-reload"]
            workers = Workers(settings.workers, command, address, folder)
            return asyncio.run(workers.run(lambda: on_ready(address.port)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Address:
    """The address that all workers listen at, held until the end.

    On Linux each worker has sockets of its own, among which the kernel shares connections out evenly; of sockets that
    all wait at, whoever is woken first would take nearly all. Elsewhere they share one set.

    Raises:
        ConfigurationError: It cannot be had, or is in use.
    """

    def __init__(self, host: str, port: int) -> None:
        # Sockets that may be bound beside others do not notice another server's: these do.
        self._held = listen(host, port)
        self._host = host
        self.port: int = self._held[0].getsockname()[1]
        if SHARED_OUT:
            self.close()
            # They do not listen: while no worker does, connections are refused.
            self._held = self.sockets()

    def __enter__(self) -> Address:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sockets(self) -> list[socket.socket]:
        """Return those of a worker, which begins to listen at them itself; to be closed when it has ended."""
        if SHARED_OUT:
            return listen(self._host, self.port, one_of_several=True)
        return [sock.dup() for sock in self._held]

    def close(self) -> None:
        for sock in self._held:
            sock.close()


class Workers:
    """The processes that serve.

    Args:
        count: How many.
        command: What each runs; its seat is added.
        address: Where they listen.
        folder: For what the workers count together.
    """

    def __init__(self, count: int, command: Sequence[str], address: Address, folder: Path) -> None:
        self._count = count
        self._command = list(command)
        self._address = address
        self._folder = folder
        self._running: dict[int, _Running] = {}
        self._one_serves = asyncio.Event()
        self._stopping = asyncio.Event()
        self._code = OK

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Keep them running until a signal, wait for their ends, and return the first exit code that is not 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._hand_on, number)
        # Alone at first: what keeps one from starting, all would say.
        tasks = [loop.create_task(self._keep(1))]
        serves = loop.create_task(self._one_serves.wait())
        await asyncio.wait({*tasks, serves}, return_when=asyncio.FIRST_COMPLETED)
        serves.cancel()
        if self._one_serves.is_set():
            on_ready()
            tasks += [loop.create_task(self._keep(number)) for number in range(2, self._count + 1)]
        await asyncio.gather(*tasks)
        return self._code

    def _hand_on(self, number: int) -> None:
        self._stopping.set()
        for worker in self._running.values():
            # Of a terminal that was closed they are told as of any other end: they drain.
            worker.send(signal.SIGTERM if number == signal.SIGHUP else number)

    async def _keep(self, number: int) -> None:
        """Have a worker of this number until told to stop."""
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            code, served_s = await self._run_one(number)
            if self._stopping.is_set() or not self._one_serves.is_set():
                # One that was told to end before it could hear of it has nothing to hand over.
                if served_s is not None or not self._one_serves.is_set():
                    self._code = self._code or code
                return
            if served_s is not None and served_s >= STAYED_S:
                pause_s = FIRST_PAUSE_S
            log.warning("a worker ended; it is started anew", worker=number, code=code, pause_s=pause_s)
            try:
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            except TimeoutError:
                pause_s = min(MOST_PAUSE_S, pause_s * 2)

    async def _run_one(self, number: int) -> tuple[int, float | None]:
        """Run a worker to its end; return its exit code, and for how long it served, None where it never did."""
        channel, given = socket.socketpair()
        sockets = self._address.sockets()
        with channel:
            with given:
                seat = Seat(number=number, channel=given.fileno(), sockets=tuple(sock.fileno() for sock in sockets))
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    "--seat",
                    str(seat),
                    pass_fds=(seat.channel, *seat.sockets),
                    process_group=0,
                    env=os.environ | {METRICS_FOLDER: str(self._folder)},
                )
            worker = self._running[number] = _Running(number, process, channel)
            if self._stopping.is_set():
                # The signal came before there was anything to hand it to.
                worker.send(signal.SIGTERM)
            watch = asyncio.create_task(worker.watch(self._one_serves.set))
            code = await process.wait()
            watch.cancel()
        for sock in sockets:
            # From now on connections go to the others.
            sock.close()
        del self._running[number]
        for path in self._folder.glob(f"gauge_live*_{number}.db"):
            # What it held it holds no more.
            path.unlink()
        return (128 - code if code < 0 else code), worker.served_s


class _Running:
    """A worker's process, and the parent's end of its channel."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self._number = number
        self._process = process
        self._channel = channel
        self._serves_since_s: float | None = None
        channel.setblocking(False)

    @property
    def served_s(self) -> float | None:
        since_s = self._serves_since_s
        return None if since_s is None else asyncio.get_running_loop().time() - since_s

    def send(self, number: int) -> None:
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            pass

    async def watch(self, on_serves: Callable[[], None]) -> None:
        """Notice that it serves, and that it is stuck; until the channel ends."""
        loop = asyncio.get_running_loop()
        missed = 0
        while True:
            limit_s = None if self._serves_since_s is None else BEAT_S
            try:
                if not await asyncio.wait_for(loop.sock_recv(self._channel, 64), limit_s):
                    return
            except TimeoutError:
                # Counted one by one: after a pause of this very process the beats are there, but the time is over.
                missed += 1
                if missed > DEAF_BEATS:
                    log.error("a worker does not answer and is killed", worker=self._number, pid=self._process.pid)
                    self.send(signal.SIGKILL)
                    return
                continue
            except OSError:
                return
            missed = 0
            if self._serves_since_s is None:
                self._serves_since_s = loop.time()
                log.info("a worker serves", worker=self._number, pid=self._process.pid)
                on_serves()

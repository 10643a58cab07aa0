"""A real server process for tests: its own folder, a free port, the scripted model, an end by pid."""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from legato.providers.scripted import Call, read_journal
from tests.faults.nursery import Process, shared_nursery

SERVE = ("-m", "legato", "serve")
START_S = 60.0
"""How long a start may take on a busy machine."""
PORTS = range(20_000, 32_000)
"""Below those that Linux takes for connections (32768 and up) and macOS and Windows do (49152 and up)."""
MODELS = """\
[models.scripted]
provider = "scripted"
script = {{ journal = {journal} }}

[models.other]
provider = "scripted"
script = {{ journal = {journal} }}

[models.tiny]
provider = "scripted"
script = {{ journal = {journal}, context_window = 600 }}

[models.blunt]
provider = "scripted"
script = {{ journal = {journal}, prefill = false }}
"""
"""`tiny` takes 600 tokens, `blunt` does not go on from an assistant's message."""


class ServerFailed(AssertionError):
    """The server did not start; the message holds what it said."""


class ServerProcess:
    """One server on one data folder, which may be started and killed many times, on the same port.

    Args:
        folder: Its working directory; holds `data`, `legato.toml`, `journal` and `log`.
        settings: Fields of legato.settings.Settings, handed over as LEGATO_… variables.
        toml: What stands in legato.toml instead of MODELS; `{journal}` is filled in.
        command: Instead of `legato serve`, what Python is to run.

    A plain `legato serve`, with a bot or without, is forked from a process that has imported everything: an import is
    four fifths of a start, and there are hundreds. What starts processes of its own is started as it is by people.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, object] | None = None,
        *,
        toml: str = MODELS,
        command: Sequence[str] = SERVE,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.database = self.data_dir / "legato.db"
        self.journal = folder / "journal"
        self.log_path = folder / "log"
        self.port = free_port()
        self._command = tuple(command)
        self._process: Process | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "legato.toml").write_text(toml.format(journal=json.dumps(str(self.journal))))
        self.settings: dict[str, object] = {
            "model": "scripted",
            "durability": "process",
            "titles": "words",
            "log_format": "json",
        } | dict(settings or {})

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def calls(self) -> list[Call]:
        """All calls of the scripted models, oldest first."""
        return read_journal(self.journal)

    def environment(self) -> dict[str, str]:
        """This process's environment without any setting, and with the server's own."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LEGATO_", "OPENAI_")) and "PROXY" not in name.upper()
        }
        own = {f"LEGATO_{name.upper()}": str(value) for name, value in self.settings.items()}
        return inherited | own | {"LEGATO_PORT": str(self.port), "LEGATO_DATA_DIR": str(self.data_dir)}

    def launch(self) -> None:
        """Start the process and return at once."""
        assert self._process is None or self._process.poll() is not None, "the server runs already"
        plain = self._command[:3] == SERVE and not self.settings.keys() & {"workers", "reload"}
        if plain and not any(word.startswith("--") for word in self._command):
            self._process = shared_nursery().launch(self._command[2:], self.folder, self.environment(), self.log_path)
            return
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> ServerProcess:
        """Start the process and wait until it answers a request.

        Raises:
            ServerFailed: It ended, or did not answer within START_S.
        """
        self.launch()
        try:
            self.wait_until_ready()
        except ServerFailed:
            self.kill()
            raise
        return self

    def wait_until_ready(self) -> None:
        """Wait until the socket answers."""
        assert self._process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if (code := self._process.poll()) is not None:
                raise ServerFailed(f"the server ended with {code}:\n{self.log}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=START_S) as sock:
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    if sock.recv(16).startswith(b"HTTP/1.1 "):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise ServerFailed(f"the server did not answer:\n{self.log}")

    def kill(self) -> None:
        """Kill it at once, as `kill -9` does; it may have ended already."""
        self._end(signal.SIGKILL)

    def terminate(self, *, limit_s: float = 30.0) -> int:
        """Ask it to end, as a service manager does, and return its exit status."""
        return self._end(signal.SIGTERM, limit_s)

    def wait(self, *, limit_s: float = 30.0) -> int:
        """Wait until it ends, and return its exit status."""
        assert self._process is not None
        return self._process.wait(limit_s)

    def restart(self) -> ServerProcess:
        """Kill it and start it again on the same folder and port."""
        self.kill()
        return self.start()

    def _end(self, number: signal.Signals, limit_s: float = 30.0) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, number)
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise


def free_port() -> int:
    """Return a port that is free on IPv4 and IPv6 loopback now.

    None that the system gives out by itself, none that another worker of pytest-xdist returns, and none that was
    returned before: it is free still when a server is started on it, or is started again, and nobody listens there
    when a test wants nobody to.
    """
    for port in itertools.islice(_own_ports(), 1000):
        if _is_free(socket.AF_INET, "127.0.0.1", port) and _is_free(socket.AF_INET6, "::1", port):
            return port
    raise AssertionError(f"none of 1000 ports from {PORTS[0]} to {PORTS[-1]} is free")


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.bind((host, port))
    except OSError as error:
        # A machine may be without IPv6.
        return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    return True


@functools.cache
def _own_ports() -> Iterator[int]:
    """Return this worker's share of PORTS, in an order of chance, over and over."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(PORTS) // count
    return itertools.cycle(random.sample(PORTS[size * number : size * (number + 1)], size))

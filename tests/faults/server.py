"""The real server as a child process: started on a free port and a folder of its own, killed, started again."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.nursery import Nursery, Process, shared_nursery
from tests.server import free_port

START_S = 60.0

_CONFIG = """\
[models.scripted]
provider = "scripted"
script = {{ journal = "{journal}", prefill = {prefill} }}
"""


class Server:
    """One server and its folder; `start` after a `kill` takes up the same data on the same port.

    Args:
        folder: Its working directory; configuration, data, journal and log lie there.
        settings: Environment beside the defaults, such as {"LEGATO_DRAIN_S": "1"}.
        module: What is run: `legato` itself, or a wrapper with its faults.
        nursery: What forks it, running the nursery's module; by default the one that all tests share, which imports
            `module` in the fork.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        module: str = "legato",
        prefill: bool = True,
        nursery: Nursery | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.module = module
        self.settings = dict(settings or {})
        self.listening_at = 0.0
        self._nursery = nursery
        self._process: Process | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "legato.toml").write_text(_CONFIG.format(journal=self.journal, prefill=str(prefill).lower()))

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def database(self) -> Path:
        return self.folder / "data" / "legato.db"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self, more: Mapping[str, str] | None = None) -> None:
        """Begin to start it; `more` is environment for this time only."""
        assert not self.running
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEGATO_", "OPENAI_"))}
        environment |= {"LEGATO_MODEL": "scripted", "LEGATO_TITLES": "words", "PYTHONUNBUFFERED": "1"}
        if keys := os.environ.get("FAULTS_ENCRYPTION_KEYS"):
            environment["LEGATO_ENCRYPTION_KEYS"] = keys
        environment |= self.settings | dict(more or {})
        environment["PYTHONPATH"] = python_path()
        arguments = ["serve", "--port", str(self.port), "--data-dir", str(self.folder / "data")]
        if self._nursery is not None:
            self._process = self._nursery.launch(arguments, self.folder, environment, self.log)
            return
        own = "legato.cli.main" if self.module == "legato" else self.module
        self._process = shared_nursery().launch(arguments, self.folder, environment, self.log, module=own)

    def listen(self) -> bool:
        """Wait until it listens; return False if it ended before."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    self.listening_at = time.monotonic()
                    return True
            if not self.running:
                return False
            time.sleep(0.01)
        raise TimeoutError(f"the server did not listen within {START_S:g} s: {self.log_end()}")

    def start(self, more: Mapping[str, str] | None = None) -> Server:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: It ended instead.
        """
        self.launch(more)
        if not self.listen():
            raise RuntimeError(f"the server did not start: {self.log_end()}")
        return self

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for its end; return how it ended."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def log_end(self) -> str:
        return self.log.read_text("utf-8", "replace")[-2000:] if self.log.exists() else ""

    def rss_bytes(self) -> int:
        """Return its resident memory."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def python_path() -> str:
    """Return where Python is to look first: this tree, and no other one that may be installed."""
    # Mutants run in a copy.
    root = Path(__file__).parents[2]
    return os.pathsep.join([str(root / "src"), str(root), *filter(None, [os.environ.get("PYTHONPATH")])])

"""Servers that begin with everything imported: a process that has loaded the code forks one for each start.

Four fifths of a start's CPU are imports. A node that is killed and started again some hundred times on two cores is
mostly that; a forked one runs the same `main()` with its own arguments, environment, folder and log.

    python -m tests.faults.nursery MODULE        speaks JSON lines on stdin and stdout, see `Nursery`
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

MODULE = "tests.faults.cluster_server"
_LOADED_LATER = (
    "legato.app",
    "legato.cli.serve",
    "legato.cli.describe",
    "legato.cli.start_lines",
    "legato.steps.engine",
)
"""What the server imports only where it is needed; a node of a cluster needs all of it."""


class Process(Protocol):
    """What is asked of a server's process, whoever has started it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Nursery:
    """A process with the server's code loaded, that forks whenever one is to start. `close` ends all that live.

    Args:
        path: PYTHONPATH of it.
        module: What it loads; its `begin`, or else its `main`, is the server.
    """

    def __init__(self, path: str, module: str = MODULE) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEGATO_", "OPENAI_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.faults.nursery", module],
            env=environment | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self._lock = threading.Lock()

    def launch(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        *,
        module: str | None = None,
        errors: Path | None = None,
        stdin: Path | None = None,
    ) -> Process:
        """Fork a server that goes on as `python -m <module> <arguments>` would; by default the nursery's module.

        Args:
            log: What it writes, and what it writes to standard error unless `errors` is to have that.
            stdin: What it reads; nothing by default.
        """
        order: dict[str, Any] = {
            "arguments": [*arguments],
            "folder": str(folder),
            "environment": {**environment},
            "log": str(log),
        }
        order |= {"module": module, "errors": str(errors or log), "stdin": str(stdin or os.devnull)}
        return _Forked(self, int(self.ask(order)["pid"]))

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give an order and return the answer.

        Raises:
            RuntimeError: The nursery has ended.
        """
        with self._lock:
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()
            line = self._answers.readline()
        if not line:
            raise RuntimeError("the process that forks servers has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._orders.close()
        self._process.wait()
        self._answers.close()


@functools.cache
def shared_nursery() -> Nursery:
    """Return what forks this process's servers, until its end; it has loaded `legato`."""
    root = Path(__file__).parents[2]
    path = [str(root / "src"), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    made = Nursery(os.pathsep.join(path), "legato.cli.main")
    atexit.register(made.close)
    return made


class _Forked:
    """A server that is the nursery's child."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, None where it lives."""
        if self._code is None:
            self._code = self._nursery.ask({"look": self.pid})["code"]
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, once it has.

        Raises:
            subprocess.TimeoutExpired: It lives still.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                assert timeout is not None
                raise subprocess.TimeoutExpired(f"server {self.pid}", timeout)
            time.sleep(0.002)
        return code


def _obey() -> dict[str, Any] | None:
    """Carry out orders; return the one of a server to be begun in its own process, None at the end of all."""
    living: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "look" in order:
            pid, status = os.waitpid(order["look"], os.WNOHANG)
            living.discard(pid)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        elif pid := os.fork():
            living.add(pid)
            answer = {"pid": pid}
        else:
            taken: dict[str, Any] = order
            return taken
        print(json.dumps(answer), flush=True)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    return None


def _become(order: Mapping[str, Any]) -> None:
    """Have this process be as a fresh one with these arguments would be."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for target, name, how in (
        (0, order["stdin"], os.O_RDONLY),
        (1, order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, order["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        source = os.open(name, how, 0o600)
        os.dup2(source, target)
        os.close(source)
    # What the parent had read ahead of its orders is not this one's input.
    sys.stdin = open(0)  # noqa: SIM115
    sys.argv = ["legato", *order["arguments"]]
    # As `python -m` has it: a bot imports what lies beside it.
    sys.path[0] = order["folder"]
    gc.enable()


if __name__ == "__main__":
    gc.disable()
    server = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else MODULE)
    for name in _LOADED_LATER:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    if (mine := _obey()) is not None:
        _become(mine)
        if own := mine.get("module"):
            server = importlib.import_module(own)
        getattr(server, "begin", server.main)()

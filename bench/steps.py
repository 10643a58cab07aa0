"""The server that the scenarios `queue` and `state` measure: `legato serve bench.bot:app`, and what it is asked.

Load and clocks are in the bot's own steps, inside the server: its cost is that of `ctx.enqueue` and `ctx.state`, not of
the requests of a client.
"""

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from bench.process import Cores, Tree, free_port
from bench.target import LEGATO_ENV, listening
from bench.toolchain import BenchError

BOT = "bench.bot:app"
"""By its module: beside the file itself lie names of Python's own library."""
Report = TypeVar("Report", bound=BaseModel)

QUEUE_PATH, STATE_PATH = "/bench/queue", "/bench/state"
STATE_GROUP = "bench"
END_S = 10.0
"""Longest wait for the last jobs."""


class QueueLoad(BaseModel):
    """So many jobs a second for so long, after as many for `settle_s`, and a pause of twice that."""

    rate: float
    window_s: float
    settle_s: float


class QueueReport(BaseModel):
    """What was seen of the jobs that were enqueued within the window.

    Attributes:
        window_s: Until the last of them was done.
        cpu_s: Of the whole process, beyond what it takes without jobs.
        p50_ms, p99_ms: From the call of ctx.enqueue to the end of the handler.
        lag_p99_ms, lag_max_ms: How much later than asked for a sleeping task was woken on the event loop.
    """

    jobs: int
    window_s: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float
    lag_max_ms: float


class StateLoad(BaseModel):
    """So many writers that count under one key, each its next update when the one before is acknowledged."""

    writers: int
    window_s: float
    settle_s: float = 0.5
    key: str


class StateReport(BaseModel):
    """What the writers saw.

    Attributes:
        acknowledged: Updates since the beginning, warm-up included.
        updates: Those that began within the window.
        cpu_s: Of the whole process within the window.
    """

    acknowledged: int
    updates: int
    cpu_s: float
    p50_ms: float
    p99_ms: float


class BotServer:
    """A running server with the bot."""

    def __init__(self, port: int, tree: Tree, data: Path) -> None:
        self.tree = tree
        self.database = data / "legato.db"
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, load: QueueLoad | StateLoad, kind: type[Report]) -> Report:
        """Have the bot work a load off, and return its report.

        Raises:
            BenchError: It answered with an error, or not in time.
        """
        request = urllib.request.Request(
            self._url + path, load.model_dump_json().encode(), {"Content-Type": "application/json"}
        )
        limit_s = load.window_s + 3 * load.settle_s + END_S + 20
        try:
            with urllib.request.urlopen(request, timeout=limit_s) as answer:
                return kind.model_validate(json.load(answer))
        except OSError as error:
            raise BenchError(
                f"{path}: the server did not answer within {limit_s:.0f} s, or refused: {error}"
            ) from error


@contextmanager
def bot_server(cores: Cores, folder: Path, *, module: str = "legato") -> Iterator[BotServer]:
    """Run the bot on a fresh database, durable to power loss as all that is measured.

    Args:
        module: `bench.stepless` serves the same without queue, clock and relay.
    """
    folder.mkdir(parents=True)
    port, data = free_port(), folder / "data"
    command = [sys.executable, "-m", module, "serve", BOT, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(data)]
    env = {**LEGATO_ENV, "LEGATO_MODEL": "scripted"}
    with listening(module, command, env, port=port, cores=cores, folder=folder) as tree:
        yield BotServer(port, tree, data)

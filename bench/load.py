"""The load of one run: a mock upstream and the load client, as C programs beside this file."""

import mmap
import os
import signal
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from bench.process import Cores, free_port, running, wait_for_port
from bench.toolchain import BenchError, Programs

Protocol = Literal["native", "openai"]
RAMP, WINDOW, DRAIN, DONE = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many streams of which shape, for how long."""

    streams: int
    tokens: int = 200
    rate: float = 20.0
    """Tokens per second and stream."""
    ramp_s: float = 10.0
    settle_s: float = 0.0
    window_s: float = 10.0
    """Seconds during which CPU and latencies are taken; one reply's length or more."""
    once: bool = False
    """One stream a slot, held until it ends, instead of a steady number."""
    total: int | None = None
    """End after this many streams."""
    conversation: str | None = None
    """A fixed conversation id; a % in it stands for the stream's number."""
    message: str | None = None
    """What each stream posts; None takes the client's own few words."""

    @classmethod
    def steady(cls, streams: int, *, tokens: int, window_s: float, rate: float = 20.0) -> "Load":
        """Return a load whose replies' starts and ends are spread evenly over the window."""
        reply_s = tokens / rate
        return cls(
            streams=streams,
            tokens=tokens,
            rate=rate,
            ramp_s=reply_s,
            settle_s=0.5,
            # Whole replies only, so that the cost of starts and ends has its due share.
            window_s=max(1, round(window_s / reply_s)) * reply_s,
        )

    @property
    def expected_s(self) -> float:
        """Seconds that a run of this load should take."""
        return self.ramp_s + self.settle_s + self.window_s + self.tokens / self.rate

    def but(self, *, streams: int) -> "Load":
        """Return the same load with another number of streams."""
        return replace(self, streams=streams)


class Spread(msgspec.Struct, frozen=True):
    """A distribution as the load client prints it; microseconds."""

    count: int
    mean: float = 0.0
    min: int = 0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    p999: int = 0
    max: int = 0
    buckets: list[tuple[int, int]] = []
    """(upper bound, count) of each bucket that is not empty."""


class LoadResult(msgspec.Struct, frozen=True):
    """What the load client saw."""

    streams: int
    started: int
    whole: int
    failed: int
    tokens: int
    frames: int
    window_tokens: int
    window_frames: int
    elapsed_s: float
    chunk_added_us: Spread
    first_added_us: Spread
    first_total_us: Spread
    start_us: Spread
    violations: int
    violation_kinds: dict[str, int]
    first_error: str

    def fault(self) -> str | None:
        """Return what went wrong with the streams, or None when every one was whole."""
        if not self.violations:
            return None
        kinds = ", ".join(f"{kind} {n}" for kind, n in self.violation_kinds.items() if n)
        return f"{self.violations} of {self.started} streams broken ({kinds}): {self.first_error}"


@dataclass(frozen=True, slots=True)
class Live:
    """The client's counters at one moment."""

    phase: int
    tokens: int
    open: int
    started: int
    whole: int
    first: int
    failed: int
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mock:
    """A running mock upstream."""

    port: int
    process: subprocess.Popen[bytes]
    certificate: Path | None

    @property
    def url(self) -> str:
        """Base address as OpenAI clients want it."""
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.port}/v1"

    def release_silent(self) -> None:
        """End the silent streams, spread over the mock's `release_s`."""
        os.kill(self.process.pid, signal.SIGUSR1)


@contextmanager
def mock_upstream(
    programs: Programs,
    cores: Cores,
    folder: Path,
    *,
    load: Load,
    silent: bool = False,
    release_s: float = 5.0,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[Mock]:
    """Run a mock upstream that answers with the replies that `load` expects.

    With `silent` its streams say one token and then nothing until they are released, which
    spreads their ends over `release_s` seconds.
    """
    port = free_port()
    command = [str(programs.mock_upstream), "--port", str(port)]
    command += ["--tokens", str(load.tokens), "--rate", str(load.rate)]
    if silent:
        command += ["--silent", "--release-s", str(release_s)]
    if certificate:
        command += ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    log = folder / "mock.log"
    with running(command, cores=cores.load, log=log) as process:
        wait_for_port(port, process, log=log, limit_s=5)
        yield Mock(port=port, process=process, certificate=certificate[0] if certificate else None)


def run_client(
    programs: Programs,
    cores: Cores,
    folder: Path,
    *,
    port: int,
    protocol: Protocol,
    load: Load,
    on_phase: Callable[[int], None] = lambda phase: None,
    on_tick: Callable[[Live], None] = lambda live: None,
    path: str | None = None,
    token: str | None = None,
) -> LoadResult:
    """Run the load client to its end.

    Args:
        on_phase: Called once when the window opens and once when it closes (DRAIN).
        on_tick: Called about five times a second.
        path: Where to post, if not where the protocol is at home.
        token: The bearer token; without, one that no server looks at.

    Raises:
        BenchError: The client did not run, or did not end within its limits.
    """
    live_path = folder / f"live-{uuid.uuid4().hex}"
    live_path.write_bytes(bytes(64))
    command = [str(programs.load_client), "--port", str(port), "--protocol", protocol]
    command += ["--streams", str(load.streams), "--tokens", str(load.tokens)]
    command += ["--ramp-s", str(load.ramp_s), "--settle-s", str(load.settle_s)]
    command += ["--window-s", str(load.window_s), "--drain-s", str(load.tokens / load.rate + 30)]
    command += ["--tag", uuid.uuid4().hex[:12], "--live", str(live_path)]
    if path:
        command += ["--path", path]
    if token:
        command += ["--token", token]
    if load.once:
        command.append("--once")
    if load.total:
        command += ["--total", str(load.total)]
    if load.conversation:
        command += ["--conversation", load.conversation]
    if load.message:
        command += ["--message", load.message]
    output = folder / f"{live_path.name}.json"
    with (
        live_path.open("rb") as file,
        mmap.mmap(file.fileno(), 64, prot=mmap.PROT_READ) as view,
        running(command, cores=cores.load, log=output) as process,
    ):
        phase, ticked = RAMP, 0.0
        while process.poll() is None:
            live = Live(*struct.unpack("8Q", view[:]))
            if live.phase != phase and live.phase in (WINDOW, DRAIN):
                phase = live.phase
                on_phase(phase)
            if time.monotonic() - ticked > 0.2:
                ticked = time.monotonic()
                on_tick(live)
            time.sleep(0.004)
    text = output.read_bytes()
    if process.returncode not in (0, 1):
        raise BenchError(f"the load client ended with {process.returncode}: {text.decode()}")
    return msgspec.json.decode(text, type=LoadResult)

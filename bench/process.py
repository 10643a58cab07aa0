"""Processes of the bench: started pinned to cores, measured as a tree, stopped by their pid."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.toolchain import BenchError

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores the server under test and the load (mock, client, this harness) may use."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """Give the last core to the server and every other one to the load."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise BenchError("the bench needs two cores: one for the server, one for its load")
        return cls(server=frozenset(cores[-1:]), load=frozenset(cores[:-1]))


class Tree:
    """A process and all its descendants, as /proc shows them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """Return the living pids of the tree, the root first."""
        found = [self.pid]
        for pid in found:
            found.extend(_children(pid))
        return found

    def cpu_s(self) -> float:
        """Return user + system seconds spent so far, exited threads and reaped children included.

        The running processes' share is read from their CPU clocks (nanoseconds), the reaped
        children's from /proc/<pid>/stat (10 ms ticks).
        """
        total = 0.0
        for pid in self.pids():
            try:
                # The kernel's number for "CPU clock of process pid": ~pid << 3 | CPUCLOCK_SCHED.
                total += time.clock_gettime((~pid << 3) | 2)
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (OSError, ProcessLookupError):
                continue
            total += (int(fields[13]) + int(fields[14])) / TICKS_PER_S
        return total

    def pss_kb(self) -> int:
        """Return the tree's proportional set size in kB."""
        total = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total

    def open_files(self) -> int:
        """Return how many file descriptors the tree holds."""
        total = 0
        for pid in self.pids():
            try:
                total += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
        return total


def busy_s(cores: frozenset[int]) -> float:
    """Return the seconds that `cores` have spent on programs of any kind, or lost to other guests.

    Interrupts are left out: they belong to no program.
    """
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, steal = (int(fields[at]) for at in (0, 1, 2, 7))
            total += user + nice + system + steal
    return total / TICKS_PER_S


@contextmanager
def running(
    command: Sequence[str],
    *,
    cores: frozenset[int],
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command pinned to `cores` while the context is open, then stop its whole tree.

    Its environment is `env`, or this process's; its output goes to `log`. It gets SIGTERM and
    10 s; then what is left of its tree is killed.
    """
    # An affinity is inherited, so every thread and child of the command has it from the start.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
    finally:
        os.sched_setaffinity(0, before)
    try:
        yield process
    finally:
        tree = Tree(process.pid).pids() if process.poll() is None else []
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in tree[1:]:
            _kill_if_alive(pid, session=process.pid)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], *, log: Path, limit_s: float) -> None:
    """Wait until 127.0.0.1:port accepts a connection.

    Raises:
        BenchError: The process ended or the limit passed; the message holds its last output.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"the server ended with status {process.returncode}:\n{_tail(log)}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"no socket on port {port} after {limit_s:.0f} s:\n{_tail(log)}")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found.extend(int(child) for child in text.split())
    except OSError:
        pass
    return found


def _kill_if_alive(pid: int, *, session: int) -> None:
    # The session is compared so that a pid taken over by another program is left alone.
    try:
        if os.getsid(pid) == session:
            os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass

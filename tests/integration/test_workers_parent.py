"""The parent of `legato serve --workers N`: what it starts anew, what it hands on, how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from legato.cli import workers
from legato.cli.workers import Address, Workers
from legato.core.errors import ConfigurationError
from tests.page_world import until
from tests.worker_process import DRAINED

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0


class Parent:
    """Workers of `tests.worker_process` below this process, and what they left in the folder."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.address = Address("127.0.0.1", 0)
        self.port = self.address.port
        command = [sys.executable, "-m", "tests.worker_process", str(folder)]
        self.counted = folder / "counted"
        self.counted.mkdir()
        self.ready = asyncio.Event()
        self.workers = Workers(count, command, self.address, self.counted)
        self.task = asyncio.create_task(self.workers.run(self.ready.set))

    def starts(self, number: int) -> list[tuple[int, float]]:
        """Return pid and time of each start of a worker."""
        path = self.folder / "starts"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(pid), float(at_s)) for own, pid, at_s in rows if int(own) == number]

    async def ask(self) -> tuple[int, int]:
        """Return number and pid of the worker that answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        number, pid = (await reader.read()).decode().split()
        writer.close()
        return int(number), int(pid)


@asynccontextmanager
async def parent(folder: Path, how: str, count: int = 2) -> AsyncIterator[Parent]:
    (folder / "how").write_text(how)
    own = Parent(folder, count)
    try:
        yield own
    finally:
        if not own.task.done():
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(own.task, WAIT_S)
        own.address.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the tests, and pauses are short."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.05)


async def test_all_workers_answer_at_one_address(tmp_path: Path) -> None:
    """Sockets are bound once, and each worker takes connections from them."""
    async with parent(tmp_path, "serve", 3) as own:
        await own.ready.wait()
        seen: set[tuple[int, int]] = set()
        async with asyncio.timeout(WAIT_S):
            while {number for number, _ in seen} != {1, 2, 3}:
                seen.add((await asyncio.gather(*(own.ask() for _ in range(10))))[-1])


async def test_an_address_that_others_listen_at_is_in_use(tmp_path: Path) -> None:
    """Also where those are workers, whose sockets may be bound beside each other."""
    async with parent(tmp_path, "serve") as own:
        await own.ready.wait()
        with pytest.raises(ConfigurationError, match=f"port {own.port} is in use"):
            Address("127.0.0.1", own.port)


async def test_connections_are_shared_out(tmp_path: Path) -> None:
    """No worker gets nearly all, and none nearly nothing."""
    async with parent(tmp_path, "serve") as own:
        await until(lambda: len(own.starts(2)) == 1)
        async with asyncio.timeout(WAIT_S):
            while (await own.ask())[0] != 2:
                pass
        numbers = [(await own.ask())[0] for _ in range(200)]
        assert 50 <= numbers.count(1) <= 150


async def test_a_worker_that_is_killed_is_started_anew(tmp_path: Path) -> None:
    """Another takes its number, the others are left alone, and what it held is no longer told."""
    async with parent(tmp_path, "serve") as own:
        await until(lambda: len(own.starts(2)) == 1)
        held = own.counted / "gauge_livesum_2.db"
        held.touch()
        os.kill(own.starts(2)[0][0], signal.SIGKILL)
        await until(lambda: len(own.starts(2)) == 2)
        assert len(own.starts(1)) == 1
        assert not held.exists()


@pytest.mark.slow
async def test_the_pause_before_a_start_grows_while_none_stays(tmp_path: Path) -> None:
    """Doubled each time: a worker that cannot live does not keep the machine busy."""
    async with parent(tmp_path, "serve") as own:
        await until(lambda: len(own.starts(2)) == 1)
        # Only when it serves it has read how.
        async with asyncio.timeout(WAIT_S):
            while (await own.ask())[0] != 2:
                pass
        (tmp_path / "how").write_text("fall 3")
        with capture_logs() as said:
            os.kill(own.starts(2)[0][0], signal.SIGKILL)
            await until(lambda: len(own.starts(2)) == 5)
        assert [line["pause_s"] for line in said if "pause_s" in line][:4] == [0.05, 0.1, 0.2, 0.4]


@pytest.mark.parametrize(("how", "code"), [("end 78", 78), ("end 1", 1), ("end 0", 0)])
async def test_a_first_worker_that_cannot_start_ends_it_all(tmp_path: Path, how: str, code: int) -> None:
    """One process would end with the same; the others are never started, and nobody is told of an address."""
    async with parent(tmp_path, how) as own:
        assert await asyncio.wait_for(own.task, WAIT_S) == code
        assert not own.ready.is_set()
        assert own.starts(2) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, DRAINED), (signal.SIGINT, 0), (signal.SIGHUP, DRAINED)])
async def test_a_signal_is_handed_on_and_ends_are_waited_for(tmp_path: Path, number: int, code: int) -> None:
    """Each drains; the exit code is the first that is not 0; a terminal that closes is an end as any other."""
    async with parent(tmp_path, "serve") as own:
        await until(lambda: len(own.starts(2)) == 1)
        async with asyncio.timeout(WAIT_S):
            while (await own.ask())[0] != 2:
                pass
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(own.task, WAIT_S) == code
        assert all((tmp_path / f"drained-{each}").exists() for each in (1, 2))


async def test_a_worker_that_is_stuck_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose event loop stands still is no server; the one after it is."""
    monkeypatch.setattr(workers, "BEAT_S", 0.05)
    monkeypatch.setattr(workers, "DEAF_BEATS", 8)
    async with parent(tmp_path, "hang", 1) as own:
        await until((tmp_path / "hung").exists)
        (tmp_path / "how").write_text("end 0")
        await until(lambda: len(own.starts(1)) >= 2)


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the parent leaves no process behind that holds the port: workers drain and end."""
    (tmp_path / "how").write_text("serve")
    program = (
        "import asyncio, sys; from pathlib import Path; from tests.integration.test_workers_parent import Parent\n"
        "async def main(): own = Parent(Path(sys.argv[1]), 2); print(own.port, flush=True); await own.task\n"
        "asyncio.run(main())"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        # The first has started before the second does, and serves before it.
        wait_for(lambda: (tmp_path / "starts").exists() and "\n2 " in (tmp_path / "starts").read_text())
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    wait_for(lambda: not serving(port))
    # A worker that has not served yet holds it a moment longer.
    wait_for(lambda: free(port))


def serving(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free(port: int) -> bool:
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_for(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.05)

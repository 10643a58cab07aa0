"""Writers that update one key of state, in a process of their own: `python -m bench.state_writers …`.

Arguments: database file, number of writers, seconds, durability. Prints one line of JSON when the seconds are over.
"""

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from legato.core.clock import SystemClock
from legato.core.operations import increment
from legato.storage.committer import Committer
from legato.storage.database import Database, Durability
from legato.storage.state import State

WARM_UP_S = 0.5
PLACE = ("bench", "counters")


class Report(msgspec.Struct, kw_only=True):
    """What the writers saw."""

    acknowledged: int
    """Updates since the beginning, warm-up included."""
    updates: int
    """Updates that ended within the window."""
    window_s: float
    cpu_s: float
    """Of the whole process within the window."""
    p50_ms: float
    p99_ms: float


async def write(path: Path, writers: int, window_s: float, durability: Durability) -> Report:
    """Let the writers count as fast as they can, each its next update when the one before is acknowledged."""
    database = Database(path, durability=durability)
    database.lock()
    committer = Committer(database)
    state = State(database, committer, SystemClock(), "local")
    opens = time.monotonic() + WARM_UP_S
    closes = opens + window_s
    waits_s: list[float] = []
    acknowledged = 0

    async def count() -> None:
        nonlocal acknowledged
        while (begun := time.monotonic()) < closes:
            await state.update(*PLACE, increment("totalMessages"))
            acknowledged += 1
            if begun >= opens:
                waits_s.append(time.monotonic() - begun)

    async def cpu() -> float:
        await asyncio.sleep(opens - time.monotonic())
        before = time.process_time()
        await asyncio.sleep(closes - time.monotonic())
        return time.process_time() - before

    measuring = asyncio.ensure_future(cpu())
    await asyncio.gather(*(count() for _ in range(writers)))
    cpu_s = await measuring
    await committer.close()
    database.close()
    waits_s.sort()
    return Report(
        acknowledged=acknowledged,
        updates=len(waits_s),
        window_s=window_s,
        cpu_s=cpu_s,
        p50_ms=waits_s[len(waits_s) // 2] * 1e3,
        p99_ms=waits_s[len(waits_s) * 99 // 100] * 1e3,
    )


def main(path: str, writers: str, window_s: str, durability: Durability) -> None:
    """Write and report."""
    report = asyncio.run(write(Path(path), int(writers), float(window_s), durability))
    print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]

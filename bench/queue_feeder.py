"""A queue that is fed and timed, in a process of its own: `python -m bench.queue_feeder …`.

Arguments: file, jobs a second (0: none, for the idle cost), seconds, durability. Prints one line of JSON at the end.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path
from statistics import quantiles

import msgspec
import uvloop

from legato.steps.engine import Engine
from legato.steps.jobs import JobEvent, QueueStep
from legato.storage.database import Durability

WARM_UP_S = 2.0
TICK_S = 0.05
"""Events that come within this are handed over as one batch."""
END_S = 0.5
"""Time for the last ones."""
PROBE_S = 0.002
STEPS = [QueueStep(name=f"step{number}", topics=[f"topic{number}"]) for number in range(3)]
"""As many queues as a server with its own analytics and a bot has."""


class Report(msgspec.Struct, kw_only=True):
    """What was seen within the window."""

    jobs: int
    window_s: float
    cpu_s: float
    """Of the whole process; where jobs are fed, beyond what it takes without them."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    """From handing an event over to the end of its handler."""
    lag_p99_ms: float = 0.0
    lag_max_ms: float = 0.0
    """How much later than asked for a sleeping task was woken on the event loop."""


async def measure(path: Path, rate: float, window_s: float, durability: Durability) -> Report:
    """Feed a queue for a while and time it."""
    handed_s: dict[str, float] = {}
    took_s: list[float] = []

    async def handle(step: str, events: list[JobEvent], attempt: int) -> None:
        now_s = time.perf_counter()
        took_s.extend(now_s - handed_s.pop(event.id) for event in events)

    engine = Engine(path, durability=durability)
    await engine.start(STEPS, handle)
    # As the server does it when it has started.
    gc.collect()
    gc.freeze()
    if rate:
        await _feed(engine, rate, WARM_UP_S, handed_s, "warm")
    await asyncio.sleep(WARM_UP_S)
    took_s.clear()
    lags: list[float] = []
    probe = asyncio.create_task(_probe(lags)) if rate else None
    share = await _cpu_share(WARM_UP_S) if rate else 0.0
    lags.clear()
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    if rate:
        await _feed(engine, rate, window_s, handed_s, "job")
        await asyncio.sleep(END_S)
    else:
        await asyncio.sleep(window_s)
    cpu_s, window_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
    if probe is not None:
        probe.cancel()
    await engine.close()
    report = Report(jobs=len(took_s), window_s=window_s, cpu_s=cpu_s - share * window_s)
    if rate:
        report.p50_ms, report.p99_ms = (_quantile(took_s, share) * 1e3 for share in (50, 99))
        report.lag_p99_ms, report.lag_max_ms = _quantile(lags, 99) * 1e3, max(lags) * 1e3
    return report


async def _feed(engine: Engine, rate: float, seconds: float, handed_s: dict[str, float], prefix: str) -> None:
    begun_s = time.perf_counter()
    count = 0
    while (passed_s := time.perf_counter() - begun_s) < seconds:
        due = int(passed_s * rate) + 1
        events = [
            JobEvent(id=f"{prefix}-{n}", topic=f"topic{n % len(STEPS)}", owner="ann", payload={"number": n})
            for n in range(count, due)
        ]
        count = due
        if events:
            handed_s |= dict.fromkeys([event.id for event in events], time.perf_counter())
            await engine.hand_over(f"{prefix}-{count}", events)
        await asyncio.sleep(TICK_S)


async def _cpu_share(seconds: float) -> float:
    cpu_s = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu_s) / seconds


async def _probe(lags: list[float]) -> None:
    while True:
        before_s = time.perf_counter()
        await asyncio.sleep(PROBE_S)
        lags.append(time.perf_counter() - before_s - PROBE_S)


def _quantile(values: list[float], share: int) -> float:
    return quantiles(values, n=100, method="inclusive")[share - 1] if len(values) > 1 else values[0]


if __name__ == "__main__":
    file, jobs_per_s, seconds, kept = sys.argv[1:]
    assert kept in ("power", "process")
    found = uvloop.run(measure(Path(file), float(jobs_per_s), float(seconds), kept))  # type: ignore[arg-type]
    print(msgspec.json.encode(found).decode())

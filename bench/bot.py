"""The bot of the scenarios `queue` and `state`: its http steps make the load, inside the server, and time it."""

from __future__ import annotations

import asyncio
import time
from statistics import quantiles

from pydantic import BaseModel

from bench.steps import (
    END_S,
    QUEUE_PATH,
    STATE_GROUP,
    STATE_PATH,
    QueueLoad,
    QueueReport,
    StateLoad,
    StateReport,
)
from legato import Context, Legato, increment

PROBE_S = 0.002

app = Legato()
done_s: asyncio.Queue[float] = asyncio.Queue()
"""What each job took."""


class Job(BaseModel):
    """When it was enqueued, by this process's clock; None: it is there to warm up."""

    begun_s: float | None


@app.queue("bench.job")
async def do(job: Job) -> None:
    """Notes how long a job took to get here."""
    if job.begun_s is not None:
        done_s.put_nowait(time.perf_counter() - job.begun_s)


@app.http("POST", QUEUE_PATH, enqueues=["bench.job"])
async def feed(load: QueueLoad, ctx: Context) -> QueueReport:
    """Enqueues jobs, one by one and evenly."""
    await enqueue(ctx, load.rate, load.settle_s, measured=False)
    await asyncio.sleep(load.settle_s)
    lags_s: list[float] = []
    probe = asyncio.create_task(watch_loop(lags_s))
    # The probe's own share, and that of an idle server.
    idle_s = time.process_time()
    await asyncio.sleep(load.settle_s)
    idle_share = (time.process_time() - idle_s) / load.settle_s
    lags_s.clear()
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    jobs = await enqueue(ctx, load.rate, load.window_s, measured=True)
    async with asyncio.timeout(END_S):
        took_s = [await done_s.get() for _ in range(jobs)]
    cpu_s, window_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
    probe.cancel()
    return QueueReport(
        jobs=len(took_s),
        window_s=window_s,
        cpu_s=cpu_s - idle_share * window_s,
        p50_ms=percentile(took_s, 50) * 1e3,
        p99_ms=percentile(took_s, 99) * 1e3,
        lag_p99_ms=percentile(lags_s, 99) * 1e3,
        lag_max_ms=max(lags_s) * 1e3,
    )


async def enqueue(ctx: Context, rate: float, seconds: float, *, measured: bool) -> int:
    """Enqueue for so long, at times that do not wait for one another; return how many jobs."""
    begun_s, jobs = time.perf_counter(), max(1, round(rate * seconds))
    async with asyncio.TaskGroup() as tasks:
        for number in range(jobs):
            await asyncio.sleep(begun_s + number / rate - time.perf_counter())
            job = Job(begun_s=time.perf_counter() if measured else None)
            tasks.create_task(ctx.enqueue("bench.job", job))
    return jobs


async def watch_loop(lags_s: list[float]) -> None:
    """Sleep and wake, and note how late."""
    while True:
        before_s = time.perf_counter()
        await asyncio.sleep(PROBE_S)
        lags_s.append(time.perf_counter() - before_s - PROBE_S)


@app.http("POST", STATE_PATH)
async def count(load: StateLoad, ctx: Context) -> StateReport:
    """Counts under one key, as fast as it goes."""
    opens_s = time.perf_counter() + load.settle_s
    closes_s = opens_s + load.window_s
    waits_s: list[float] = []
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        while (begun_s := time.perf_counter()) < closes_s:
            await ctx.state.update(STATE_GROUP, load.key, increment("totalMessages"))
            acknowledged += 1
            if begun_s >= opens_s:
                waits_s.append(time.perf_counter() - begun_s)

    async def cpu() -> float:
        await asyncio.sleep(opens_s - time.perf_counter())
        before_s = time.process_time()
        await asyncio.sleep(closes_s - time.perf_counter())
        return time.process_time() - before_s

    cpu_s, *_ = await asyncio.gather(cpu(), *(write() for _ in range(load.writers)))
    return StateReport(
        acknowledged=acknowledged,
        updates=len(waits_s),
        cpu_s=cpu_s,
        p50_ms=percentile(waits_s, 50) * 1e3,
        p99_ms=percentile(waits_s, 99) * 1e3,
    )


def percentile(values: list[float], share: int) -> float:
    """Return it, interpolated; 0 of nothing."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return quantiles(values, n=100, method="inclusive")[share - 1]

"""One of several processes on one queue file, with ticks every second: `python -m tests.faults.queue_child FOLDER`.

It says `open` when it takes jobs, appends the id of each tick that it runs to ticks.log, and works until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvloop

from legato.steps.engine import Engine
from legato.steps.jobs import CronStep, CronTick, CronTrigger, JobEvent

EVERY_SECOND = CronStep(name="clean", triggers=[CronTrigger("* * * * * *")])


async def keep_time(folder: Path) -> None:
    """Run ticks beside other processes."""
    ticks = os.open(folder / "ticks.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def handle(step: str, events: list[JobEvent], attempt: int) -> None:
        raise AssertionError(step)

    async def tick(step: str, tick: CronTick, attempt: int) -> None:
        os.write(ticks, f"{tick.id}\n".encode())

    engine = Engine(folder / "queue.db", durability="process", poll_s=0.2, alone=False)
    await engine.start([EVERY_SECOND], handle, tick)
    print("open", flush=True)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    uvloop.run(keep_time(Path(sys.argv[1])))

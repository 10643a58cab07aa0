"""One of several processes on one queue: `python -m tests.faults.queue_child ADDRESS FOLDER`.

It says `open` and its executor's id when it takes jobs, and works until it is killed. It appends the id of each tick
that it runs to ticks.log, and that of each event to events.log, each with a space and its pid. As long as there is a
file `hold`, no job that it has noted ends from the FREE-th on: it stands still with CONCURRENCY of them. Orders come on
its input: `give N` hands over so many events, `up ID` takes up what a dead process had taken; each is answered by
`done`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from legato.steps.engine import Engine
from legato.steps.jobs import CronStep, CronTick, CronTrigger, JobEvent, QueueStep
from legato.steps.queue_address import QueueAddress
from tests.queue_world import events

EVERY_S = 2
CLEAN = CronStep(name="clean", triggers=[CronTrigger(f"*/{EVERY_S} * * * * *")])
CONCURRENCY = 4
WORK = QueueStep(name="work", topics=["lead"], concurrency=CONCURRENCY)
FREE = 97


async def keep_time(address: QueueAddress, folder: Path) -> None:
    """Run ticks and jobs beside other processes."""
    files = {name: os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) for name in _LOGS}

    def note(name: str, ids: Sequence[str]) -> None:
        os.write(files[name], "".join(f"{each} {os.getpid()}\n" for each in ids).encode())

    noted = 0

    async def handle(step: str, batch: list[JobEvent], attempt: int) -> None:
        nonlocal noted
        await asyncio.sleep(0.01)
        note("events.log", [event.id for event in batch])
        noted += len(batch)
        while noted >= FREE and os.path.exists(folder / "hold"):  # noqa: ASYNC110, ASYNC240 - it is another process's
            await asyncio.sleep(0.01)

    async def tick(step: str, tick: CronTick, attempt: int) -> None:
        note("ticks.log", [tick.id])

    engine = Engine(address, durability="process", poll_s=0.2, alone=False)
    await engine.start([CLEAN, WORK], handle, tick)
    print("open", engine.executor_id, flush=True)
    while order := (await asyncio.to_thread(sys.stdin.readline)).split():
        match order:
            case ["give", count]:
                await engine.hand_over("batch", events(int(count)))
            case ["up", executor]:
                await engine.take_up([executor])
        print("done", flush=True)
    await asyncio.sleep(3600)


_LOGS = ("ticks.log", "events.log")


if __name__ == "__main__":
    given = sys.argv[1]
    uvloop.run(keep_time(given if "://" in given else Path(given), Path(sys.argv[2])))

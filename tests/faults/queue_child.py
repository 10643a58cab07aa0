"""A process with an outbox, a relay and a queue, made to be killed: `python -m tests.faults.queue_child FOLDER`.

The parent adds rows to the outbox; what is there counts as accepted. Handlers append one line an event to effects.log.
Each stage is told on standard output, so that the parent can choose when to kill. With --cron it is one of several
processes on one file, whose ticks are due every second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import uvloop

from legato.steps import attempts
from legato.steps.engine import Engine
from legato.steps.jobs import CronStep, CronTick, CronTrigger, JobEvent, QueueStep

STEPS = (
    QueueStep(name="plain", topics=["plain"], attempts=60, backoff_s=0.01, most_backoff_s=0.05),
    QueueStep(
        name="ordered",
        topics=["ordered"],
        key=lambda event: event.owner,
        attempts=60,
        backoff_s=0.01,
        most_backoff_s=0.05,
    ),
    QueueStep(name="batched", topics=["batched"], batch=8, attempts=60, backoff_s=0.01, most_backoff_s=0.05),
)
EVERY_SECOND = CronStep(name="clean", triggers=[CronTrigger("* * * * * *")])
SCHEMA = "CREATE TABLE outbox (id INTEGER PRIMARY KEY, event_id TEXT, topic TEXT, owner TEXT, payload TEXT)"
RELAY_S = 0.05


def say(word: str) -> None:
    """Tell the parent where this process is."""
    os.write(sys.stdout.fileno(), f"{word}\n".encode())


class Child:
    """One life."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.effects = os.open(folder / "effects.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.outbox = sqlite3.connect(folder / "outbox.db", isolation_level=None)
        self.engine = Engine(folder / "queue.db", durability="process", poll_s=0.2, keep_s=0.5)

    async def handle(self, step: str, events: list[JobEvent], attempt: int) -> None:
        say("begun")
        number = int(events[0].payload.get("n", 0))
        if events[0].payload.get("poison"):
            await asyncio.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt == 1 and number % 7 == 0:
            raise ConnectionError
        await asyncio.sleep(0.3 if events[0].payload.get("slow") else number % 5 / 1000)
        lines = "".join(f"{step} {event.id} {attempt}\n" for event in events)
        os.write(self.effects, lines.encode())
        say("ended")

    async def relay(self) -> bool:
        """Hand over what is in the outbox, then delete it; False if there was nothing."""
        rows = self.outbox.execute(
            "SELECT id, event_id, topic, owner, payload FROM outbox ORDER BY id LIMIT 200"
        ).fetchall()
        if not rows:
            return False
        events = [
            JobEvent(id=event_id, topic=topic, owner=owner, payload=json.loads(payload))
            for _, event_id, topic, owner, payload in rows
        ]
        await self.engine.hand_over(f"b{rows[-1][0]}", events)
        say("handed")
        self.outbox.execute("DELETE FROM outbox WHERE id <= ?", (rows[-1][0],))
        return True

    async def live(self, *, drain: bool) -> None:
        """Work until killed, or until everything is done."""
        await self.engine.start(STEPS, self.handle)
        say("open")
        while True:
            if not await self.relay():
                counts = await self.engine.counts()
                if drain and not any(count.waiting or count.taken for count in counts.values()):
                    break
                await self.engine.care()
            await asyncio.sleep(RELAY_S)
        letters: list[dict[str, Any]] = [
            {"id": letter.id, "error_type": letter.error_type, "attempts": letter.attempts}
            for letter in await self.engine.dead_letters(limit=1000)
        ]
        await self.engine.close()
        say(json.dumps(letters))

    async def tick(self, step: str, tick: CronTick, attempt: int) -> None:
        os.write(self.effects, f"{tick.id}\n".encode())

    async def keep_time(self) -> None:
        """Run a cron step beside other processes, until killed."""
        self.engine = Engine(self.folder / "queue.db", durability="process", poll_s=0.2, alone=False)
        await self.engine.start([EVERY_SECOND], self.handle, self.tick)
        say("open")
        await asyncio.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--cron", action="store_true")
    parser.add_argument("--most-cuts", type=int, default=attempts.MOST_CUTS)
    parser.add_argument("--cut-pause-s", type=float, default=attempts.CUT_PAUSE_S)
    arguments = parser.parse_args()
    attempts.MOST_CUTS = arguments.most_cuts  # type: ignore[misc]
    attempts.CUT_PAUSE_S = arguments.cut_pause_s  # type: ignore[misc]
    child = Child(arguments.folder)
    uvloop.run(child.keep_time() if arguments.cron else child.live(drain=arguments.drain))


if __name__ == "__main__":
    main()

"""kill -9 under the queue, at every stage of a job: what was accepted is done, in order, and how often is counted."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.oracle import Tally
from tests.faults.queue_child import SCHEMA, STEPS
from tests.faults.scenario import Context

OWNERS = 7
STAGE_S = 20.0
"""A stage that is not reached within this is a fault of its own."""
TOPICS = tuple(step.topics[0] for step in STEPS)


@dataclass(slots=True, kw_only=True)
class QueueKills:
    """What many lives of a queue came to.

    Attributes:
        accepted: Events that were in the outbox.
        effects: Events that had an effect, each counted once.
        missing: Accepted events without one.
        repeats: Effects beyond the first of their event.
        disordered: Events of a key whose first effect came before that of an earlier one.
        dead: Dead letters.
    """

    kills: int
    accepted: int
    effects: int
    missing: int
    repeats: int
    disordered: int
    dead: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills during {self.accepted:,} jobs: {self.missing} missing, {self.repeats} repeats, "
            f"{self.effects:,} effects by event id, {self.disordered} out of order, {self.dead} dead letters"
        )


class Life:
    """One process of tests.faults.queue_child."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with (folder / "child.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.queue_child", str(folder), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.said: Counter[str] = Counter()
        self.last = ""
        self._change = threading.Condition()
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._change:
                self.last = line.decode().strip()
                self.said[self.last] += 1
                self._change.notify_all()
        with self._change:
            self.said["end"] += 1
            self._change.notify_all()

    def saw(self, stage: str, times: int) -> bool:
        """Wait until the process has told a stage so often; False if it ended or took too long."""
        with self._change:
            self._change.wait_for(lambda: self.said[stage] >= times or self.said["end"] > 0, STAGE_S)
            return self.said[stage] >= times

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> str:
        """Wait for its end; return what it said last."""
        self.process.wait(timeout=120)
        self._ear.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.last


def accept(folder: Path, first: int, count: int, **payload: Any) -> None:
    """Put events `first` and those after it into the outbox."""
    with sqlite3.connect(folder / "outbox.db", isolation_level=None) as outbox:
        outbox.execute("BEGIN IMMEDIATE")
        for n in range(first, first + count):
            topic = TOPICS[n % len(TOPICS)]
            row = (f"e{n:05d}", topic, f"owner-{n // len(TOPICS) % OWNERS}", json.dumps({"n": n} | payload))
            outbox.execute("INSERT INTO outbox (event_id, topic, owner, payload) VALUES (?, ?, ?, ?)", row)
        outbox.execute("COMMIT")
    outbox.close()


def make_folder(folder: Path) -> None:
    """Make a folder with an empty outbox."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "outbox.db") as outbox:
        outbox.execute("PRAGMA journal_mode=WAL")
        outbox.execute(SCHEMA)
    outbox.close()


def kill_queue(folder: Path, *, jobs: int, kills: int, seed: int) -> QueueKills:
    """Accept `jobs` events while a queue is killed `kills` times, let the rest be done, and count.

    Raises:
        AssertionError: A life did not reach the stage at which it was to be killed.
    """
    draw = random.Random(f"{seed}/queue")
    make_folder(folder)
    accepted = 0
    for life in range(kills):
        share = jobs * (life + 1) // kills - accepted
        accept(folder, accepted, share)
        accepted += share
        child = Life(folder)
        stage = draw.choice(("spawn", "open", "handed", "begun", "begun", "ended", "ended"))
        if stage == "spawn":
            time.sleep(draw.uniform(0.2, 0.7))
        else:
            times = draw.randint(1, max(1, share // 3)) if stage in ("begun", "ended") else 1
            assert child.saw(stage, times), f"life {life} (seed {seed}) never came to {stage} {times}"
            time.sleep(draw.uniform(0.0, 0.02))
        child.kill()
    last = Life(folder, "--drain")
    letters = json.loads(last.end())
    return _count(folder, accepted, kills, len(letters))


def _count(folder: Path, accepted: int, kills: int, dead: int) -> QueueKills:
    effects: Counter[str] = Counter()
    first: dict[str, list[int]] = {}
    for line in (folder / "effects.log").read_text().splitlines():
        step, event_id, _ = line.split(" ")
        effects[event_id] += 1
        if step == "ordered" and effects[event_id] == 1:
            n = int(event_id[1:])
            first.setdefault(f"owner-{n // len(TOPICS) % OWNERS}", []).append(n)
    wanted = {f"e{n:05d}" for n in range(accepted)}
    assert not set(effects) - wanted, "an effect of an event that was never accepted"
    return QueueKills(
        kills=kills,
        accepted=accepted,
        effects=len(effects),
        missing=len(wanted - set(effects)),
        repeats=effects.total() - len(effects),
        disordered=sum(n < before for numbers in first.values() for before, n in pairwise(numbers)),
        dead=dead,
    )


FULL = (1000, 200)
QUICK = (60, 6)
"""Jobs and kills."""


def trials(context: Context) -> list[str]:
    """Return the one trial that there is."""
    return ["queue"]


def kill_under_jobs(context: Context, names: list[str]) -> None:
    """Kill a queue many times during many jobs."""

    def trial() -> Tally:
        tally = Tally()
        jobs, kills = QUICK if context.quick else FULL
        found = kill_queue(context.new_folder(), jobs=jobs, kills=kills, seed=context.seed)
        tally.counts["kills"] += found.kills
        tally.figures["jobs under kills"] = str(found)
        for kind, times in (("lost", found.missing + found.dead), ("reordered", found.disordered)):
            if times:
                tally.violate(kind, str(found), times)
        return tally

    context.attempt("queue", trial)

"""A queue engine in this process whose handlers do what a test tells them, and remember what they were given."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from legato.core.clock import Clock
from legato.steps.engine import Engine, Step
from legato.steps.jobs import CronTick, JobEvent, Work
from legato.steps.queue_address import QueueAddress
from tests.postgres import Postgres

WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt that a handler was asked for."""

    step: str
    ids: tuple[str, ...]
    attempt: int
    at_s: float


Behaviour = Callable[[str, Sequence[JobEvent], int], Awaitable[None]]


def event(id: str, topic: str = "lead", *, owner: str = "ann", payload: Any = None) -> JobEvent:
    """Return an event."""
    return JobEvent(id=id, topic=topic, owner=owner, payload=payload or {"n": id}, trace_id=f"t-{id}", at_ms=1000)


def events(count: int, topic: str = "lead", *, prefix: str = "e") -> list[JobEvent]:
    """Return events `e0`, `e1`, …"""
    return [event(f"{prefix}{n}", topic) for n in range(count)]


def make_queue_database(postgres: Postgres) -> str:
    """Make a database with an empty queue in it, and return its address."""

    def fill(url: str) -> None:
        from legato.steps.engine_runtime import Runtime

        async def run(job_id: str, work: Work) -> None:
            raise AssertionError(job_id)

        Runtime(url, flush=False, alone=False, executor_id="fill", run=run, left={}, poll_s=60.0, keep_s=60.0).close(
            0.0
        )

    postgres.make_template("queue", fill)
    return postgres.make_database("queue")


class QueueWorld:
    """One queue, and the engines that are opened on it one after another, as a server opens them."""

    def __init__(self, address: QueueAddress) -> None:
        self.address = address
        self.calls: list[Call] = []
        self.ended: list[str] = []
        self.ticks: list[tuple[str, CronTick, int]] = []
        self.running: Counter[str] = Counter()
        self.most_running: Counter[str] = Counter()
        self.behaviour: Behaviour | None = None
        self.engine: Engine

    @property
    def path(self) -> Path:
        """The queue's file."""
        assert isinstance(self.address, Path)
        return self.address

    def rows(self, columns: str, tables: str) -> list[tuple[Any, ...]]:
        """Return columns of rows of DBOS's tables, of which one is named first, and what else a SELECT has."""
        return self.order(f"SELECT {columns} FROM {self._schema}{tables}")

    def order(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on DBOS's tables, in which `{}` stands before each table's name; return its rows."""
        from legato.steps.engine_database import connect

        engine = connect(self.address, flush=False)
        try:
            with engine.begin() as connection:
                done = connection.execute(sa.text(statement.format(self._schema)))
                return [tuple(row) for row in done] if done.returns_rows else []
        finally:
            engine.dispose()

    @property
    def _schema(self) -> str:
        return "" if isinstance(self.address, Path) else "dbos."

    async def open(self, *steps: Step, clock: Clock | None = None, **options: Any) -> Engine:
        """Open an engine; the one before it must be closed."""
        alone = isinstance(self.address, Path)
        values: dict[str, Any] = {"durability": "process", "poll_s": 0.5, "alone": alone}
        self.engine = Engine(self.address, clock=clock, **(values | options))
        await self.engine.start(steps, self._handle, self._tick)
        return self.engine

    async def again(self, *steps: Step, clock: Clock | None = None, **options: Any) -> Engine:
        """Close, and open anew."""
        await self.engine.close()
        return await self.open(*steps, clock=clock, **options)

    async def _handle(self, step: str, batch: list[JobEvent], attempt: int) -> None:
        ids = tuple(each.id for each in batch)
        self.calls.append(Call(step=step, ids=ids, attempt=attempt, at_s=time.monotonic()))
        self.running[step] += 1
        self.most_running[step] = max(self.most_running[step], self.running[step])
        try:
            if self.behaviour is not None:
                await self.behaviour(step, batch, attempt)
        finally:
            self.running[step] -= 1
        self.ended += ids

    async def _tick(self, step: str, tick: CronTick, attempt: int) -> None:
        self.ticks.append((step, tick, attempt))
        if self.behaviour is not None:
            await self.behaviour(step, (), attempt)

    def ids(self, step: str | None = None) -> list[str]:
        """Return the ids of all events that were given to a step, in their order."""
        return [id for call in self.calls if step in (None, call.step) for id in call.ids]

    async def until(self, condition: Callable[[], bool], what: str = "the jobs to be done") -> None:
        """Wait for something to come true."""
        until_s = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < until_s, f"waited {WITHIN_S:.0f} s for {what}; calls: {self.calls[-5:]}"
            await asyncio.sleep(0.005)

    async def idle(self) -> None:
        """Wait until no job waits or runs."""
        until_s = time.monotonic() + WITHIN_S
        while any(count.waiting or count.taken for count in (await self.engine.counts()).values()):
            assert time.monotonic() < until_s, f"still not idle: {await self.engine.counts()}"
            await asyncio.sleep(0.01)

    async def dead(self, count: int = 1) -> None:
        """Wait until there are so many dead letters."""
        until_s = time.monotonic() + WITHIN_S
        while len(await self.engine.dead_letters()) != count:
            assert time.monotonic() < until_s, f"dead letters: {await self.engine.dead_letters()}"
            await asyncio.sleep(0.01)

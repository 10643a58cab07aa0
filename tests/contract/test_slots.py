"""Slots: all nodes together make no more replies than the maximum, and as many where they want to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import pytest

from legato.storage.nodes import NodeRow, leave_node, register
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_aside import Aside
from legato.storage.slots import BLOCK, PLENTY, hold_slots
from tests.postgres import Postgres


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> PostgresDatabase:
    made = PostgresDatabase(postgres.make_database())
    made.migrate()
    return made


@dataclass(slots=True)
class Holder:
    """A node, by its row and a connection of its own."""

    connection: Aside
    key: int
    used: int = 0
    held: int = 0

    async def hold(self, wanted: int, maximum: int) -> int:
        ask = partial(hold_slots, node_key=self.key, used=self.used, wanted=wanted, maximum=maximum)
        held = await self.connection.run(ask)
        assert held is not None
        self.held = held
        return held


@pytest.fixture
async def holders(database: PostgresDatabase) -> AsyncIterator[list[Holder]]:
    """Four nodes."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(4):
            connection = Aside(database, statement_s=5)
            stack.callback(connection.close)
            row = NodeRow(id=uuid4().hex, host="h", pid=1, executor_id=f"e-{number}", lease_ms=60_000, version="1")
            key = await connection.run(partial(register, row=row))
            assert key is not None
            made.append(Holder(connection, key))
        yield made
        for holder in made:
            await holder.connection.run(partial(leave_node, key=holder.key))
    await asyncio.to_thread(database.close)


@pytest.mark.parametrize("maximum", [1, 10, 100, 700])
async def test_rivals_get_exactly_the_maximum(holders: list[Holder], maximum: int) -> None:
    """However they ask, and whatever they get beyond what they asked for."""

    async def fill(holder: Holder) -> None:
        for _ in range(maximum):
            if holder.used < holder.held or await holder.hold(holder.used + 1, maximum) > holder.used:
                holder.used += 1
                await asyncio.sleep(0)

    await asyncio.gather(*map(fill, holders))
    assert sum(holder.used for holder in holders) == maximum
    assert sum(holder.held for holder in holders) == maximum


@pytest.mark.parametrize("seed", range(5))
async def test_no_more_are_held_than_there_are(holders: list[Holder], seed: int) -> None:
    """Whatever is asked for and given back; what is made already is held in any case."""
    draw = random.Random(seed)
    maximum = draw.choice([5, 40, 300])
    for _ in range(120):
        holder = draw.choice(holders)
        others = sum(each.held for each in holders if each is not holder)
        holder.used = draw.randint(0, holder.held)
        adopted = draw.random() < 0.1
        if adopted:
            holder.used += draw.randint(0, maximum)
        wanted = holder.used + draw.choice([0, 0, 1, 3, maximum])
        held = await holder.hold(wanted, maximum)
        free = max(0, maximum - others)
        if wanted == holder.used:
            assert held == holder.used
        else:
            least = max(holder.used, min(wanted, free))
            assert held - least == (min(BLOCK, (free - least) // PLENTY) if free > least else 0)
        assert held + others <= maximum or held == holder.used


async def test_a_node_that_was_fenced_holds_nothing(holders: list[Holder]) -> None:
    """The others have what it held, without anybody giving it back."""
    first, second, *_ = holders
    assert await first.hold(10, 10) == 10
    assert await second.hold(1, 10) == 0
    await second.connection.run(partial(leave_node, key=first.key))
    assert await first.connection.run(partial(hold_slots, node_key=first.key, used=0, wanted=1, maximum=10)) is None
    assert await second.hold(10, 10) == 10


async def test_an_answer_that_was_lost_does_no_harm(holders: list[Holder]) -> None:
    """What is asked for a second time is had once."""
    first, second, *_ = holders
    for _ in range(3):
        assert await first.hold(4, 10) == 4
    assert await second.hold(10, 10) == 6

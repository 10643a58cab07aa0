"""A node inside this process for tests of its services: a clock that is set forward, and short ways to speak."""

from __future__ import annotations

import asyncio
from typing import Any

from legato.core.clock import SystemClock
from legato.core.principal import Principal
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from legato.runs.replies import Runs
from legato.storage.statement import Transaction
from tests.statements import execute, query

ANN = Principal(id="ann", role="member")
BEN = Principal(id="ben", role="member")


class LateClock(SystemClock):
    """The machine's clock, set forward."""

    def __init__(self) -> None:
        self.late_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.late_ms

    def pass_h(self, hours: float) -> None:
        self.late_ms += round(hours * 3_600_000)


class World:
    """A node, its clock, and the services of a principal."""

    def __init__(self, node: Node, clock: LateClock) -> None:
        self.node = node
        self.clock = clock

    def conversations(self, principal: Principal = ANN) -> Conversations:
        return Conversations(self.node, principal)

    def runs(self, principal: Principal = ANN) -> Runs:
        return Runs(self.node, principal)

    async def say(
        self, conversation_id: str, *, principal: Principal = ANN, script: str = "tokens=2", **more: Any
    ) -> str:
        """Post a message and wait for the reply; return the run's id."""
        reply = await self.runs(principal).reply(f"script: {script}", conversation_id=conversation_id, **more)
        assert reply.started is not None
        message = await self.conversations(principal).message(reply.started.message_id)
        assert message.run_id is not None
        return message.run_id

    async def names(self, principal: Principal = ANN) -> set[str]:
        """The ids of all conversations."""
        page = await self.conversations(principal).list(limit=1000)
        return {each.id for each in page.conversations}

    async def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a SELECT finds."""

        def read(tx: Transaction) -> list[tuple[Any, ...]]:
            return query(tx, sql, *parameters)

        return await self.node.database.read(read)

    async def execute(self, sql: str, *parameters: object) -> None:
        """Write as no part of the server does."""

        def write(tx: Transaction) -> None:
            execute(tx, sql, *parameters)

        await self.node.committer.write(write)

    async def until_begun(self, count: int) -> None:
        """Wait until so many runs wait or are being made, here or elsewhere."""
        async with asyncio.timeout(10):
            unfinished = "SELECT count(*) FROM run WHERE state IN ('queued', 'running')"
            while await self.rows(unfinished) != [(count,)]:  # noqa: ASYNC110 - a row has no event
                await asyncio.sleep(0.005)

    async def until_live(self, count: int) -> None:
        """Wait until so many runs are live."""
        async with asyncio.timeout(10):
            while len(self.node.live) != count:  # noqa: ASYNC110 - a run has no event for what it did to the node
                await asyncio.sleep(0.005)

"""Nodes of one PostgreSQL inside this process whose leases and clocks a test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import text
from starlette.types import ASGIApp

from legato.app import open_node
from legato.core.clock import SystemClock
from legato.core.errors import StorageUnavailable
from legato.core.event import TERMINAL, CallStarted, Event
from legato.core.principal import LOCAL
from legato.core.reply import fold_reply
from legato.http.api import create_api
from legato.runs.follow import find_tail
from legato.runs.lease import Lease
from legato.runs.node import Node
from legato.runs.replies import Runs
from legato.runs.tail import Tail
from legato.storage.nodes import renew
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_aside import Aside
from legato.storage.statement import Prepared, Transaction
from legato.wire.native import NativeRenderer
from tests.asgi import AsgiAnswer, call
from tests.conftest import node_settings
from tests.feed_world import Wire, until
from tests.postgres import Postgres

T = TypeVar("T")
LEASE_S = 1.0
_UNLOCK = Prepared(text("SELECT pg_advisory_unlock_all()"))


class ElapsedClock(SystemClock):
    """The machine's clock, whose time of the lease is set forward, as by a suspended machine."""

    def __init__(self) -> None:
        self.late_s = 0.0
        self._stands_at_s: float | None = None

    def stand(self) -> None:
        """From now on only `late_s` has the time of the lease pass, however slow the machine is."""
        self._stands_at_s = super().elapsed_s()

    def elapsed_s(self) -> float:
        return (super().elapsed_s() if self._stands_at_s is None else self._stands_at_s) + self.late_s


class Gate(Aside):
    """The connection of a lease, which can be held up on the way there and on the way back."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database, statement_s=LEASE_S / 2)
        # Not the one before, whose locks are gone.
        self.connections = 100
        self._open = asyncio.Event()
        self._open.set()
        self._under_way = 0
        self.on_renewed: Callable[[], None] = lambda: None
        """Called between the database's answer to a renewal and its arrival."""

    def shut(self) -> None:
        """Let nothing through to the database; what is on its way there arrives."""
        self._open.clear()

    async def shut_off(self) -> None:
        """Let nothing through, and wait for what is on its way: a late renewal would undo what a test writes."""
        self.shut()
        await until(lambda: not self._under_way)

    def open(self) -> None:
        self._open.set()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        await self._open.wait()
        self._under_way += 1
        try:
            answer = await super().run(work)
        finally:
            self._under_way -= 1
        if isinstance(work, partial) and work.func is renew:
            self.on_renewed()
        return answer


@dataclass(slots=True, kw_only=True)
class Mate:
    """A node whose lease does not have to be renewed."""

    node: Node
    api: ASGIApp
    clock: ElapsedClock
    gate: Gate

    @property
    def lease(self) -> Lease:
        assert self.node.lease is not None
        return self.node.lease

    @property
    def runs(self) -> Runs:
        return Runs(self.node, LOCAL)

    async def begin(self, conversation_id: str, script: str) -> str:
        """Post a message; return the run's id."""
        return (await self.runs.start(f"script: {script}", conversation_id=conversation_id)).run_id

    async def read(self, run_id: str, after: int = -1) -> Wire:
        """Read a run from a place on, as an open stream does."""
        wire = Wire()
        tail = await find_tail(self.node, LOCAL, run_id, after=after)
        wire.reader = self.node.readers.open(wire, tail, NativeRenderer, after=after)
        wire.reader.pull()
        return wire

    async def ask(self, method: str, path: str, body: object = None) -> AsgiAnswer:
        return await call(self.api, method, path, body)

    def is_making(self, run_id: str) -> bool:
        return run_id in self.node.live

    async def tail(self, run_id: str) -> Tail:
        """Return the log of a run, as this node shows it."""
        return await find_tail(self.node, LOCAL, run_id)

    async def ended(self, run_id: str) -> tuple[str, list[Event]]:
        """Wait for the end of a run; return its text and all its events."""
        last: list[Tail] = []

        async def closed() -> bool:
            try:
                last[:] = [await self.tail(run_id)]
            except StorageUnavailable:
                return False
            return last[0].closed

        async with asyncio.timeout(20):
            while not await closed():  # noqa: ASYNC110 - the log may be another node's
                await asyncio.sleep(0.02)
        return fold_reply(last[0].log).text, list(last[0].log.events)

    async def state(self, run_id: str) -> Any:
        return (await self.runs.get(run_id)).state


@asynccontextmanager
async def open_mates(postgres: Postgres, folder: Path, count: int = 2, **settings: Any) -> AsyncIterator[list[Mate]]:
    """Open nodes on a database of their own, which know of each other and have renewed for a whole lease."""
    postgres.make_template("legato", lambda url: PostgresDatabase(url).migrate())
    url = postgres.make_database("legato")
    async with AsyncExitStack() as stack:
        mates = []
        for number in range(count):
            clock = ElapsedClock()
            values = {"lease_s": LEASE_S, "database_pool": 2} | settings
            given = node_settings(folder / str(number), database_url=url, **values)
            node = await stack.enter_async_context(open_node(given, clock=clock))
            assert isinstance(node.database, PostgresDatabase)
            assert node.lease is not None
            mate = Mate(node=node, api=create_api(node), clock=clock, gate=Gate(node.database))
            shut = node.lease.connection
            node.lease.connection = mate.gate
            await shut.run(lambda tx: tx.tuples(_UNLOCK))
            stack.callback(shut.close)
            # Whatever a test has shut in the end: nodes close with open gates.
            stack.callback(mate.gate.open)
            mates.append(mate)
        await until(lambda: all(is_settled(each, count) for each in mates))
        yield mates
    postgres.drop_database(url)


def is_settled(mate: Mate, count: int) -> bool:
    return mate.lease.steady and (count == 1 or not mate.node.wakes.alone)


def calls_of(events: list[Event]) -> list[tuple[str, int]]:
    """Return why the models were called, and under which epoch."""
    return [(event.reason, event.epoch) for event in events if isinstance(event, CallStarted)]


def terminals_of(events: list[Event]) -> list[str]:
    """Return the events that end the run; there is to be one."""
    return [event.type for event in events if isinstance(event, TERMINAL)]


def rows(mate: Mate, sql: str) -> list[tuple[Any, ...]]:
    """Ask the database as an outsider does; a change has to return something."""
    assert isinstance(mate.node.database, PostgresDatabase)
    with psycopg.connect(mate.node.database.url, autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()

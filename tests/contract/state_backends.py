"""What the contract of `State` is run in: a database, and a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from legato.storage.committer import Committer
from legato.storage.database import Database
from legato.storage.state import State
from legato.storage.state_rows import DELETE_ROWS, delete_expired
from tests.contract.storage_backends import Storage


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def elapsed_s(self) -> float:
        return self.monotonic_s()

    def pass_s(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


class World:
    """One open database."""

    def __init__(self, database: Database, committer: Committer, clock: Hands) -> None:
        self._database = database
        self._committer = committer
        self.clock = clock

    def state(self, owner: str = "ann") -> State:
        return State(self._database, self._committer, self.clock, owner)

    async def sweep(self, limit: int = DELETE_ROWS) -> int:
        """Delete a page of what has expired; return how many rows it had."""
        return await self._committer.write(lambda tx: delete_expired(tx, self.clock.now_ms(), limit))


OpenWorld = Callable[[], AbstractAsyncContextManager[World]]


@asynccontextmanager
async def open_state(storage: Storage) -> AsyncIterator[World]:
    """Open a database; what was there stays."""
    database = storage.database()
    committer = Committer(database)
    try:
        yield World(database, committer, Hands())
    finally:
        await committer.close()
        database.close()


async def keys(state: State, group: str = "g", **options: Any) -> list[str]:
    return [entry.key for entry in (await state.list(group, **options)).entries]

"""The databases that the contract of `State` is run over: each opens a world with a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from legato.storage.committer import Committer
from legato.storage.database import Database
from legato.storage.sqlite import SqliteDatabase
from legato.storage.state import State
from legato.storage.state_rows import DELETE_ROWS, delete_expired


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

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


OpenWorld = Callable[[Path], AbstractAsyncContextManager[World]]


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[World]:
    """Open the database of a folder, made where it is absent; what was there stays."""
    path = folder / "legato.db"
    if not path.exists():
        path.write_bytes(_empty_sqlite())
    database = SqliteDatabase(path, durability="process")
    committer = Committer(database)
    try:
        yield World(database, committer, Hands())
    finally:
        await committer.close()
        database.close()


@cache
def _empty_sqlite() -> bytes:
    """A migrated file, made once: hundreds of tests begin with one."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "legato.db"
        SqliteDatabase(path).migrate()
        return path.read_bytes()


BACKENDS: Mapping[str, OpenWorld] = {"sqlite": sqlite}


async def keys(state: State, group: str = "g", **options: Any) -> list[str]:
    return [entry.key for entry in (await state.list(group, **options)).entries]

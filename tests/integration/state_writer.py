"""A process that counts until it is killed: `python -m tests.integration.state_writer <database> <writers>`.

Each writer increments one total and a count of its own, in one update. What has been acknowledged is written to
standard output at once, one line an update: the writer's number and its new count.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from legato.core.clock import SystemClock
from legato.core.operations import append, increment
from legato.storage.committer import Committer
from legato.storage.sqlite import SqliteDatabase
from legato.storage.state import State

LATEST = 8
"""Counts that each writer's log keeps at most."""


async def count(state: State, writer: int) -> None:
    while True:
        done = await state.update("kills", "k", increment("total"), increment(["by", str(writer)]))
        own = done.changes[1].new
        await state.update("kills", f"log {writer}", append("", own))
        os.write(1, f"{writer} {own}\n".encode())
        if own % LATEST == 0:
            await state.delete("kills", f"log {writer}")


async def main(path: Path, writers: int) -> None:
    database = SqliteDatabase(path, durability="process")
    state = State(database, Committer(database), SystemClock(), "ann")
    await asyncio.gather(*(count(state, writer) for writer in range(writers)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

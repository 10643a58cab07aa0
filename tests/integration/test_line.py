"""When a batch of the group commit goes: deltas wait for each other, a reply's beginning for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from legato.core.event import LogItem
from legato.storage import line
from legato.storage.committer import Command, Committer
from legato.storage.line import MANY_RUNS
from legato.storage.sqlite import SqliteDatabase
from legato.storage.statement import Transaction

LONG_S = 30.0
"""A window whose end no test waits for."""


class Log:
    """The log of a live run: what was published."""

    epoch = 0

    def __init__(self, key: int) -> None:
        self.key = key
        self.pending: list[LogItem] = []
        self.shown: list[LogItem] = []
        self.grew = asyncio.Event()

    @property
    def end(self) -> int:
        return len(self.shown)

    def publish(self, items: Sequence[LogItem]) -> None:
        self.shown += items
        self.grew.set()

    def append_failed(self, error: Exception) -> None:
        raise error


class Begin(Command[None]):
    hurries = True

    def apply(self, tx: Transaction) -> None: ...


@pytest.fixture
async def committer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Committer]:
    """A committer in whose window one delta waits already, and whose last batch held one run."""
    monkeypatch.setattr(line, "WINDOW_S", LONG_S)
    database = SqliteDatabase(tmp_path / "legato.db")
    database.open()
    found = Committer(database)
    yield found
    monkeypatch.setattr(line, "WINDOW_S", 0.0)
    if (timer := found._appends.timer) is not None:
        timer.cancel()
        found._appends.arm()
    await found.close()
    database.close()


async def _fill(committer: Committer, runs: int) -> Log:
    """Have a batch of so many runs written, and one more delta wait; return its log."""
    logs = [Log(key) for key in range(1, runs + 1)]
    for log in logs:
        committer.append(log, "first")
    async with asyncio.timeout(5):
        await asyncio.gather(*(log.grew.wait() for log in logs))
    committer.append(logs[0], "second")
    await asyncio.sleep(0.05)
    assert logs[0].shown == ["first"]
    return logs[0]


async def test_a_first_text_takes_along_what_waits(committer: Committer) -> None:
    """Nothing waits for the rest of the window then."""
    waiting, begun = await _fill(committer, 1), Log(1000)
    committer.hurry()
    committer.append(begun, "hello")
    async with asyncio.timeout(5):
        await begun.grew.wait()
    assert (waiting.shown, begun.shown) == (["first", "second"], ["hello"])


async def test_a_command_that_begins_a_reply_waits_for_no_window(committer: Committer) -> None:
    """Whoever posted waits for it."""
    waiting = await _fill(committer, 1)
    async with asyncio.timeout(5):
        await committer.execute(Begin())
    assert waiting.shown == ["first", "second"]


async def test_what_comes_behind_a_beginning_waits_again(committer: Committer) -> None:
    """One batch is hurried, not all that follow."""
    waiting = await _fill(committer, 1)
    await committer.execute(Begin())
    committer.append(waiting, "third")
    await asyncio.sleep(0.05)
    assert waiting.shown == ["first", "second"]


async def test_where_many_runs_stream_a_beginning_waits_with_them(committer: Committer) -> None:
    """Batches do not become more, and dearer, by it."""
    waiting, begun = await _fill(committer, MANY_RUNS), Log(1000)
    committer.hurry()
    committer.append(begun, "hello")
    await asyncio.sleep(0.05)
    assert (waiting.shown, begun.shown) == (["first"], [])

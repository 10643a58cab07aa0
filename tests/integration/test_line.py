"""When a batch of the group commit goes: deltas wait for each other, a reply's beginning for nothing."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from legato.core.event import LogItem
from legato.storage import line
from legato.storage.codec import SegmentPiece
from legato.storage.committer import Command, Committer
from legato.storage.line import MANY_RUNS
from legato.storage.sqlite import SqliteDatabase, SqliteWriter
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


class FaultyLog(Log):
    """Cannot show what it has been given."""

    def __init__(self, key: int) -> None:
        super().__init__(key)
        self.failed: list[Exception] = []

    def publish(self, items: Sequence[LogItem]) -> None:
        raise ValueError(f"{len(items)} cannot be shown")

    def append_failed(self, error: Exception) -> None:
        self.failed.append(error)


class Faulty(Command[None]):
    """Fails on the loop, before it is written or behind that."""

    def __init__(self, *, before: bool) -> None:
        self._before = before

    def prepare(self) -> None:
        if self._before:
            raise ValueError("on purpose")

    def apply(self, tx: Transaction) -> None: ...

    def committed(self, value: None) -> None:
        raise ValueError("on purpose")


async def test_a_fault_of_one_is_no_other_s(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that cannot be shown, and a command that fails on the loop, harm themselves alone; the line goes on."""
    monkeypatch.setattr(line, "WINDOW_S", 0.0)
    logs = [Log(1), FaultyLog(2), Log(3)]
    for round_ in range(3):
        for log in logs:
            committer.append(log, f"{round_}")
        async with asyncio.timeout(5):
            found = await asyncio.gather(
                committer.execute(Faulty(before=True)),
                committer.execute(Begin()),
                committer.execute(Faulty(before=False)),
                committer.flush(),
                return_exceptions=True,
            )
        assert [type(each) for each in found] == [ValueError, type(None), ValueError, type(None)]
    assert logs[0].shown == logs[2].shown == ["0", "1", "2"]
    assert isinstance(logs[1], FaultyLog)
    assert len(logs[1].failed) == 3


def _slow_down(monkeypatch: pytest.MonkeyPatch, wait_s: Callable[[], float]) -> None:
    """Have each batch take longer on its thread."""
    append = SqliteWriter.append

    def slowly(writer: SqliteWriter, pieces: Sequence[SegmentPiece]) -> None:
        time.sleep(wait_s())
        append(writer, pieces)

    monkeypatch.setattr(SqliteWriter, "append", slowly)


async def test_what_the_loop_waits_for_is_shown_once(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the wait is over in the moment in which the batch is written."""
    monkeypatch.setattr(line, "WINDOW_S", 0.0)
    draw = random.Random(1)
    _slow_down(monkeypatch, lambda: draw.uniform(0.0, 2 * line.WAIT_S))
    logs = [Log(key) for key in range(1, MANY_RUNS + 1)]
    for number in range(200):
        for log in logs:
            committer.append(log, f"{number}")
        async with asyncio.timeout(5):
            await committer.flush()
    for log in logs:
        assert log.shown == [f"{number}" for number in range(200)]


async def test_a_slow_disk_does_not_hold_the_loop_up(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on long before a batch of many runs is written."""
    monkeypatch.setattr(line, "WINDOW_S", 0.0)
    _slow_down(monkeypatch, lambda: 0.5)
    logs = [Log(key) for key in range(1, MANY_RUNS + 1)]
    for log in logs:
        committer.append(log, "first")
    turns = 0
    while not logs[0].shown:
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 10


async def test_what_is_appended_as_an_outage_ends_goes_in_one_batch_at_a_time(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models that were held back go on while the batch that ended it is being shown."""
    monkeypatch.setattr(line, "WINDOW_S", 0.0)
    monkeypatch.setattr(line, "RETRY_S", 0.01)
    append, calls = SqliteWriter.append, 0
    seqs: list[int] = []

    def away_once(writer: SqliteWriter, pieces: Sequence[SegmentPiece]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            away = sqlite3.OperationalError("disk I/O error")
            away.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise away
        # Longer than until the next batch would go.
        time.sleep(0.02)
        append(writer, pieces)
        seqs.extend(piece[1] for piece in pieces)

    monkeypatch.setattr(SqliteWriter, "append", away_once)
    log = Log(1)
    words = [f"{number}" for number in range(20)]

    def go_on(stalled: bool) -> None:
        if not stalled:
            committer.append(log, words[1])

    committer.on_stall = go_on
    committer.append(log, words[0])
    async with asyncio.timeout(5):
        await log.grew.wait()
        for word in words[2:]:
            committer.append(log, word)
            await asyncio.sleep(0.005)
        await committer.flush()
    assert log.shown == words
    assert seqs == sorted(set(seqs)), "each begins where the one before it has ended"

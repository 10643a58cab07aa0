"""Windows that move, in memory and in a PostgreSQL that several nodes share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from legato.core.clock import SystemClock
from legato.core.errors import StorageUnavailable
from legato.policies.database_windows import FORGET_S, DatabaseWindows
from legato.policies.rates import Rate
from legato.policies.windows import Full, MemoryWindows, Windows
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_aside import Aside
from legato.storage.statement import Prepared
from tests.postgres import Postgres

MINUTE = Rate(amount=10, window_s=60)
_EMPTY = Prepared(text("DELETE FROM rate_window"))
_COUNT = Prepared(text("SELECT count(*) FROM rate_window"))
OpenWindows = Callable[[], Windows]


class Hands(SystemClock):
    """A clock that is put forward by hand, in whole milliseconds."""

    def __init__(self) -> None:
        self.ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def pass_s(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> PostgresDatabase:
    """One for all tests of the file: each uses keys of its own."""
    made = PostgresDatabase(postgres.make_database())
    made.migrate()
    return made


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(params=["memory", "postgresql"])
async def open_windows(request: pytest.FixtureRequest, clock: Hands) -> AsyncIterator[OpenWindows]:
    """Returns windows of one more node; in memory there is one alone."""
    if request.param == "memory":
        windows = MemoryWindows(clock.monotonic_s)
        yield lambda: windows
        return
    database: PostgresDatabase = request.getfixturevalue("database")
    database.transact(lambda tx: tx.run(_EMPTY), writes=True)
    async with AsyncExitStack() as stack:

        def opened() -> Windows:
            connection = Aside(database, statement_s=5)
            stack.callback(connection.close)
            return DatabaseWindows(connection, clock, now_ms=clock.now_ms)

        yield opened
    await asyncio.to_thread(database.close)


@pytest.fixture
def windows(open_windows: OpenWindows) -> Windows:
    return open_windows()


async def took(windows: Windows, *keys: str, rate: Rate = MINUTE) -> bool:
    return not isinstance(await windows.take([(key, rate) for key in keys]), Full)


async def look(windows: Windows, key: str, rate: Rate = MINUTE) -> tuple[int, float]:
    ((used, reset_s),) = await windows.look([(key, rate)])
    return used, round(reset_s, 3)


async def test_a_window_moves(windows: Windows, clock: Hands) -> None:
    """Each leaves it on its own, not all at once: 10 within any 60 seconds, wherever they begin."""
    for _ in range(10):
        assert await took(windows, "k")
        clock.pass_s(5)
    assert not await took(windows, "k")
    assert await look(windows, "k") == (10, 10.0)
    clock.pass_s(9.999)
    assert not await took(windows, "k")
    clock.pass_s(0.001)
    assert await took(windows, "k")
    assert not await took(windows, "k")
    assert await look(windows, "k") == (10, 5.0)


async def test_what_was_refused_is_not_counted(windows: Windows, clock: Hands) -> None:
    """Whoever goes on asking gets room at the same time as who waits."""
    rate = Rate(amount=1, window_s=60)
    assert await took(windows, "k", rate=rate)
    for _ in range(59):
        clock.pass_s(1)
        assert not await took(windows, "k", rate=rate)
    clock.pass_s(1)
    assert await took(windows, "k", rate=rate)


async def test_what_is_counted_in_several_windows_is_counted_in_all_or_none(windows: Windows) -> None:
    """Those that are full are named, each with its own wait."""
    many, few = Rate(amount=5, window_s=60), Rate(amount=1, window_s=10)
    assert isinstance(await windows.take([("a", many), ("b", few), ("a", few)]), tuple)
    for _ in range(20):
        found = await windows.take([("a", many), ("b", few), ("c", many), ("a", few)])
        assert isinstance(found, Full)
        assert {place: round(wait_s) for place, wait_s in found.waits_s.items()} == {1: 10, 3: 10}
    looks = await windows.look([("a", many), ("b", few), ("c", many), ("a", few), ("never", many)])
    assert [used for used, _ in looks] == [1, 1, 0, 1, 0]


async def test_what_is_given_back_was_never_there(windows: Windows, clock: Hands) -> None:
    """The very one: those counted after it keep their own times."""
    rate = Rate(amount=2, window_s=60)
    first = await windows.take([("k", rate), ("l", rate)])
    assert isinstance(first, tuple)
    clock.pass_s(30)
    assert await took(windows, "k", rate=rate)
    for _ in range(2):
        await windows.give_back([("k", rate), ("l", rate)], first)
        assert await look(windows, "k", rate) == (1, 60.0)
        assert await look(windows, "l", rate) == (0, 0.0)


async def test_of_two_that_were_counted_at_once_one_can_be_given_back(windows: Windows) -> None:
    """They have the same time, and are two."""
    first = await windows.take([("k", MINUTE)])
    assert isinstance(first, tuple)
    assert await took(windows, "k")
    await windows.give_back([("k", MINUTE)], first)
    assert (await look(windows, "k"))[0] == 1


@pytest.mark.parametrize("seed", range(8))
async def test_windows_are_exact(windows: Windows, clock: Hands, seed: int) -> None:
    """As a list of all times says it, whatever is taken, refused and given back in between."""
    draw = random.Random(seed)
    rate = Rate(amount=draw.randint(1, 4), window_s=10)
    counted: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(60):
        clock.pass_s(draw.choice([0.0, 0.5, 1.0, 7.0, 61.0]))
        key, now_ms = draw.choice("ab"), clock.ms
        within = [at_ms for at_ms in counted[key] if at_ms > now_ms - 10_000]
        marks = await windows.take([(key, rate)])
        assert isinstance(marks, tuple) == (len(within) < rate.amount)
        if isinstance(marks, tuple):
            if draw.random() < 0.3:
                await windows.give_back([(key, rate)], marks)
            else:
                counted[key].append(now_ms)
        for each, times in counted.items():
            left = [(at_ms + 10_000 - now_ms) / 1000 for at_ms in times if at_ms > now_ms - 10_000]
            assert await look(windows, each, rate) == (len(left), min(left, default=0.0))


async def test_as_many_as_the_rate_allows_are_counted_whoever_asks(open_windows: OpenWindows) -> None:
    """Fifty at once, at three nodes: ten, in each of two windows that all of them share in different orders."""
    nodes = [open_windows() for _ in range(3)]
    uses = [("one", MINUTE), ("two", MINUTE)]
    asked = [node.take(uses if place % 2 else uses[::-1]) for place, node in enumerate((nodes * 17)[:50])]
    found = await asyncio.gather(*asked)
    assert sum(isinstance(each, tuple) for each in found) == 10
    assert [used for used, _ in await nodes[0].look(uses)] == [10, 10]


async def test_windows_of_one_key_and_other_lengths_are_others(windows: Windows) -> None:
    """Ten a minute and a hundred an hour are two."""
    hour = Rate(amount=100, window_s=3600)
    for _ in range(12):
        await windows.take([("k", MINUTE), ("k", hour)])
    assert (await look(windows, "k"))[0] == (await look(windows, "k", hour))[0] == 10


# What only a database does


@pytest.fixture
async def connection(database: PostgresDatabase) -> AsyncIterator[Aside]:
    made = Aside(database, statement_s=5)
    await made.run(lambda tx: tx.run(_EMPTY))
    yield made
    made.close()
    await asyncio.to_thread(database.close)


async def test_the_time_is_the_databases(connection: Aside) -> None:
    """Nodes whose clocks differ by hours count in the same window."""
    fast = Hands()
    rate = Rate(amount=2, window_s=3600)
    nodes = [DatabaseWindows(connection, clock) for clock in (SystemClock(), fast)]
    assert [await took(node, "k", rate=rate) for node in nodes] == [True, True]
    assert [await took(node, "k", rate=rate) for node in nodes] == [False, False]
    used, reset_s = await look(nodes[1], "k", rate)
    assert used == 2
    assert 3590 < reset_s <= 3600


async def test_rows_of_windows_that_are_over_are_deleted(connection: Aside, clock: Hands) -> None:
    """By whoever counts later, all of them, a page at a time."""
    windows = DatabaseWindows(connection, clock, now_ms=clock.now_ms)
    for first in range(0, 2500, 500):
        await windows.take([(f"k-{number}", MINUTE) for number in range(first, first + 500)])
    clock.pass_s(max(60.0, FORGET_S))
    await took(windows, "new")
    async with asyncio.timeout(10):
        while (await connection.run(lambda tx: tx.tuples(_COUNT)))[0][0] != 1:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def test_nothing_is_let_in_while_the_database_is_away(clock: Hands) -> None:
    """Nor does whoever takes something back learn of it."""
    connection = Aside(PostgresDatabase("postgresql://legato@127.0.0.1:1/lg"), statement_s=5)
    windows = DatabaseWindows(connection, clock)
    with pytest.raises(StorageUnavailable):
        await windows.take([("k", MINUTE)])
    with pytest.raises(StorageUnavailable):
        await windows.look([("k", MINUTE)])
    await windows.give_back([("k", MINUTE)], (1.0,))
    connection.close()

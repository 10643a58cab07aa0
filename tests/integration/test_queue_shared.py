"""A queue that several processes share: what a dead one had taken, and what others may have at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from legato.core.errors import StorageUnavailable
from legato.steps import engine_runtime
from legato.steps.engine_database import connect
from legato.steps.engine_letters import Letters
from legato.steps.engine_rows import QUEUE_JOB, NewJob
from legato.steps.jobs import CronStep, CronTick, CronTrigger, JobEvent, QueueStep
from legato.steps.queue_address import QueueAddress
from tests.postgres import PostgresServer
from tests.queue_world import QueueWorld, events, make_queue_database

LEAD = QueueStep(name="find_lead", topics=["lead"], backoff_s=0.02)


@pytest.fixture
async def crashing(postgres_server: PostgresServer) -> AsyncIterator[QueueWorld]:
    """A queue on a PostgreSQL that the test may crash."""
    made = QueueWorld(make_queue_database(postgres_server))
    yield made
    await made.engine.close()


@pytest.fixture
async def world(queue_address: QueueAddress) -> AsyncIterator[QueueWorld]:
    made = QueueWorld(queue_address)
    yield made
    await made.engine.close()


async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
    await asyncio.sleep(60)


def states(world: QueueWorld) -> dict[str, int]:
    return dict(world.rows("status, count(*)", "workflow_status GROUP BY status"))


async def die_in_mid_work(world: QueueWorld, monkeypatch: pytest.MonkeyPatch, step: QueueStep = LEAD) -> str:
    """End a process as a kill would: what it has taken stays taken. Return its executor's id."""
    world.behaviour = hang
    engine = await world.open(step, alone=False)
    await engine.hand_over("b1", events(20))
    await world.until(lambda: world.running[step.name] == step.concurrency)
    with monkeypatch.context() as killed:
        killed.setattr(engine_runtime.Runtime, "_put_back", lambda _: None)
        await engine.close(0.1)
    world.behaviour = None
    assert states(world)["PENDING"] >= step.concurrency
    return engine.executor_id


async def test_a_database_that_crashes_loses_no_job(
    crashing: QueueWorld, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over is there when it is back, and is done; so is what is handed over then."""

    async def work(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(0.02)

    # The crash forgets the ends of some jobs, which then stay taken.
    monkeypatch.setattr(engine_runtime, "STRANDED_S", 1.0)
    world = crashing
    world.behaviour = work
    engine = await world.open(QueueStep(name="work", topics=["lead"], key=lambda each: each.id[-1]))
    handed = [*events(100), *events(10, prefix="g"), *events(10, prefix="f")]
    await engine.hand_over("b1", handed[:100])
    await world.until(lambda: len(world.ended) > 10)
    await engine.hand_over("at the last moment", handed[100:110])
    # From this thread: the server ends with the one that started it.
    postgres_server.restart("immediate")
    async with asyncio.timeout(60):
        await _when_it_is_back(lambda: engine.hand_over("b2", handed[110:]))
        while set(world.ended) != {each.id for each in handed}:
            await _when_it_is_back(engine.care)


async def _when_it_is_back(ask: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await ask()
        except StorageUnavailable:
            await asyncio.sleep(0.05)
        else:
            await asyncio.sleep(0.1)
            return


async def test_a_process_closes_while_the_database_is_away(
    crashing: QueueWorld, postgres_server: PostgresServer
) -> None:
    """In seconds, with jobs whose ends cannot be written; they are done again by the next one."""
    world, going = crashing, asyncio.Event()

    async def work(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await going.wait()

    world.behaviour = work
    engine = await world.open(LEAD)
    await engine.hand_over("b1", events(8))
    await world.until(lambda: world.running["find_lead"] == 4)
    postgres_server.stop()
    try:
        going.set()
        await asyncio.sleep(0.3)
        with pytest.raises(StorageUnavailable):
            await engine.counts()
        begun_s = asyncio.get_running_loop().time()
        await engine.close()
        assert asyncio.get_running_loop().time() - begun_s < 5
    finally:
        postgres_server.start()

    async def live() -> set[str]:
        return set()

    await world.open(LEAD, live=live)
    await world.idle()
    assert set(world.ended) == {each.id for each in events(8)}


async def test_a_process_that_closes_lets_others_have_its_jobs_at_once(world: QueueWorld) -> None:
    """Nobody has to find out that it is gone."""
    world.behaviour = hang
    engine = await world.open(LEAD, alone=False)
    await engine.hand_over("b1", events(20))
    await world.until(lambda: world.running["find_lead"] == 4)
    await engine.close()
    assert states(world) == {"ENQUEUED": 20}
    world.behaviour = None
    await world.open(LEAD, alone=False)
    await world.idle()
    assert sorted(world.ended) == sorted(each.id for each in events(20))


async def test_what_a_dead_process_had_taken_is_taken_up_when_it_is_named(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever knows that it is dead; of another nothing is touched."""
    dead = await die_in_mid_work(world, monkeypatch)
    engine = await world.open(LEAD, alone=False)
    await engine.take_up(["node-that-never-was"])
    await engine.care()
    held = states(world)["PENDING"]
    assert held >= 4
    for _ in range(2):
        await engine.take_up([dead])
    await world.idle()
    assert sorted(world.ended) == sorted(each.id for each in events(20))


async def test_a_dead_process_that_nobody_named_is_found(world: QueueWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who holds jobs and is not among those that live."""
    dead = await die_in_mid_work(world, monkeypatch)
    living = {dead}

    async def live() -> set[str]:
        return set(living)

    engine = await world.open(LEAD, alone=False, live=live)
    await engine.care()
    assert states(world)["PENDING"] >= 4
    living.clear()
    await engine.care()
    await world.idle()
    assert sorted(world.ended) == sorted(each.id for each in events(20))


async def test_what_was_tried_elsewhere_counts(world: QueueWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process takes a job next knows how often it was tried, and that one died under it."""

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if attempt == 1:
            raise ConnectionError
        await asyncio.sleep(60)

    step = QueueStep(name="find_lead", topics=["lead"], backoff_s=0.01, attempts=3, concurrency=1)
    world.behaviour = fail
    engine = await world.open(step, alone=False)
    await engine.hand_over("b1", events(1))
    await world.until(lambda: world.running["find_lead"] == 1 and len(world.calls) == 2)
    with monkeypatch.context() as killed:
        killed.setattr(engine_runtime.Runtime, "_put_back", lambda _: None)
        await engine.close(0.1)
    reaper = await world.open(alone=False)
    await reaper.take_up([engine.executor_id])
    await reaper.close()
    assert states(world) == {"ENQUEUED": 1}
    world.behaviour = None
    await world.open(step, alone=False)
    await world.idle()
    assert [call.attempt for call in world.calls] == [1, 2, 2]


@pytest.mark.parametrize("gone_for_long", [False, True])
async def test_a_step_that_only_others_know_is_left_to_them(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch, gone_for_long: bool
) -> None:
    """Its jobs wait; those that nobody ran for a day are dead letters."""
    if gone_for_long:
        monkeypatch.setattr(engine_runtime, "ABANDONED_MS", -1000)
    world.behaviour = hang
    await (await world.open(LEAD, alone=False)).hand_over("b1", events(5))
    engine = await world.again(QueueStep(name="other", topics=["lead"]), alone=False)
    await engine.care()
    if gone_for_long:
        await world.dead(5)
    else:
        await asyncio.sleep(0.5)
        assert states(world) == {"ENQUEUED": 5}


async def test_ticks_of_all_processes_run_one_after_another(world: QueueWorld) -> None:
    """As one process has it: while a tick runs anywhere, the next one waits."""
    clean = CronStep(name="clean", triggers=[CronTrigger("0 0 1 1 *")])
    ticks = [CronTick(id=f"cron:clean:00000000:{n}", at_ms=n * 1000) for n in range(2)]
    engine = await world.open(alone=False)
    await engine.add_tick("clean", ticks[0], mark=False)
    taken = "status = 'PENDING', executor_id = 'another', owner_xid = 'x'"
    world.order(f"UPDATE {{}}workflow_status SET {taken} WHERE queue_name = 'cron:clean'")
    engine = await world.again(clean, alone=False)
    await engine.add_tick("clean", ticks[1], mark=False)
    await asyncio.sleep(1.0)
    assert world.ticks == []
    await engine.take_up(["another"])
    await world.until(lambda: len(world.ticks) == 2, "the ticks")
    assert [tick for _, tick, _ in world.ticks] == ticks


async def test_the_order_of_jobs_is_that_of_all_processes(world: QueueWorld) -> None:
    """No two of one stamp, and each batch together, however many processes add at once."""
    await (await world.open(LEAD, alone=False)).close()
    letters = [Letters(connect(world.address, flush=False)) for _ in range(4)]
    for each in letters:
        each.counts()

    def add(number: int) -> None:
        for part in range(10):
            jobs = [
                NewJob(id=f"{number}-{part}-{place}", workflow=QUEUE_JOB, queue="queue:x", input="{}")
                for place in range(5)
            ]
            letters[number].rows.add(jobs, 1000)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    for each in letters:
        each.close()
        each.rows._engine.dispose()
    rows = world.rows("created_at, workflow_uuid", "workflow_status ORDER BY created_at")
    assert len({stamp for stamp, _ in rows}) == len(rows) == 200
    batches = [id_.rpartition("-")[0] for _, id_ in rows]
    assert [batches[place] for place in range(0, 200, 5) for _ in range(5)] == batches

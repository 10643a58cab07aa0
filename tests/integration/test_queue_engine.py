"""The queue: what is handed over is done at least once, in order where asked, or becomes a dead letter."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from legato.core.errors import ConfigurationError, InvalidJob, StorageUnavailable
from legato.steps.jobs import CronStep, CronTrigger, JobEvent, QueueStep
from legato.steps.queue_address import QueueAddress
from tests.queue_world import QueueWorld, event, events

LEAD = QueueStep(name="find_lead", topics=["lead"], backoff_s=0.02)


@pytest.fixture
async def world(queue_address: QueueAddress) -> AsyncIterator[QueueWorld]:
    made = QueueWorld(queue_address)
    yield made
    await made.engine.close()


@pytest.fixture
async def file_world(tmp_path: Path) -> AsyncIterator[QueueWorld]:
    made = QueueWorld(tmp_path / "queue.db")
    yield made
    await made.engine.close()


async def test_an_event_goes_to_every_step_of_its_topic_once(world: QueueWorld) -> None:
    """And to no other; a topic that nobody wants is taken and forgotten."""
    other = QueueStep(name="log", topics=["lead", "done"])
    engine = await world.open(LEAD, other)
    assert await engine.hand_over("b1", [*events(3), event("d1", "done"), event("x1", "unknown")]) == 7
    await world.idle()
    assert sorted(world.ids("find_lead")) == ["e0", "e1", "e2"]
    assert sorted(world.ids("log")) == ["d1", "e0", "e1", "e2"]


async def test_a_handler_is_given_what_was_handed_over(world: QueueWorld) -> None:
    """Every field, and any JSON."""
    given: list[JobEvent] = []

    async def keep(step: str, batch: Sequence[JobEvent], attempt: int) -> None:
        given.extend(batch)

    world.behaviour = keep
    payload = {
        "text": "ä\u2028\ud800\x00",
        "big": 2**70,
        "nested": [None, True, 1.5, {"": []}],
        "error": {"type": "no"},
    }
    sent = JobEvent(id="e1", topic="lead", owner="ann", payload=payload, trace_id="t1", at_ms=1_700_000_000_123)
    engine = await world.open(LEAD)
    await engine.hand_over("b1", [sent])
    await world.idle()
    assert given == [sent]


@pytest.mark.parametrize("batch", [1, 10])
async def test_a_batch_that_is_handed_over_twice_is_done_once(world: QueueWorld, batch: int) -> None:
    """Before and after it was done, and by the next process."""
    step = QueueStep(name="find_lead", topics=["lead"], batch=batch)
    engine = await world.open(step)
    for _ in range(2):
        await engine.hand_over("b1", events(25))
    await world.idle()
    await engine.hand_over("b1", events(25))
    engine = await world.again(step)
    await engine.hand_over("b1 again", events(25))
    await world.idle()
    assert sorted(world.ids()) == sorted(each.id for each in events(25))


async def test_events_come_in_batches_where_asked(world: QueueWorld) -> None:
    """At most so many in one job, in their order."""
    engine = await world.open(QueueStep(name="count", topics=["lead"], batch=10, concurrency=1))
    assert await engine.hand_over("b1", events(25)) == 3
    await world.idle()
    assert [len(call.ids) for call in world.calls] == [10, 10, 5]
    assert world.ids() == [each.id for each in events(25)]


async def test_events_that_are_batched_another_way_are_not_lost(world: QueueWorld) -> None:
    """A relay that restarts may cut its batches elsewhere: then some come twice, and none never."""
    engine = await world.open(QueueStep(name="count", topics=["lead"], batch=100))
    await engine.hand_over("b1", events(50))
    await engine.hand_over("b1 grown", events(80))
    await world.idle()
    assert set(world.ids()) == {each.id for each in events(80)}


async def test_events_of_one_key_are_handled_in_order(world: QueueWorld) -> None:
    """Even while the first of them fails and is tried again; other keys do not wait for it."""
    step = QueueStep(
        name="sync", topics=["lead"], key=lambda each: each.owner, backoff_s=0.2, concurrency=8, attempts=9
    )
    draw = random.Random(1)

    async def fail_first(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(draw.random() / 200)
        if batch[0].id == "ann-0" and (attempt < 3 or "ben-19" not in world.ended):
            raise ConnectionError

    world.behaviour = fail_first
    engine = await world.open(step)
    owners = ("ann", "ben", "eve")
    for part in range(4):
        batch = [event(f"{owner}-{n}", owner=owner) for n in range(part * 5, part * 5 + 5) for owner in owners]
        await engine.hand_over(f"b{part}", batch)
    await world.idle()
    for owner in owners:
        assert [id for id in world.ended if id.startswith(owner)] == [f"{owner}-{n}" for n in range(20)]
    assert world.ended.index("ben-19") < world.ended.index("ann-0")


async def test_the_order_of_a_key_outlives_the_process(world: QueueWorld) -> None:
    """What was running when it ended comes first again."""
    step = QueueStep(name="sync", topics=["lead"], key=lambda each: each.owner)
    stuck = asyncio.Event()

    async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if batch[0].id == "e3" and not stuck.is_set():
            stuck.set()
            await asyncio.sleep(60)

    world.behaviour = hang
    engine = await world.open(step)
    await engine.hand_over("b1", events(6))
    await stuck.wait()
    engine = await world.again(step)
    await engine.hand_over("b2", events(9))
    await world.idle()
    assert world.ended == [each.id for each in events(9)]


@pytest.mark.parametrize("ordered_first", [False, True])
async def test_a_step_whose_order_changes_still_does_what_waits(world: QueueWorld, ordered_first: bool) -> None:
    """Jobs from before it had a key, or has none any more, are no less jobs."""
    ordered = QueueStep(name="find_lead", topics=["lead"], key=lambda each: each.owner)

    async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(60)

    world.behaviour = hang
    engine = await world.open(ordered if ordered_first else LEAD)
    await engine.hand_over("b1", events(50))
    world.behaviour = None
    engine = await world.again(LEAD if ordered_first else ordered)
    await engine.hand_over("b2", events(5, prefix="f"))
    await world.idle()
    assert len(set(world.ended)) == 55


async def test_no_more_jobs_run_at_once_than_a_step_allows(world: QueueWorld) -> None:
    """Each step for itself."""

    async def work(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(0.005)
        # Where jobs are given out slowly, the first is not over before the fifth has begun.
        while name == "five" and world.most_running[name] < 5:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.005)

    world.behaviour = work
    one = QueueStep(name="one", topics=["lead"], concurrency=1)
    five = QueueStep(name="five", topics=["lead"], concurrency=5)
    engine = await world.open(one, five)
    await engine.hand_over("b1", events(100))
    await world.idle()
    assert world.most_running == {"one": 1, "five": 5}


@pytest.mark.parametrize("key", [None, lambda each: each.owner])
async def test_what_waits_is_not_left_to_the_next_look(
    world: QueueWorld, key: Callable[[JobEvent], str] | None
) -> None:
    """However rarely the queue is looked at: jobs are taken as places become free, after a start too."""
    step = QueueStep(name="sync", topics=["lead"], key=key)
    hold = asyncio.Event()

    async def work(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await hold.wait()

    world.behaviour = work
    engine = await world.open(step, poll_s=60.0)
    await engine.hand_over("b1", events(150))
    await world.again(step, poll_s=60.0)
    hold.set()
    await world.idle()
    await world.engine.hand_over("b2", events(150, prefix="f"))
    await world.idle()
    assert len(set(world.ended)) == 300


async def test_a_long_job_is_not_given_out_twice(world: QueueWorld) -> None:
    """However often the queue is looked at meanwhile."""

    async def work(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(1.0)

    world.behaviour = work
    engine = await world.open(LEAD, poll_s=0.02)
    await engine.hand_over("b1", events(1))
    await world.idle()
    assert len(world.calls) == 1


@pytest.mark.alone
async def test_what_is_unfinished_at_the_end_is_done_by_the_next_process(world: QueueWorld) -> None:
    """The end is quick, however long the jobs; none is lost, and what was done is not done again."""

    async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if int(batch[0].id[1:]) >= 20:
            await asyncio.sleep(60)

    world.behaviour = hang
    engine = await world.open(LEAD)
    await engine.hand_over("b1", events(60))
    await world.until(lambda: len(world.ended) == 20 and world.running["find_lead"] == 4)
    begun_s = asyncio.get_running_loop().time()
    await engine.close()
    assert asyncio.get_running_loop().time() - begun_s < 1.5
    with pytest.raises(StorageUnavailable):
        await engine.hand_over("b2", events(1))
    world.behaviour = None
    await world.open(LEAD)
    await world.idle()
    assert sorted(world.ended) == sorted(each.id for each in events(60))


@pytest.mark.alone
async def test_the_loop_goes_on_while_the_file_is_locked(file_world: QueueWorld) -> None:
    """Whoever hands over waits, nobody else."""
    world = file_world
    engine = await world.open(LEAD)
    other = sqlite3.connect(world.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    handing = asyncio.create_task(engine.hand_over("b1", events(5)))
    longest_s = 0.0
    loop = asyncio.get_running_loop()
    for _ in range(50):
        before_s = loop.time()
        await asyncio.sleep(0.01)
        longest_s = max(longest_s, loop.time() - before_s)
    assert not handing.done()
    other.execute("ROLLBACK")
    other.close()
    await handing
    await world.idle()
    assert longest_s < 0.2


@pytest.mark.slow
async def test_the_queue_stays_bounded(world: QueueWorld) -> None:
    """Jobs that are done are forgotten after a while; dead letters are not."""

    async def refuse(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if batch[0].id.endswith("-7"):
            raise InvalidJob("no")

    def pages() -> int:
        if isinstance(world.address, str):
            return 0
        with sqlite3.connect(world.path) as connection:
            return int(connection.execute("PRAGMA page_count").fetchone()[0])

    world.behaviour = refuse
    engine = await world.open(LEAD, keep_s=0.0)
    sizes = []
    parts = 6 if isinstance(world.address, Path) else 2
    for part in range(parts):
        await engine.hand_over(f"b{part}", events(300, prefix=f"p{part}-"))
        await world.idle()
        # DBOS stamps ends in whole seconds.
        await asyncio.sleep(1.1)
        await engine.care()
        sizes.append(pages())
    assert sizes[-1] <= sizes[1] * 1.1
    assert len(await engine.dead_letters()) == parts
    for table in ("workflow_status", "workflow_input", "workflow_output"):
        assert world.rows("count(*)", table) == [(parts,)]


async def test_steps_that_contradict_each_other_are_refused(world: QueueWorld) -> None:
    """Two of one name; a cron step with a wrong expression, or without a handler."""
    with pytest.raises(ConfigurationError, match="two queue steps"):
        await world.open(LEAD, LEAD)
    with pytest.raises(ConfigurationError, match="bad minute"):
        CronStep(name="clean", triggers=[CronTrigger("61 * * * *")])

"""Cron steps on the queue: each tick once, and what becomes of those at which no server ran."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pytest

from legato.core.clock import SystemClock
from legato.core.errors import InvalidJob
from legato.steps import cron_clock
from legato.steps.jobs import CronStep, CronTrigger, JobEvent
from legato.steps.queue_address import QueueAddress
from tests.queue_world import QueueWorld

HOURLY = CronStep(name="clean", triggers=[CronTrigger("0 * * * *")])
LOOKS: Counter[str] = Counter()
"""At the clock: begun, and ended."""
SKIPPING = CronStep(name="clean", triggers=[CronTrigger("0 * * * *", missed="skip")])


class WallClock(SystemClock):
    """A clock whose wall time stands still until it is moved."""

    def __init__(self, text: str = "2026-11-22T10:30:00+00:00") -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self._now_ms = int(datetime.fromisoformat(text).timestamp() * 1000)

    def now_ms(self) -> int:
        return self._now_ms


@pytest.fixture
async def world(queue_address: QueueAddress, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QueueWorld]:
    look = cron_clock.CronClock.look

    async def counted(clock: cron_clock.CronClock) -> None:
        LOOKS["begun"] += 1
        try:
            await look(clock)
        finally:
            LOOKS["ended"] += 1

    monkeypatch.setattr(cron_clock.CronClock, "look", counted)
    monkeypatch.setattr(cron_clock.CronClock.__init__, "__kwdefaults__", {"look_s": 0.01})
    made = QueueWorld(queue_address)
    yield made
    await made.engine.close()


def hours(world: QueueWorld) -> list[str]:
    return [datetime.fromtimestamp(tick.at_ms / 1000).astimezone().isoformat() for _, tick, _ in world.ticks]


def expected(*texts: str) -> list[str]:
    return [datetime.fromisoformat(f"{text}+00:00").astimezone().isoformat() for text in texts]


async def looked(world: QueueWorld) -> None:
    """Wait for a look at the clock that begins from now on, and for its end."""
    begun = LOOKS["begun"]
    await world.until(lambda: LOOKS["ended"] > begun, "a look at the clock")


async def settle(world: QueueWorld) -> None:
    """Let the clock be looked at, and what it added be run."""
    await looked(world)
    await world.idle()


async def test_a_step_is_run_at_its_times_and_not_before(world: QueueWorld) -> None:
    """Not at the first start; then once an hour, however often the clock is looked at."""
    clock = WallClock()
    await world.open(HOURLY, clock=clock)
    await settle(world)
    assert world.ticks == []
    for text in ("2026-11-22T11:00:00+00:00", "2026-11-22T11:30:00+00:00", "2026-11-22T12:00:01+00:00"):
        clock.set(text)
        await settle(world)
    assert hours(world) == expected("2026-11-22T11:00:00", "2026-11-22T12:00:00")
    assert [(step, attempt) for step, _, attempt in world.ticks] == [("clean", 1)] * 2
    assert len({tick.id for _, tick, _ in world.ticks}) == 2


@pytest.mark.parametrize(
    ("step", "now", "made_up"),
    [
        pytest.param(HOURLY, "2026-11-22T15:30:00+00:00", ["2026-11-22T15:00:00"], id="five missed, once"),
        pytest.param(HOURLY, "2026-11-22T10:59:59+00:00", [], id="none missed"),
        pytest.param(SKIPPING, "2026-11-22T15:30:00+00:00", [], id="five missed, skipped"),
        pytest.param(SKIPPING, "2026-11-22T15:00:10+00:00", ["2026-11-22T15:00:00"], id="just now is not missed"),
    ],
)
async def test_missed_ticks_are_made_up_for_once_or_skipped(
    world: QueueWorld, step: CronStep, now: str, made_up: list[str]
) -> None:
    """However many were missed, as the step chooses; the server was first started before any of them."""
    clock = WallClock()
    await world.open(step, clock=clock)
    await settle(world)
    clock.set(now)
    await world.again(step, clock=clock)
    await settle(world)
    await world.again(step, clock=clock)
    await settle(world)
    assert hours(world) == expected(*made_up)


async def test_a_tick_that_was_run_is_not_missed_after_a_restart(world: QueueWorld) -> None:
    """Nor after what is done was forgotten."""
    clock = WallClock()
    engine = await world.open(HOURLY, clock=clock)
    clock.set("2026-11-22T11:00:00+00:00")
    await settle(world)
    for _ in range(3):
        engine = await world.again(HOURLY, clock=clock, keep_s=-1e9)
        await engine.care()
        await settle(world)
    assert hours(world) == expected("2026-11-22T11:00:00")


async def test_a_changed_expression_begins_anew(world: QueueWorld) -> None:
    """Its times before the change were not missed."""
    clock = WallClock()
    await world.open(CronStep(name="clean", triggers=[CronTrigger("0 0 1 1 *")]), clock=clock)
    await settle(world)
    clock.set("2026-11-22T15:30:00+00:00")
    await world.again(HOURLY, clock=clock)
    await settle(world)
    assert world.ticks == []


async def test_each_trigger_of_a_step_has_its_own_ticks(world: QueueWorld) -> None:
    """With time zones of their own."""
    triggers = [CronTrigger("0 12 * * *", "Europe/Berlin"), CronTrigger("0 12 * * *", "UTC")]
    clock = WallClock()
    await world.open(CronStep(name="clean", triggers=triggers), clock=clock)
    for text in ("2026-11-22T11:00:00+00:00", "2026-11-22T12:00:00+00:00"):
        await settle(world)
        clock.set(text)
    await settle(world)
    assert hours(world) == expected("2026-11-22T11:00:00", "2026-11-22T12:00:00")


async def test_ticks_of_a_slow_step_do_not_pile_up(world: QueueWorld) -> None:
    """One runs, one waits; they never overlap."""
    overlaps = 0
    running = 0
    go_on = asyncio.Event()

    async def slow(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        nonlocal overlaps, running
        running += 1
        overlaps += running > 1
        await go_on.wait()
        running -= 1

    world.behaviour = slow
    clock = WallClock()
    await world.open(HOURLY, clock=clock)
    await looked(world)
    for hour in range(11, 21):
        clock.set(f"2026-11-22T{hour}:00:00+00:00")
        await looked(world)
    go_on.set()
    await settle(world)
    assert overlaps == 0
    assert 2 <= len(world.ticks) <= 3
    assert hours(world)[0] == expected("2026-11-22T11:00:00")[0]


async def test_a_clock_that_is_put_back_stops_nothing_and_repeats_nothing(world: QueueWorld) -> None:
    """Times that were not there yet are run, those that come by again are not, and the next new one is."""
    clock = WallClock("2026-11-22T11:59:00+00:00")
    await world.open(HOURLY, clock=clock)
    for text in ("12:00:00", "09:30:00", "10:00:00", "12:00:00", "13:00:00"):
        await settle(world)
        clock.set(f"2026-11-22T{text}+00:00")
    await settle(world)
    assert hours(world) == expected("2026-11-22T12:00:00", "2026-11-22T10:00:00", "2026-11-22T13:00:00")


async def test_a_tick_that_fails_is_tried_again_and_then_a_dead_letter(world: QueueWorld) -> None:
    """It can be redriven; discarding it does not have it run again."""

    async def refuse(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise InvalidJob("no") if attempt == 2 else ConnectionError

    world.behaviour = refuse
    step = CronStep(name="clean", triggers=HOURLY.triggers, backoff_s=0.01)
    clock = WallClock()
    engine = await world.open(step, clock=clock)
    await settle(world)
    clock.set("2026-11-22T11:00:00+00:00")
    await world.dead()
    (letter,) = await engine.dead_letters()
    assert (letter.kind, letter.step, letter.topic, letter.events, letter.attempts) == ("cron", "clean", "cron", (), 2)
    assert letter.tick == world.ticks[0][1]
    await engine.redrive(letter.id)
    await world.until(lambda: len(world.ticks) == 4, "the tick again")
    await world.dead()
    assert [attempt for _, _, attempt in world.ticks] == [1, 2, 1, 2]
    await engine.discard(letter.id)
    await world.again(step, clock=clock)
    await settle(world)
    assert len(world.ticks) == 4
    assert await world.engine.dead_letters() == []


async def test_old_ticks_are_forgotten_but_for_the_last(world: QueueWorld) -> None:
    """The file stays bounded; of failed ones the newest ten stay."""

    async def refuse(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if name == "failing":
            raise InvalidJob("no")

    world.behaviour = refuse
    failing = CronStep(name="failing", triggers=HOURLY.triggers)
    clock = WallClock("2026-11-01T00:30:00+00:00")
    engine = await world.open(HOURLY, failing, clock=clock)
    for hour in range(1, 16):
        clock.set(f"2026-11-01T{hour:02}:00:00+00:00")
        await settle(world)
    assert len(await engine.dead_letters()) == 15
    engine = await world.again(HOURLY, failing, clock=clock, keep_s=-1e9)
    await engine.care()
    letters = await engine.dead_letters()
    assert [letter.tick.at_ms for letter in letters if letter.tick] == [
        tick.at_ms for step, tick, _ in world.ticks if step == "failing"
    ][-10:]
    assert len([step for step, _, _ in world.ticks if step == "clean"]) == 15
    assert (
        await engine.last_tick("clean", cron_clock.tick_prefix("clean", HOURLY.triggers[0]))
        == [tick.id for step, tick, _ in world.ticks if step == "clean"][-1]
    )

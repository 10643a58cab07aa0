"""Attempts of a job: what is tried again, how often, and what becomes a dead letter."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from types import SimpleNamespace

import pytest
from dbos._sys_db import SystemDatabase

from legato.core.clock import SystemClock
from legato.core.errors import ConfigurationError, InvalidJob, NotFound, StorageUnavailable
from legato.steps import attempts, engine_runtime
from legato.steps.engine_letters import open_letters
from legato.steps.jobs import JobCounts, JobEvent, QueueStep, StepOptions, Work
from legato.steps.queue_address import QueueAddress
from tests.queue_world import QueueWorld, event, events

LEAD = QueueStep(name="find_lead", topics=["lead"], backoff_s=0.02)


class StillClock(SystemClock):
    """Shows when it was made: what a machine needs beside a pause does not shorten it."""

    def __init__(self) -> None:
        self._at_ms = super().now_ms()

    def now_ms(self) -> int:
        return self._at_ms


def failures(world: QueueWorld) -> int:
    """Return how many attempts of the only job the queue knows to have failed."""
    ((tries,),) = world.rows("attributes", "workflow_status")
    found = json.loads(tries) if isinstance(tries, str) else tries
    return int(found["failures"]) if found else 0


@pytest.fixture
async def world(queue_address: QueueAddress) -> AsyncIterator[QueueWorld]:
    made = QueueWorld(queue_address)
    yield made
    await made.engine.close()


async def test_a_failed_job_is_tried_again_with_growing_pauses(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it succeeds."""
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        await asyncio.sleep(delay_s)

    # How late a busy machine wakes from a pause is not the queue's doing.
    monkeypatch.setattr(attempts, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if attempt < 4:
            raise ConnectionError("refused")

    world.behaviour = fail
    step = QueueStep(name="find_lead", topics=["lead"], backoff_s=0.1, attempts=4)
    # No look at the queue ends a pause or makes it longer.
    engine = await world.open(step, clock=StillClock(), poll_s=60.0)
    await engine.hand_over("b1", events(1))
    await world.idle()
    assert [call.attempt for call in world.calls] == [1, 2, 3, 4]
    times = [call.at_s for call in world.calls]
    pauses = [later - before for before, later in pairwise(times)]
    for pause, asked, whole in zip(pauses, slept, (0.1, 0.2, 0.4), strict=True):
        assert whole / 2 <= asked <= whole
        assert whole / 2 <= pause
    assert await engine.dead_letters() == []


@pytest.mark.parametrize(
    ("attempt", "jitter", "expected"),
    [
        (1, 0.0, 0.5),
        (1, 1.0, 1.0),
        (2, 0.0, 1.0),
        (4, 0.5, 6.0),
        (10, 0.0, 150.0),
        (10, 1.0, 300.0),
        (5000, 1.0, 300.0),
    ],
)
def test_a_pause_doubles_up_to_its_most(attempt: int, jitter: float, expected: float) -> None:
    """Half of it is fixed, half is drawn."""
    assert StepOptions(name="s").pause_s(attempt, jitter=jitter) == pytest.approx(expected)


async def test_a_job_that_never_succeeds_becomes_a_dead_letter(world: QueueWorld) -> None:
    """It keeps input, error, attempts and times."""

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise ConnectionError(f"refused for the {attempt}th time")

    world.behaviour = fail
    engine = await world.open(QueueStep(name="find_lead", topics=["lead"], attempts=3, backoff_s=0.05, batch=5))
    await engine.hand_over("b1", events(2))
    await world.dead()
    (letter,) = await engine.dead_letters()
    assert letter == await engine.dead_letter(letter.id)
    assert (letter.step, letter.kind, letter.topic, letter.events) == ("find_lead", "queue", "lead", tuple(events(2)))
    assert (letter.error_type, letter.error) == ("ConnectionError", "refused for the 3th time")
    assert letter.attempts == len(world.calls) == 3
    assert letter.first_ms is not None
    assert 50 <= letter.last_ms - letter.first_ms < 5000
    assert await engine.counts() == {"find_lead": JobCounts(dead=1)}


async def test_an_error_without_words_is_an_error(world: QueueWorld) -> None:
    """An exception that fails when it is asked what it says makes a dead letter as any other does."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise LookupError("no words")

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise Silent

    def key(each: JobEvent) -> str:
        raise Silent

    world.behaviour = fail
    step = QueueStep(name="keyed", topics=["lead"], key=key)
    engine = await world.open(QueueStep(name="find_lead", topics=["lead"], attempts=1), step)
    await engine.hand_over("b1", events(1))
    await world.dead(2)
    said = {letter.step: (letter.error_type, letter.error) for letter in await engine.dead_letters()}
    assert said["find_lead"] == ("Silent", "[LookupError where it was asked for its words]")
    assert said["keyed"][1] == "the key of step 'keyed' failed: Silent: [LookupError where it was asked for its words]"


async def test_an_invalid_job_is_not_tried_again(world: QueueWorld) -> None:
    """It is a dead letter at once."""

    async def refuse(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise InvalidJob("lead.email: is no address")

    world.behaviour = refuse
    engine = await world.open(LEAD)
    await engine.hand_over("b1", events(1))
    await world.dead()
    (letter,) = await engine.dead_letters()
    assert (letter.id, letter.error_type, letter.attempts) == ("find_lead:e0", "InvalidJob", 1)
    assert letter.error == "lead.email: is no address"


async def test_a_key_that_fails_is_a_dead_letter_and_holds_nobody_up(world: QueueWorld) -> None:
    """The other events of the batch are handled."""

    def key(each: JobEvent) -> str:
        if each.id == "e2":
            return 7  # type: ignore[return-value]
        return str(each.payload["nothing" if each.id == "e1" else "n"])

    engine = await world.open(QueueStep(name="sync", topics=["lead"], key=key))
    await engine.hand_over("b1", events(4))
    await world.dead(2)
    await world.until(lambda: sorted(world.ended) == ["e0", "e3"])
    letters = await engine.dead_letters()
    assert {letter.id: letter.error.partition(": ")[2] for letter in letters} == {
        "sync:e1": "KeyError: 'nothing'",
        "sync:e2": "TypeError: it gave int, not str",
    }


async def test_dead_letters_are_listed_by_step_and_in_pages(world: QueueWorld) -> None:
    """In the order in which their jobs were handed over."""

    async def refuse(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise InvalidJob("no")

    world.behaviour = refuse
    engine = await world.open(LEAD, QueueStep(name="log", topics=["lead"]))
    await engine.hand_over("b1", events(7))
    await world.dead(14)
    pages = [await engine.dead_letters("log", limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [letter.id for page in pages for letter in page] == [f"log:e{n}" for n in range(7)]
    assert [len(page) for page in pages] == [3, 3, 1, 0]


async def test_a_redriven_dead_letter_has_all_its_attempts_again(world: QueueWorld) -> None:
    """With an order too; what is redriven or discarded is no dead letter any more."""
    broken = True

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if broken or attempt < 2:
            raise ConnectionError

    world.behaviour = fail
    step = QueueStep(name="sync", topics=["lead"], key=lambda each: each.owner, attempts=2, backoff_s=0.01)
    engine = await world.open(step)
    await engine.hand_over("b1", events(2))
    await world.dead(2)
    broken = False
    await engine.redrive("sync:e0")
    await world.until(lambda: world.ended == ["e0"])
    assert [call.attempt for call in world.calls if call.ids == ("e0",)] == [1, 2, 1, 2]
    await engine.discard("sync:e1")
    assert await engine.dead_letters() == []
    for job_id in ("sync:e0", "sync:e1", "sync:never"):
        for act in (engine.redrive, engine.discard, engine.dead_letter):
            with pytest.raises(NotFound):
                await act(job_id)


async def test_what_is_redriven_without_a_server_has_all_its_attempts_too(world: QueueWorld) -> None:
    """What was tried before is not held against it."""

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise ConnectionError

    world.behaviour = fail
    step = QueueStep(name="find_lead", topics=["lead"], attempts=3, backoff_s=0.01)
    engine = await world.open(step)
    await engine.hand_over("b1", events(1))
    await world.dead()
    await engine.close()
    with open_letters(world.address) as letters:
        assert letters is not None
        letters.redrive("find_lead:e0")
    await world.open(step)
    await world.dead()
    assert [call.attempt for call in world.calls] == [1, 2, 3, 1, 2, 3]


async def test_an_attempt_past_its_limit_is_cancelled_and_tried_again(world: QueueWorld) -> None:
    """The error says so."""

    async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(60)

    world.behaviour = hang
    engine = await world.open(
        QueueStep(name="find_lead", topics=["lead"], attempts=2, backoff_s=0.01, time_limit_s=0.1)
    )
    await engine.hand_over("b1", events(1))
    await world.dead()
    (letter,) = await engine.dead_letters()
    assert (letter.error_type, letter.error) == ("JobTimeout", "the attempt took longer than 0.1 s")
    assert len(world.calls) == 2
    assert world.running["find_lead"] == 0


async def test_a_handler_that_swallows_its_cancellation_is_not_run_twice_at_once(world: QueueWorld) -> None:
    """The next attempt waits for its end; if it ends well after all, there is none."""
    overlaps = 0

    async def stubborn(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        nonlocal overlaps
        overlaps += world.running["find_lead"] > 2
        for _ in range(3):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
        if batch[0].id == "e0" and attempt == 1:
            raise ConnectionError

    world.behaviour = stubborn
    engine = await world.open(QueueStep(name="find_lead", topics=["lead"], backoff_s=0.01, time_limit_s=0.05))
    await engine.hand_over("b1", events(2))
    await world.idle()
    assert overlaps == 0
    assert sorted((call.ids[0], call.attempt) for call in world.calls) == [("e0", 1), ("e0", 2), ("e1", 1)]


async def test_failed_attempts_are_remembered_by_the_next_process(world: QueueWorld) -> None:
    """And the pause before the next one: a restart is no way around a limit."""

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise ConnectionError

    world.behaviour = fail
    step = QueueStep(name="find_lead", topics=["lead"], attempts=3, backoff_s=1.0)
    engine = await world.open(step)
    await engine.hand_over("b1", events(1))
    await world.until(lambda: failures(world) == 1)
    assert len(world.calls) == 1
    await world.again(step)
    await world.until(lambda: failures(world) == 2)
    assert len(world.calls) == 2
    assert world.calls[1].at_s - world.calls[0].at_s >= 0.5
    engine = await world.again(step)
    await world.dead()
    assert [call.attempt for call in world.calls] == [1, 2, 3]
    assert (await engine.dead_letters())[0].attempts == 3


async def test_jobs_of_a_step_that_is_gone_become_dead_letters_that_say_so(world: QueueWorld) -> None:
    """They can be redriven once it is back."""

    async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(60)

    world.behaviour = hang
    engine = await world.open(LEAD)
    await engine.hand_over("b1", events(50))
    engine = await world.again(QueueStep(name="other", topics=["lead"]), alone=True)
    await world.dead(50)
    letter = await engine.dead_letter("find_lead:e7")
    assert letter.error_type == "UnknownStep"
    assert "find_lead" in letter.error
    assert letter.events == (event("e7"),)
    world.behaviour = None
    engine = await world.again(LEAD)
    await engine.redrive("find_lead:e7")
    await world.idle()
    assert world.ended == ["e7"]


async def test_a_job_whose_result_could_not_be_written_is_done_again(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stay taken for ever."""
    engine = await world.open(LEAD)
    tried = 0
    with monkeypatch.context() as broken:

        def full(*_: object, **__: object) -> bool:
            nonlocal tried
            tried += 1
            raise sqlite3.OperationalError("database or disk is full")

        broken.setattr(SystemDatabase, "update_workflow_outcome", full)
        await engine.hand_over("b1", events(1))
        await world.until(lambda: len(world.calls) == 1)
        await world.until(lambda: tried > 0)
        await asyncio.sleep(0.2)
    await engine.care()
    await asyncio.sleep(0.8)
    assert world.ids() == ["e0"]
    monkeypatch.setattr(engine_runtime, "STRANDED_S", 0.05)
    await engine.care()
    await world.idle()
    assert world.ids() == ["e0", "e0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": " "}, "name"),
        ({"name": "a:b"}, "without colons"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"attempts": 0}, "attempts is 0"),
        ({"time_limit_s": 0}, "time_limit_s"),
        ({"batch": 0}, "batch is 0"),
        ({"topics": "lead"}, "topics is 'lead'"),
        ({"topics": []}, "topics is"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    """With the value, and what would be right."""
    with pytest.raises(ConfigurationError, match=words):
        QueueStep(**({"name": "s", "topics": ["lead"]} | options))  # type: ignore[arg-type]


async def test_a_fault_of_the_queue_is_not_the_jobs(world: QueueWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is done later, and is no dead letter."""
    monkeypatch.setattr(engine_runtime, "STRANDED_S", 0.5)
    right = attempts.JobRunner._run
    faults = iter([StorageUnavailable("away"), RuntimeError("a bug")])

    async def wrong(runner: attempts.JobRunner, job_id: str, work: Work) -> None:
        for fault in faults:
            raise fault
        await right(runner, job_id, work)

    monkeypatch.setattr(attempts.JobRunner, "_run", wrong)
    engine = await world.open(LEAD)
    await engine.hand_over("b1", events(1))
    async with asyncio.timeout(30):
        while not world.ended:
            await asyncio.sleep(0.1)
            await engine.care()
    await world.idle()
    assert world.ended == ["e0"]
    assert await engine.dead_letters() == []

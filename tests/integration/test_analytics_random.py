"""The figures of replies are those of the runs, in whatever order and however often their events are delivered."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from legato.app import open_node
from legato.runs.analytics import Analytics
from legato.runs.events import COMPLETED, FAILED, STOPPED
from legato.runs.feedback import GIVEN
from tests.analytics_world import (
    ANN,
    BEN,
    DAY_MS,
    KEYS,
    MODELS,
    SESSIONS,
    JumpingClock,
    World,
    deliver,
    expected,
    of_session,
    replies,
)
from tests.conftest import node_settings


async def told(analytics: Analytics, since_ms: int, until_ms: int, **asked: Any) -> list[dict[str, Any]]:
    """A report, with costs as numbers."""
    found = [each.as_json() for each in await analytics.report(since_ms, until_ms, **asked)]
    return [each | {"cost": None if each["cost"] is None else Decimal(each["cost"])} for each in found]


async def check(world: World) -> None:
    """Compare every figure with the runs."""
    everything = replies(world)
    latest = max(each.at_ms for each in everything)
    for owner in (ANN, BEN):
        analytics = Analytics(world.node, owner)
        said = [each for each in everything if each.owner == owner.id]
        for by in KEYS:
            assert await told(analytics, 0, latest + 1, by=by) == expected(said, by)
            for model in MODELS:
                some = [each for each in said if each.model == model]
                assert await told(analytics, 0, latest + 1, by=by, model=model) == expected(some, by)
            for session in SESSIONS:
                some = [each for each in said if each.session == session]
                assert await told(analytics, 0, latest + 1, by=by, session_id=session) == expected(some, by)
            for _ in range(5):
                first, last = sorted((world.dice.choice(said).at_ms, world.dice.choice(said).at_ms))
                some = [each for each in said if first <= each.at_ms < last]
                assert await told(analytics, first, last, by=by) == expected(some, by)
                some = [each for each in some if (each.session, each.model) == ("s-1", "other")]
                assert await told(analytics, first, last, by=by, session_id="s-1", model="other") == expected(some, by)
        names = sorted({each.session for each in said})
        assert list(await analytics.sessions(None, 100)) == names
        for name in names:
            some = [each for each in said if each.session == name]
            assert (await analytics.session(name)).as_json() == of_session(name, some)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_figures_are_those_of_the_runs(tmp_path: Path, seed: int) -> None:
    """Every figure, by everything, of every owner, session and model, after each round of deliveries."""
    clock, dice = JumpingClock(), random.Random(seed)
    async with open_node(node_settings(tmp_path, max_waiting_turns=100), clock=clock) as node:
        world = World(node, clock, dice)
        for number in range(3):
            await world.talk(60)
            clock.ahead_ms += dice.randrange(DAY_MS // 2, 2 * DAY_MS)
            if number == 1:
                await world.fork()
            await world.judge()
        events = world.events()
        early = [event for event in events if event.topic == GIVEN][:20]
        assert {event.topic for event in events} == {COMPLETED, FAILED, STOPPED, GIVEN}
        # On these replies there is feedback before anything else is known of them.
        await deliver(node, early, dice)
        await deliver(node, events, dice)
        await check(world)

        await world.delete()
        await check(world)
        left = world.rows("SELECT count(*) AS n FROM reply_count")[0]["n"]
        await deliver(node, events, dice)
        assert world.rows("SELECT count(*) AS n FROM reply_count")[0]["n"] == left
        # The same ids are used once more: what comes of their first lives must not count for the second.
        await world.talk(60)
        await world.judge()
        await deliver(node, world.events(), dice)
        await check(world)

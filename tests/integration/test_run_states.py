"""The states that the rows of runs go through, as the database sees them, beside the table that says which may."""

from __future__ import annotations

import asyncio

import pytest

from legato.core.run import ENDED, TRANSITIONS, RunState
from legato.core.run_errors import UpstreamRefused
from legato.runs.node import Node
from tests.service_world import LateClock, World

NOTE_MOVES = (
    "CREATE TABLE move (before TEXT, after TEXT)",
    "CREATE TRIGGER note_first AFTER INSERT ON run BEGIN INSERT INTO move VALUES (NULL, NEW.state); END",
    "CREATE TRIGGER note_move AFTER UPDATE OF state ON run BEGIN INSERT INTO move VALUES (OLD.state, NEW.state); END",
)


async def test_a_run_moves_only_along_the_table(node: Node) -> None:
    """Whatever happens to runs, their rows change state along an edge of TRANSITIONS alone, and along nearly all."""
    world = World(node, LateClock())
    runs = world.runs()
    for statement in NOTE_MOVES:
        await world.execute(statement)

    await world.say("finished")
    with pytest.raises(UpstreamRefused):
        await runs.reply("script: tokens=2 fail=400@1", conversation_id="failed")
    first, second, third = [
        await runs.start(f"script: tokens=2 {stall}", conversation_id="waiting") for stall in ("stall=1", "", "")
    ]
    await runs.stop(second.run_id)
    await runs.stop(first.run_id)
    async with asyncio.timeout(10):
        async for _ in runs.follow(third.run_id):
            pass
    await world.until_live(0)
    for each in (first, second, third):
        assert (await runs.stop(each.run_id)).state in ENDED

    moves = set(await world.rows("SELECT before, after FROM move"))
    assert moves == {
        (None, "running"),
        (None, "queued"),
        ("running", "finished"),
        ("running", "failed"),
        ("running", "stopped"),
        ("queued", "running"),
        ("queued", "stopped"),
    }
    assert all(after in TRANSITIONS[RunState(before)] for before, after in moves if before is not None)

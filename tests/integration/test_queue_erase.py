"""What is erased of somebody in the queue: their events, out of jobs that others' events are in too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from legato.steps.jobs import QueueStep
from legato.steps.queue_address import QueueAddress
from legato.storage.erasures import Erased
from tests.queue_world import QueueWorld, event

STEP = QueueStep(name="leads", topics=["lead"], batch=5)
OF_ANN = Erased(owners=frozenset(["ann"]), conversations={})


@pytest.fixture
async def world(queue_address: QueueAddress) -> AsyncIterator[QueueWorld]:
    found = QueueWorld(queue_address)
    await found.open(STEP)
    yield found
    await found.engine.close()


def said(world: QueueWorld) -> str:
    """Return all that is known of all jobs."""
    return str(world.rows("*", "workflow_input")) + str(world.rows("*", "workflow_status"))


async def test_a_job_of_several_keeps_others_events(world: QueueWorld) -> None:
    """Also where there is a job of just those already: then the old one goes as a whole."""
    ann, ben, eve = event("a"), event("b", owner="ben"), event("e", owner="eve")
    await world.engine.hand_over("1", [ann])
    await world.engine.hand_over("2", [ann, ben])
    await world.engine.hand_over("3", [ann, eve])
    await world.engine.hand_over("4", [ben])
    await world.idle()
    await world.engine.erase(OF_ANN)
    assert {job for (job,) in world.rows("workflow_uuid", "workflow_status")} == {"leads:b", "leads:e"}
    assert {job for (job,) in world.rows("workflow_uuid", "workflow_input")} == {"leads:b", "leads:e"}
    assert "t-a" not in said(world)
    assert "t-b" in said(world)

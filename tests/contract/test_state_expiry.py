"""The contract of `State`, over every database: times to live, and what has expired."""

from __future__ import annotations

from collections import Counter

import pytest

from legato.core import operations as op
from legato.core.errors import (
    OperationMisfit,
    VersionConflict,
)
from tests.contract.state_backends import World, keys


async def test_a_value_is_gone_when_its_time_is_over(world: World) -> None:
    """To the millisecond, for every reader, before anything has deleted it."""
    state = world.state()
    await state.set("g", "k", 1, ttl_s=1.5)
    await state.set("g2", "k", 1, ttl_s=1.5)
    await state.set("g", "stays", 1)
    found = await state.get_versioned("g", "k")
    assert found is not None
    assert found.expires_at_ms == world.clock.ms + 1500
    world.clock.pass_s(1.499)
    assert await keys(state) == ["k", "stays"]
    assert await state.get("g", "k") == 1
    world.clock.pass_s(0.001)
    assert await state.get("g", "k") is None
    assert await state.get_versioned("g", "k") is None
    assert await keys(state) == ["stays"]
    assert await state.groups() == ("g",)
    assert await state.delete("g", "k") is False
    assert await state.clear("g2") == 0


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("way", ["set", "update", "increment"])
async def test_what_has_expired_is_no_base_of_a_write(world: World, swept: bool, way: str) -> None:
    """Version 0 for whoever compares, nothing for whoever counts, whether its row is still there or not."""
    state = world.state()
    for _ in range(3):
        await state.set("g", "k", {"n": 7}, ttl_s=60)
    world.clock.pass_s(60)
    if swept:
        assert await world.sweep() == 1
    with pytest.raises(VersionConflict) as caught:
        await state.set("g", "k", 1, if_version=3)
    assert caught.value.found == 0
    with pytest.raises(VersionConflict):
        await state.delete("g", "k", if_version=3)
    with pytest.raises(OperationMisfit):
        await state.update("g", "k", op.remove("n"))
    if way == "set":
        assert await state.set("g", "k", {"n": 1}, if_version=0) == 1
    else:
        done = await state.update("g", "k", op.increment("n"), if_version=0 if way == "update" else None)
        assert (done.changes, done.version) == (((None, 1),), 1)
    found = await state.get_versioned("g", "k")
    assert found is not None
    assert (found.value, found.version, found.expires_at_ms) == ({"n": 1}, 1, None)
    assert await world.sweep() == 0


async def test_a_set_begins_its_time_anew_and_an_update_keeps_it(world: World) -> None:
    """Unless the update brings one: then it counts from now."""
    state = world.state()
    start_ms = world.clock.ms

    async def left_s() -> float | None:
        found = await state.get_versioned("g", "k")
        assert found is not None
        return None if found.expires_at_ms is None else (found.expires_at_ms - start_ms) / 1000

    await state.set("g", "k", {}, ttl_s=60)
    world.clock.pass_s(10)
    await state.update("g", "k", op.increment("n"))
    assert await left_s() == 60
    await state.update("g", "k", op.increment("n"), ttl_s=60)
    assert await left_s() == 70
    await state.set("g", "k", {}, ttl_s=5)
    assert await left_s() == 15
    await state.set("g", "k", {})
    assert await left_s() is None
    await state.update("g", "new", op.increment("n"), ttl_s=1)
    world.clock.pass_s(1)
    assert await state.get("g", "new") is None


async def test_what_has_expired_is_deleted_in_pages(world: World) -> None:
    """The longest ago first, of every owner, and nothing that lives."""
    for number in range(10):
        await world.state(f"owner {number % 3}").set("g", f"k{number}", 1, ttl_s=number + 1)
        await world.state(f"owner {number % 3}").set("g", f"stays{number}", 1)
    world.clock.pass_s(8)
    assert [await world.sweep(3) for _ in range(4)] == [3, 3, 2, 0]
    left = Counter[str]()
    for number in range(3):
        left.update(key.rstrip("0123456789") for key in await keys(world.state(f"owner {number}")))
    assert left == {"stays": 10, "k": 2}

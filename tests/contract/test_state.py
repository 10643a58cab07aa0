"""The contract of `State`, over every database: values, versions, updates, lists, times to live, owners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from legato.core import operations as op
from legato.core.errors import (
    InvalidRequest,
    InvalidValue,
    LegatoError,
    OperationMisfit,
    ValueTooLarge,
    VersionConflict,
)
from legato.core.json_value import MAX_VALUE_BYTES
from legato.storage.state import MAX_OPERATIONS, State
from legato.storage.state_rows import MAX_KEY_BYTES
from tests.contract.state_backends import OpenWorld, World, keys

WRITERS = 50
"""In the order of their code points: not a dictionary's order, nor UTF-16's."""


# Values and versions


async def test_a_key_that_was_never_set_is_absent(state: State) -> None:
    """None, nothing to delete, an empty page."""
    assert await state.get("g", "k") is None
    assert await state.get_versioned("g", "k") is None
    assert await state.delete("g", "k") is False
    assert (await state.list("g")).entries == ()
    assert await state.clear("g") == 0
    assert await state.groups() == ()


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**63 - 1,
        1.0,
        -0.0,
        5e-324,
        1e16,
        "",
        "é\u2028\x7f😀",
        [],
        {},
        {"": [{"b": 1, "a": [None]}]},
    ],
    ids=ascii,
)
async def test_a_value_is_read_back_as_it_was_set(state: State, value: Any) -> None:
    """Kinds of number, the order of members and every character; alone, in a list and by an update."""
    await state.set("g", "k", value)
    await state.update("g", "u", op.set("a", value))
    assert repr(await state.get("g", "k")) == repr(value)
    assert repr([entry.value for entry in (await state.list("g")).entries]) == repr([value, {"a": value}])


async def test_a_null_is_told_from_nothing(state: State) -> None:
    """By its version."""
    await state.set("g", "k", None)
    found = await state.get_versioned("g", "k")
    assert found is not None
    assert (found.value, found.version) == (None, 1)
    assert await state.delete("g", "k") is True


async def test_versions_count_each_write(state: State) -> None:
    """From 1, by sets and updates alike, also where nothing changed; from 1 again after a deletion."""
    assert [await state.set("g", "k", 1) for _ in range(3)] == [1, 2, 3]
    assert (await state.update("g", "k", op.increment(""))).version == 4
    assert await state.delete("g", "k") is True
    assert await state.delete("g", "k") is False
    assert await state.set("g", "k", 1) == 1


@pytest.mark.parametrize(
    "value",
    [
        *[(1,), {1}, b"x", float("nan"), {1: 2}, "\ud800", "\x00", 2**63],
        pytest.param([{"a": object()}], id="an object inside"),
    ],
    ids=ascii,
)
async def test_what_is_not_json_is_refused_where_it_is_set(state: State, value: Any) -> None:
    """And what was there stays."""
    await state.set("g", "k", "old")
    with pytest.raises(InvalidValue):
        await state.set("g", "k", value)
    with pytest.raises(InvalidValue):
        await state.update("g", "k", op.set("", value))
    found = await state.get_versioned("g", "k")
    assert found is not None
    assert (found.value, found.version) == ("old", 1)


async def test_a_value_is_what_it_was_when_it_was_set(state: State) -> None:
    """Changing it while it is on its way to the disk changes nothing."""
    value = [1]
    setting = asyncio.ensure_future(state.set("g", "k", value))
    updating = asyncio.ensure_future(state.update("g", "u", op.append("", value)))
    await asyncio.sleep(0)
    value.append(2)
    await asyncio.gather(setting, updating)
    assert (await state.get("g", "k"), await state.get("g", "u")) == ([1], [[1]])


async def test_an_update_may_not_grow_a_value_too_long(state: State) -> None:
    """What would become too long is refused, what is there stays."""
    await state.set("g", "k", ["x" * (MAX_VALUE_BYTES - 20)])
    with pytest.raises(ValueTooLarge):
        await state.update("g", "k", op.append("", "y" * 20))
    assert len(await state.get("g", "k")) == 1


async def test_state_outlives_the_process(open_world: OpenWorld) -> None:
    """What was acknowledged is there when the database is opened again."""
    async with open_world() as world:
        await world.state().set("g", "k", {"a": 1})
    async with open_world() as world:
        assert (await world.state().update("g", "k", op.increment("a"))).version == 2


# Compare and set


@pytest.mark.parametrize("writes", [0, 1, 3])
@pytest.mark.parametrize("asked", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("way", ["set", "update", "delete"])
async def test_a_write_for_a_version_needs_that_version(state: State, writes: int, asked: int, way: str) -> None:
    """0 is the version of what is absent; a refusal tells both versions and changes nothing."""
    for number in range(writes):
        await state.set("g", "k", number)
    before = await state.get_versioned("g", "k")
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "set": lambda: state.set("g", "k", "new", if_version=asked),
        "update": lambda: state.update("g", "k", op.set("", "new"), if_version=asked),
        "delete": lambda: state.delete("g", "k", if_version=asked),
    }
    if asked == writes:
        await ways[way]()
        assert await state.get("g", "k") == (None if way == "delete" else "new")
        return
    with pytest.raises(VersionConflict) as caught:
        await ways[way]()
    assert (caught.value.wanted, caught.value.found) == (asked, writes)
    assert await state.get_versioned("g", "k") == before


async def test_of_many_that_write_for_one_version_one_wins(state: State) -> None:
    """Each round exactly one, whose value it is."""
    for version in range(5):
        done = await asyncio.gather(
            *(state.set("g", "k", number, if_version=version) for number in range(WRITERS)), return_exceptions=True
        )
        winners = [number for number, each in enumerate(done) if each == version + 1]
        assert len(winners) == 1
        assert sum(isinstance(each, VersionConflict) for each in done) == WRITERS - 1
        assert await state.get("g", "k") == winners[0]


# Updates


async def test_an_update_makes_what_is_absent_and_answers_old_and_new(state: State) -> None:
    """The key, the objects on the way, and a change for each operation, alone or in lists."""
    done = await state.update("g", "k", op.increment("n.total", 2), [op.append("log", "a"), op.set("by", "ann")])
    assert done.changes == ((None, 2), (None, ["a"]), (None, "ann"))
    assert done.version == 1
    done = await state.update("g", "k", [op.decrement("n.total"), op.remove("log.0")])
    assert [(change.old, change.new) for change in done.changes] == [(2, 1), ("a", None)]
    assert json.dumps(await state.get("g", "k")) == '{"n": {"total": 1}, "log": [], "by": "ann"}'


@pytest.mark.parametrize("misfit", [op.increment("name"), op.remove("x"), op.set("name.x", 1), op.append("n", 1)])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_update_is_done_whole_or_not_at_all(state: State, misfit: op.Operation, place: int) -> None:
    """Wherever the operation stands that does not fit; another's update of the same moment is done."""
    await state.set("g", "k", {"n": 1, "name": "ann"})
    wanted: list[op.Operation] = [op.increment("n"), op.merge("m", {"a": 1})]
    wanted.insert(place, misfit)
    refused, done = await asyncio.gather(
        state.update("g", "k", wanted), state.update("g", "other", op.increment("n")), return_exceptions=True
    )
    assert isinstance(refused, OperationMisfit)
    assert not isinstance(done, BaseException)
    found = await state.get_versioned("g", "k")
    assert found is not None
    assert (found.value, found.version) == ({"n": 1, "name": "ann"}, 1)
    assert await state.get("g", "other") == {"n": 1}


async def test_an_update_that_does_not_fit_makes_no_key(state: State) -> None:
    """Nor a version of one."""
    with pytest.raises(OperationMisfit):
        await state.update("g", "k", op.set("a", 1), op.remove("b"))
    assert await state.get_versioned("g", "k") is None


async def test_increments_at_once_lose_nothing(state: State) -> None:
    """Fifty writers, every increment counted once, every answer and version given once."""
    rounds = 20

    async def count(writer: int) -> list[tuple[Any, Any, int]]:
        found = []
        for _ in range(rounds):
            done = await state.update("g", "k", op.increment("total"), op.increment(["by", str(writer)]))
            found.append((done.changes[0].old, done.changes[0].new, done.version))
        return found

    answers = [answer for each in await asyncio.gather(*map(count, range(WRITERS))) for answer in each]
    total = WRITERS * rounds
    assert await state.get("g", "k") == {"total": total, "by": {str(each): rounds for each in range(WRITERS)}}
    assert sorted(new for _, new, _ in answers) == list(range(1, total + 1))
    assert all((old or 0) + 1 == new == version for old, new, version in answers)


async def test_a_writer_reads_what_it_has_written(state: State) -> None:
    """At once, on whatever connection it is read."""
    for number in range(30):
        await state.set("g", "k", number)
        assert await state.get("g", "k") == number


# Owners, names and arguments


async def test_no_owner_meets_another_s_state(world: World) -> None:
    """Neither by reading, nor by writing, listing, clearing or comparing; names that look alike are others'."""
    ann, others = world.state("ann"), [world.state(name) for name in ("ben", "an", "ann ", "Ann", "%", "app")]
    await ann.set("g", "k", "ann's")
    for other in others:
        assert await other.get("g", "k") is None
        assert await other.delete("g", "k") is False
        assert await other.clear("g") == 0
        assert (await other.list("g")).entries == ()
        assert await other.groups() == ()
        with pytest.raises(VersionConflict) as caught:
            await other.set("g", "k", 1, if_version=1)
        assert caught.value.found == 0
        assert await other.set("g", "k", other.owner, if_version=0) == 1
        assert (await other.update("g", "n", op.increment(""))).version == 1
    found = await ann.get_versioned("g", "k")
    assert found is not None
    assert (found.value, found.version) == ("ann's", 1)
    assert await keys(ann) == ["k"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda state: state.get("", "k"), "group"),
        (lambda state: state.set("x" * 201, "k", 1), "group"),
        (lambda state: state.update("g\n", "k", op.increment("")), "group"),
        (lambda state: state.list("\ud800"), "group"),
        (lambda state: state.list(None), "group"),
        (lambda state: state.clear(""), "group"),
        (lambda state: state.get(None, "k"), "group"),
        (lambda state: state.get("g", ""), "key"),
        (lambda state: state.get("g", "\x00"), "key"),
        (lambda state: state.get("g", "é" * (MAX_KEY_BYTES // 2) + "e"), "key"),
        (lambda state: state.get("g", 5), "key"),
        (lambda state: state.set("g", "k", 1, ttl_s=0), "ttl_s"),
        (lambda state: state.set("g", "k", 1, ttl_s=-1), "ttl_s"),
        (lambda state: state.set("g", "k", 1, ttl_s=float("nan")), "ttl_s"),
        (lambda state: state.set("g", "k", 1, ttl_s=float("inf")), "ttl_s"),
        (lambda state: state.set("g", "k", 1, ttl_s=True), "ttl_s"),
        (lambda state: state.update("g", "k", op.increment(""), ttl_s="60"), "ttl_s"),
        (lambda state: state.set("g", "k", 1, if_version=-1), "if_version"),
        (lambda state: state.delete("g", "k", if_version="1"), "if_version"),
        (lambda state: state.delete("g", "k", if_version=True), "if_version"),
        (lambda state: state.update("g", "k"), "operations"),
        (lambda state: state.update("g", "k", []), "operations"),
        (lambda state: state.update("g", "k", {"type": "increment"}), "operations"),
        (lambda state: state.update("g", "k", "set"), "operations"),
        (lambda state: state.update("g", "k", [op.increment("")] * (MAX_OPERATIONS + 1)), "operations"),
        (lambda state: state.list("g", limit=0), "limit"),
        (lambda state: state.list("g", limit=1001), "limit"),
        (lambda state: state.groups(limit=2.0), "limit"),
        (lambda state: state.list("g", after="\n"), "after"),
        (lambda state: state.list("g", prefix="\ud800"), "prefix"),
        (lambda state: state.groups(after=""), "after"),
    ],
)
async def test_a_wrong_argument_is_named(state: State, call: Callable[[Any], Awaitable[Any]], field: str) -> None:
    """Whatever its type; nothing was done."""
    with pytest.raises(InvalidRequest) as caught:
        await call(state)
    assert [each.field for each in caught.value.fields] == [field]
    assert await state.groups() == ()


async def test_names_up_to_their_bounds_are_taken(world: World) -> None:
    """The longest owner, group and key together, of the longest characters."""
    state = world.state("😀" * 200)
    group, key = "😀" * 200, "😀" * (MAX_KEY_BYTES // 4)
    await state.update(group, key, [op.increment("n")] * MAX_OPERATIONS)
    assert await keys(state, group) == [key]
    assert await state.groups() == (group,)


@pytest.mark.parametrize("owner", ["", "a\n", None, "x" * 201])
def test_nobody_is_no_owner(owner: Any) -> None:
    """A state without an owner cannot be made."""
    with pytest.raises(LegatoError):
        State(None, None, None, owner)  # type: ignore[arg-type]

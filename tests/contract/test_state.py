"""The contract of `State`, over every database: values, versions, updates, lists, times to live, owners."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
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
from legato.storage.state_rows import DELETE_ROWS, MAX_KEY_BYTES, PAGE_BYTES
from tests.contract.state_backends import BACKENDS, OpenWorld, World

WRITERS = 50
KEYS = ["A", "Z", "a", "a b", "a.b", "a/b", "aa", "é", "日", "\uffed", "😀"]
"""In the order of their code points: not a dictionary's order, nor UTF-16's."""


@pytest.fixture(params=BACKENDS.values(), ids=list(BACKENDS))
def open_world(request: pytest.FixtureRequest) -> OpenWorld:
    found: OpenWorld = request.param
    return found


@pytest.fixture
async def world(open_world: OpenWorld, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


@pytest.fixture
def state(world: World) -> State:
    return world.state()


async def keys(state: State, group: str = "g", **options: Any) -> list[str]:
    return [entry.key for entry in (await state.list(group, **options)).entries]


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
    "value", [(1,), {1}, b"x", float("nan"), {1: 2}, "\ud800", "\x00", 2**63, [{"a": object()}]], ids=ascii
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


async def test_state_outlives_the_process(open_world: OpenWorld, tmp_path: Path) -> None:
    """What was acknowledged is there when the database is opened again."""
    async with open_world(tmp_path) as world:
        await world.state().set("g", "k", {"a": 1})
    async with open_world(tmp_path) as world:
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


# Lists


async def test_a_list_is_in_the_order_of_the_keys(state: State) -> None:
    """Of their code points, with values and versions, whatever the order of setting."""
    for key in KEYS[::-1]:
        await state.set("g", key, {"is": key})
    await state.set("g", "a", "again")
    page = await state.list("g")
    assert [entry.key for entry in page.entries] == KEYS == sorted(KEYS)
    assert page.next is None
    assert [(each.value, each.version) for each in page.entries if each.key in ("a", "aa")] == [
        ("again", 2),
        ({"is": "aa"}, 1),
    ]


@pytest.mark.parametrize("number", [0, 1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("limit", [1, 2, 16, 100])
async def test_pages_hold_every_key_once(state: State, number: int, limit: int) -> None:
    """Full ones but for the last, and the last says that it is."""
    wanted = [f"k{each:03}" for each in range(number)]
    await asyncio.gather(*(state.set("g", key, 1) for key in wanted))
    found: list[str] = []
    after = None
    while True:
        page = await state.list("g", after=after, limit=limit)
        found += [entry.key for entry in page.entries]
        if page.next is None:
            break
        assert len(page.entries) == limit
        after = page.next
    assert found == wanted


async def test_a_cursor_holds_while_keys_come_and_go(state: State) -> None:
    """Also when its own key is gone; what lies behind it is seen, what came before it is not."""
    for key in "bdfh":
        await state.set("g", key, 1)
    page = await state.list("g", limit=2)
    assert page.next == "d"
    for key in "ace":
        await state.set("g", key, 1)
    await state.delete("g", "d")
    assert await keys(state, after=page.next) == ["e", "f", "h"]


@pytest.mark.parametrize(
    ("prefix", "after", "wanted"),
    [
        ("a", None, ["a", "a b", "a.b", "a/b", "aa"]),
        ("a", "a.b", ["a/b", "aa"]),
        ("a", "A", ["a", "a b", "a.b", "a/b", "aa"]),
        ("a", "é", []),
        ("a.b", None, ["a.b"]),
        ("", None, KEYS),
        ("%", None, []),
        ("_", None, []),
        ("😀", None, ["😀"]),
        (None, "😀", []),
        (None, "a", KEYS[3:]),
    ],
)
async def test_a_prefix_is_taken_literally(
    state: State, prefix: str | None, after: str | None, wanted: list[str]
) -> None:
    """No sign of a pattern counts; it goes together with a cursor on either side of it."""
    for key in KEYS:
        await state.set("g", key, 1)
    assert await keys(state, prefix=prefix, after=after) == wanted


async def test_a_page_of_long_values_ends_early(state: State) -> None:
    """Behind the value with which it is long enough; the rest follows."""
    long = "x" * 1_000_000
    for number in range(8):
        await state.set("g", f"k{number}", long)
    first = await state.list("g")
    assert len(first.entries) == -(-PAGE_BYTES // len(long))
    rest = await state.list("g", after=first.next)
    assert (len(first.entries) + len(rest.entries), rest.next) == (8, None)


async def test_groups_are_named_in_order(state: State) -> None:
    """Once each, however many keys they have; in pages; without those that are empty."""
    for group in KEYS:
        for key in ("1", "2", "3"):
            await state.set(group, key, 1)
    assert await state.groups() == tuple(KEYS)
    assert await state.groups(limit=3) == tuple(KEYS[:3])
    assert await state.groups(after=KEYS[2], limit=3) == tuple(KEYS[3:6])
    assert await state.groups(prefix="a", after="a", limit=2) == ("a b", "a.b")
    assert await state.clear("a.b") == 3
    assert "a.b" not in await state.groups()


@pytest.mark.parametrize("number", [0, 1, DELETE_ROWS - 1, DELETE_ROWS, DELETE_ROWS + 1, 2 * DELETE_ROWS + 5])
async def test_clear_deletes_a_group_and_counts(world: World, number: int) -> None:
    """All of it, in however many pages, and nothing beside it; what has expired is not counted."""
    state = world.state()
    await asyncio.gather(*(state.set("g", f"k{each}", 1, ttl_s=None if each % 2 else 60) for each in range(number)))
    await asyncio.gather(state.set("g2", "k", 1), state.set("f", "k", 1), world.state("ben").set("g", "k", 1))
    world.clock.pass_s(60)
    assert await state.clear("g") == number // 2
    assert await keys(state) == []
    assert await world.sweep(1000) == 0
    assert await state.groups() == ("f", "g2")
    assert await world.state("ben").get("g", "k") == 1


# Time to live


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

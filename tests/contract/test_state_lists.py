"""The contract of `State`, over every database: lists in pages, groups, clearing."""

from __future__ import annotations

import asyncio

import pytest

from legato.storage.state import State
from legato.storage.state_rows import DELETE_ROWS, PAGE_BYTES
from tests.contract.state_backends import World, keys

KEYS = ["A", "Z", "a", "a b", "a.b", "a/b", "aa", "é", "日", "\uffed", "😀"]


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

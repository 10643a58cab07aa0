"""Sealed rows: each opens at its own place alone, and what is not sealed is not taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from legato.core.errors import SealBroken
from legato.core.event import SCHEMA_VERSION
from legato.core.principal import Principal
from legato.runs.exports import Exports
from legato.runs.follow import find_tail
from legato.runs.search import Search, write_next
from legato.storage import sealed_copies
from legato.storage.codec import SEGMENT_FORMAT
from legato.storage.root_keys import parse_root_keys
from legato.storage.sealed_logs import SEALED_SEGMENT_FORMAT, read_items, seal_items
from legato.storage.sealing import MOST_KEYS, TAG, Nonces, Sealing, place_of
from legato.storage.statement import Transaction
from tests.conftest import OpenNode
from tests.service_world import ANN, LateClock, World

KEYS = "one:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
async def world(open_test_node: OpenNode) -> AsyncIterator[World]:
    """A node on an encrypted database, with two conversations of a message and a reply each."""
    async with open_test_node(encryption_keys=KEYS) as node:
        world = World(node, LateClock())
        for name in ("a", "b"):
            await world.say(name, script="tokens=3", system_prompt=f"prompt {name}")
        yield world


async def every_message(world: World, *names: str) -> None:
    """Read conversations from end to end."""
    for name in names:
        export = await Exports(world.node, ANN).open(name)
        assert [message async for message in export.all_messages()]


async def texts(world: World, name: str) -> list[str]:
    """Return what a conversation says, by the service."""
    page = await world.conversations().messages(name)
    return [part["text"] for message in page.messages for part in message.parts]


async def test_all_that_was_said_is_read_again(world: World) -> None:
    """By whoever has the keys; what is stored of it is sealed."""
    assert await texts(world, "a") == ["script: tokens=3", *(await texts(world, "b"))[1:]]
    stored = await world.rows("SELECT parts FROM message UNION ALL SELECT title FROM conversation")
    stored += await world.rows("SELECT request FROM run")
    assert len(stored) == 4 + 2 + 2
    assert all(value.startswith(TAG) for (value,) in stored)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        (
            "messages of one conversation",
            "UPDATE message SET parts = (SELECT other.parts FROM message AS other WHERE other.conversation_key = "
            "message.conversation_key AND other.depth = 3 - message.depth) WHERE conversation_key = 1",
        ),
        (
            "messages of two conversations",
            "UPDATE message SET parts = (SELECT other.parts FROM message AS other WHERE other.depth = message.depth "
            "AND other.conversation_key = 2) WHERE conversation_key = 1",
        ),
        (
            "a message into another conversation",
            "UPDATE message SET conversation_key = 2, depth = 7 WHERE conversation_key = 1 AND depth = 2",
        ),
        ("parts into another column", "UPDATE message SET metadata = parts WHERE conversation_key = 1"),
        (
            "a text that was cut",
            "UPDATE message SET parts = substr(parts, 1, length(parts) - 8) WHERE conversation_key = 1",
        ),
        ("plain text", """UPDATE message SET parts = '[{"type":"text","text":"planted"}]' WHERE depth = 2"""),
        ("data keys", "UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE conversation_key = 2)"),
        ("no data key", "DELETE FROM data_key WHERE conversation_key = 1"),
    ],
)
async def test_what_was_moved_or_changed_does_not_open(world: World, what: str, change: str) -> None:
    """Neither at another row, column or conversation, nor under another key: an error, never a text."""
    await world.execute(change)
    await forget_keys(world)
    with pytest.raises(SealBroken):
        await every_message(world, "a", "b")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE conversation SET title = (SELECT title FROM conversation AS other WHERE other.key = 2) WHERE key = 1",
        "UPDATE conversation SET title = system_prompt WHERE key = 1",
        "UPDATE conversation SET title = 'planted' WHERE key = 1",
    ],
)
async def test_a_conversation_takes_no_text_of_another_place(world: World, change: str) -> None:
    """Its title is its own."""
    await world.conversations().change("a", system_prompt="mine")
    await world.execute(change)
    with pytest.raises(SealBroken):
        await world.conversations().get("a")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE run_log SET data = (SELECT data FROM run_log WHERE run_key = 2) WHERE run_key = 1",
        "UPDATE run_log SET count = count - 1 WHERE run_key = 1",
        "UPDATE run_log SET format = 2 WHERE run_key = 1",
    ],
)
async def test_a_packed_log_opens_at_its_run_alone(world: World, change: str) -> None:
    """The log of another run, one that was cut, or one that says it is plain is refused."""
    run_id = (await world.rows("SELECT id FROM run WHERE key = 1"))[0][0]
    assert len((await find_tail(world.node, ANN, run_id)).log)
    await world.execute(change)
    with pytest.raises(SealBroken):
        await find_tail(world.node, ANN, run_id)


async def test_a_piece_of_a_log_opens_at_its_seq_alone(world: World) -> None:
    """Neither at another seq, epoch or run, nor as one that says it is plain."""

    def write(tx: Transaction) -> None:
        data = seal_items(tx, 1, 5, 0, ["said"])
        assert read_items(tx, 1, 5, 0, SCHEMA_VERSION, SEALED_SEGMENT_FORMAT, data) == ["said"]
        for run_key, first_seq, epoch, form in ((1, 6, 0, 4), (1, 5, 1, 4), (2, 5, 0, 4), (1, 5, 0, SEGMENT_FORMAT)):
            with pytest.raises(SealBroken):
                read_items(tx, run_key, first_seq, epoch, SCHEMA_VERSION, form, data)

    await world.node.committer.write(write)


async def test_a_deleted_conversation_leaves_no_key(world: World) -> None:
    """Neither in the database nor in memory: a copy of its rows is of no use, and the next one has a key of its own."""
    kept = await world.rows("SELECT id, parts FROM message WHERE conversation_key = 2 ORDER BY depth")
    wrapped = (await world.rows("SELECT wrapped FROM data_key WHERE conversation_key = 2"))[0][0]
    sealing = world.node.database.sealing
    assert sealing is not None
    assert sealing.known(2) is not None
    await world.conversations().delete("b")
    assert await world.rows("SELECT key FROM data_key WHERE conversation_key = 2") == []
    assert sealing.known(2) is None
    await world.say("c", script="tokens=3")
    # SQLite has given its key to the next one.
    assert await world.rows("SELECT key FROM conversation WHERE id = 'c'") == [(2,)]
    assert await texts(world, "c") == await texts(world, "a")
    assert wrapped not in [row[0] for row in await world.rows("SELECT wrapped FROM data_key")]
    for depth, (row_id, parts) in enumerate(kept, 1):
        there = f"conversation_key = 2 AND depth = {depth}"
        await world.execute(f"UPDATE message SET id = ?, parts = ? WHERE {there}", row_id, parts)
    with pytest.raises(SealBroken):
        await every_message(world, "c")


async def test_a_row_from_before_may_be_plain_and_a_later_one_may_not(open_test_node: OpenNode) -> None:
    """It is not its look that decides, but what was noted when encryption was turned on."""
    async with open_test_node() as node:
        await World(node, LateClock()).say("old", script="tokens=2")
    async with open_test_node(encryption_keys=KEYS) as node:
        world = World(node, LateClock())
        before = await texts(world, "old")
        assert before[0] == "script: tokens=2"
        await world.say("old", script="tokens=1")
        assert (await texts(world, "old"))[:2] == before
        states = await world.rows("SELECT substr(parts, 1, 1) FROM message ORDER BY key")
        assert [state for (state,) in states] == ["[", "[", TAG[0], TAG[0]]
        await world.execute("UPDATE message SET parts = '[]' WHERE depth = 4")
        with pytest.raises(SealBroken, match="is not sealed, and was not there before"):
            await texts(world, "old")


async def test_search_finds_whole_words_of_an_owner(world: World) -> None:
    """Not beginnings, and nobody else's; the index holds no word."""
    ben = Principal(id="ben", role="member")
    await world.runs(ben).reply("script: tokens=1 whale", conversation_id="b1")
    await world.runs(ANN).reply("script: tokens=1 whale ocean", conversation_id="a1")
    while await write_next(world.node):
        pass
    for query, found in (("whale", 1), ("WHALE", 1), ("whale ocean", 1), ('"ocean whale"', 1), ("whal", 0), ("sea", 0)):
        page = await Search(world.node, ANN).find(query)
        # In the message, and in the title that is made of it.
        assert len(page.results) == 2 * found, query
    assert "whale" in (await Search(world.node, ben).find("whale")).results[0].snippet
    rows = await world.rows("SELECT owner, words FROM search_entry")
    words: dict[str, set[str]] = {owner: set() for owner, _ in rows}
    for owner, each in rows:
        assert "whale" not in each
        words[owner] |= set(each.split(" "))
    # Not even that two owners use one word.
    assert not words["ann"] & words["ben"]


async def test_nonces_do_not_repeat() -> None:
    """Over threads, and over the end of a count."""
    nonces = Nonces()
    found = await asyncio.gather(*(asyncio.to_thread(lambda: [nonces.next() for _ in range(500)]) for _ in range(8)))
    flat = [nonce for each in found for nonce in each]
    assert len(set(flat)) == 4000
    nonces._count = 2**32 - 1
    last, first = nonces.next(), nonces.next()
    assert last[:8] != first[:8]


def test_data_keys_are_held_up_to_a_bound() -> None:
    """And none that was dropped since whoever holds it began."""
    roots = parse_root_keys(KEYS)
    assert roots is not None
    sealing = Sealing(roots)
    key = sealing.make()[1]
    sealing.hold([(number, key) for number in range(1, MOST_KEYS + 10)], seen=sealing.generation)
    assert sealing.known(1) is None
    assert sealing.known(MOST_KEYS) is key
    seen = sealing.generation
    sealing.drop([MOST_KEYS])
    sealing.hold([(MOST_KEYS, key)], seen=seen)
    assert sealing.known(MOST_KEYS) is None


def test_a_place_is_told_from_every_other() -> None:
    """Whatever its parts hold."""
    places = [("a.b", "c"), ("a", "b", "c"), ("a.b", "c", ""), ("a.b", "", "c"), ("a.b1:c",), ("a.b", "1:c")]
    assert len({place_of(*each) for each in places}) == len(places)


async def forget_keys(world: World) -> None:
    """Have the node look its data keys up again."""
    sealing = world.node.database.sealing
    assert sealing is not None
    sealing.drop(list(sealing._keys))


async def test_a_path_is_copied_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is; each message is sealed for its new place."""
    monkeypatch.setattr(sealed_copies, "PAGE", 3)
    for number in range(3):
        await world.say("a", script=f"tokens=1 seed={number}")
    page = await world.conversations().messages("a")
    await world.conversations().fork("a", message_id=page.messages[-1].id, copy_id="f")
    assert await texts(world, "f") == await texts(world, "a")
    assert len(await texts(world, "f")) == 8

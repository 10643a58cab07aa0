"""The message log: every message found by conversation, session and time, in pages that lose and repeat none."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from legato.core.errors import InvalidRequest
from legato.core.resources import Message
from legato.providers.scripted import reply
from legato.runs.node import Node
from legato.storage.statement import Transaction
from tests.service_world import ANN, BEN, LateClock, World
from tests.statements import execute, query


@pytest.fixture
async def world(node: Node) -> World:
    return World(node, LateClock())


def fill(tx: Transaction) -> None:
    """Two owners, three conversations each, 18 messages a conversation; the times are few, so that most are equal."""
    for owner, name in itertools.product(("ann", "ben"), "abc"):
        execute(
            tx,
            "INSERT INTO conversation (owner, id, title, title_source, leaf_depth, next_turn, message_count,"
            " created_at_ms, last_message_at_ms) VALUES (?, ?, '', 'words', 0, 1, 18, 0, 0)",
            *(owner, name),
        )
        ((key,),) = query(tx, "SELECT key FROM conversation WHERE owner = ? AND id = ?", owner, name)
        for number in range(18):
            # Branches of three, and times that do not follow the order of writing.
            execute(
                tx,
                "INSERT INTO message (id, conversation_key, owner, branch, depth, role, parts, status, session_id,"
                " created_at_ms) VALUES (?, ?, ?, ?, ?, 'user', '[]', 'complete', ?, ?)",
                *(
                    f"{owner}-{name}-{number}",
                    key,
                    owner,
                    f"{owner}-{name}-{number - number % 3}",
                    number % 3 + 1,
                    (None, "s1", "s2")[number % 3],
                    1000 + (number * 7) % 5,
                ),
            )


async def all_pages(world: World, limit: int, **wanted: Any) -> list[Message]:
    """Every page of a log, one behind the other."""
    found: list[Message] = []
    cursor = None
    while True:
        page = await world.conversations().log(cursor=cursor, limit=limit, **wanted)
        assert len(page.messages) == limit or page.next_cursor is None
        found += page.messages
        if (cursor := page.next_cursor) is None:
            return found


FILTERS = [
    {"conversation_id": conversation, "session_id": session, "since_ms": since, "until_ms": until}
    for conversation, session, (since, until) in itertools.product(
        (None, "b"), (None, "s1"), ((None, None), (1002, None), (None, 1003), (1001, 1004), (1003, 1003))
    )
]


@pytest.mark.parametrize("wanted", FILTERS, ids=lambda each: "-".join(str(value) for value in each.values()))
@pytest.mark.parametrize("limit", [1, 4, 18, 100])
async def test_any_combination_is_found_in_pages(world: World, wanted: dict[str, Any], limit: int) -> None:
    """Each message that fits once, by time, and by the order of writing where times are equal; `until_ms` excluded."""
    await world.node.committer.write(fill)
    rows = await world.rows(
        "SELECT message.id, conversation.id FROM message JOIN conversation ON conversation.key = conversation_key"
        " WHERE message.owner = 'ann' AND (?1 IS NULL OR conversation.id = ?1) AND (?2 IS NULL OR session_id = ?2)"
        " AND (?3 IS NULL OR message.created_at_ms >= ?3) AND (?4 IS NULL OR message.created_at_ms < ?4)"
        " ORDER BY message.created_at_ms, message.key",
        *wanted.values(),
    )
    found = await all_pages(world, limit, **wanted)
    assert [(each.id, each.conversation_id) for each in found] == rows
    assert bool(rows) == (wanted["since_ms"] != 1003)


async def test_what_comes_meanwhile_is_on_a_later_page(world: World) -> None:
    """Whoever reads on from the last cursor sees what was written since, and nothing twice."""
    await world.node.committer.write(fill)
    first = await world.conversations().log(limit=50)
    assert first.next_cursor is not None
    await world.say("new", script="seed=3 tokens=2")
    rest = await world.conversations().log(cursor=first.next_cursor, limit=50)
    assert [each.text for each in rest.messages[-2:]] == ["script: seed=3 tokens=2", reply(3, 2)]
    assert not {each.id for each in first.messages} & {each.id for each in rest.messages}
    assert len(first.messages) + len(rest.messages) == 3 * 18 + 2


async def test_all_branches_are_in_it(world: World) -> None:
    """Also those that are not active: an edit, and a further reply."""
    for seed, options in ((1, {}), (2, {"parent_id": None}), (3, {})):
        await world.runs().reply(f"script: seed={seed} tokens=2", conversation_id="c", **options)
    assert len((await world.conversations().messages("c")).messages) == 4
    logged = (await world.conversations().log(conversation_id="c")).messages
    assert [each.text for each in logged if each.role == "assistant"] == [reply(seed, 2) for seed in (1, 2, 3)]
    assert logged[0].created_at_ms <= logged[1].created_at_ms


async def test_a_reply_moves_to_its_end(world: World) -> None:
    """While it is made it stands where it was asked for; a reader who goes on from there meets it again, ended."""
    await world.conversations().create("c")
    started = await world.runs().start("script: seed=1 tokens=4 stall=2", conversation_id="c", session_id="s")
    async for _, event in world.runs().follow(started.run_id):
        if isinstance(event, str):
            break
    seen = await world.conversations().log(session_id="s", limit=2)
    assert [each.status for each in seen.messages] == ["complete", "running"]
    place = seen.messages[-1].created_at_ms
    await world.runs().stop(started.run_id)
    await world.until_live(0)
    later = await world.conversations().log(session_id="s", since_ms=place + 1)
    assert [(each.id, each.status) for each in later.messages] == [(started.message_id, "stopped")]


async def test_nothing_is_found_of_others_or_of_nothing(world: World) -> None:
    """Ben's of the same names are not Ann's; an unknown conversation or session has no messages."""
    await world.node.committer.write(fill)
    for principal, prefix in ((ANN, "ann-"), (BEN, "ben-")):
        page = await world.conversations(principal).log(conversation_id="a", limit=100)
        assert len(page.messages) == 18
        assert all(each.id.startswith(prefix) for each in page.messages)
    nothing: list[dict[str, Any]] = [
        {"conversation_id": "none"},
        {"session_id": "none"},
        {"conversation_id": "a", "session_id": "none"},
    ]
    for wanted in nothing:
        assert (await world.conversations().log(**wanted)).messages == ()


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", ".1", "1.2.3", "-1.2", "١.٢", "1" * 50 + ".1"])
async def test_a_cursor_that_is_none_is_refused(world: World, cursor: str) -> None:
    """It names the cursor."""
    with pytest.raises(InvalidRequest, match="cursor"):
        await world.conversations().log(cursor=cursor)

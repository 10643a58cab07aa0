"""Conversations age: which are deleted when, with what belongs to them, and never one that somebody still uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from legato.app import open_node
from legato.core.principal import APP
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.settings import load_settings
from legato.storage import retention
from legato.storage.retention import Expiring, expire_page
from legato.storage.statement import Transaction
from tests.asgi import call
from tests.conftest import node_settings
from tests.new_database import put_database
from tests.service_world import ANN, BEN, LateClock, World
from tests.statements import execute


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncIterator[World]:
    clock = LateClock()
    put_database(folder)
    async with open_node(node_settings(folder, **settings), clock=clock) as node:
        yield World(node, clock)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as world:
        yield world


@pytest.mark.parametrize(
    ("idle_h", "settings", "hours", "kept"),
    [
        (24.0, {}, 23.99, True),
        (24.0, {}, 24.01, False),
        (24.0, {"retention": "default", "pinned": False}, 24.01, False),
        (24.0, {"retention": "keep"}, 10_000, True),
        (24.0, {"pinned": True}, 10_000, True),
        (24.0, {"retention": "keep", "pinned": True}, 10_000, True),
        (0.5, {}, 0.49, True),
        (0.5, {}, 0.51, False),
        (None, {}, 10_000, True),
    ],
)
async def test_a_conversation_ages(
    tmp_path: Path, idle_h: float | None, settings: Any, hours: float, kept: bool
) -> None:
    """It is deleted when it was idle for longer than the setting; not with `off`, `keep`, or a pin."""
    async with opened(tmp_path, conversation_idle_h="off" if idle_h is None else idle_h) as world:
        await world.conversations().create("talked", **settings)
        await world.conversations().create("empty", **settings)
        await world.say("talked")
        world.clock.pass_h(hours)
        assert await world.conversations(APP).expire() == (0 if kept else 2)
        assert await world.names() == ({"talked", "empty"} if kept else set())


async def test_a_message_makes_young_again(world: World) -> None:
    """What counts is the last message, not the making; a change of the title is none."""
    for name in ("talked", "renamed"):
        await world.conversations().create(name)
    world.clock.pass_h(23)
    await world.say("talked")
    await world.conversations().change("renamed", title="T")
    world.clock.pass_h(2)
    assert await world.conversations(APP).expire() == 1
    assert await world.names() == {"talked"}


async def test_a_pin_counts_from_when_it_is_set(world: World) -> None:
    """And the conversation ages again when it is taken off."""
    await world.conversations().create("c")
    world.clock.pass_h(25)
    await world.conversations().change("c", pinned=True)
    assert await world.conversations(APP).expire() == 0
    await world.conversations().change("c", pinned=None, retention="keep")
    assert await world.conversations(APP).expire() == 0
    await world.conversations().change("c", retention=None)
    assert await world.conversations(APP).expire() == 1


TABLES = ("message", "run", "run_log", "reply_count", "state", "conversation")


async def counts(world: World) -> dict[str, int]:
    return {table: (await world.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in TABLES}


async def test_everything_goes_with_it(world: World) -> None:
    """Messages, runs, logs, what was counted, and its state; nothing of others, by the same names or not."""

    def also(tx: Transaction) -> None:
        execute(
            tx,
            "INSERT INTO reply_count (run_id, conversation_key, owner, session_id, at_ms)"
            " SELECT id, conversation_key, owner, session_id, 0 FROM run",
        )
        for owner in ("ann", "ben"):
            for group in ("conversation:old", "conversation:new", "notes"):
                execute(
                    tx,
                    'INSERT INTO state (owner, "group", key, value, version, updated_at_ms) VALUES (?,?,?,?,1,0)',
                    *(owner, group, "k", "1"),
                )

    await world.say("old")
    await world.say("old")
    world.clock.pass_h(25)
    await world.say("new")
    await world.say("old", principal=BEN)
    await world.node.committer.write(also)
    before = await counts(world)
    assert await world.conversations(APP).expire() == 1
    after = await counts(world)
    gone = {table: before[table] - after[table] for table in before}
    assert gone == {"message": 4, "run": 2, "run_log": 2, "reply_count": 2, "state": 1, "conversation": 1}
    left = await world.rows('SELECT owner, "group" FROM state ORDER BY 1, 2')
    assert left == [
        ("ann", "conversation:new"),
        ("ann", "notes"),
        ("ben", "conversation:new"),
        ("ben", "conversation:old"),
        ("ben", "notes"),
    ]
    assert (await world.rows("PRAGMA foreign_key_check")) == []
    assert (await world.names(), await world.names(BEN)) == ({"new"}, {"old"})


async def test_a_conversation_that_is_answered_in_is_kept(world: World) -> None:
    """Running or queued, also where this process does not hold the run; it ages from the end of the reply."""
    first = await world.runs().start("script: tokens=3 stall=2", conversation_id="c")
    second = await world.runs().start("script: tokens=1", conversation_id="c")
    world.clock.pass_h(25)
    held = dict(world.node.live)
    world.node.live.clear()
    assert await world.conversations(APP).expire() == 0, "the rows say that it is used"
    world.node.live.update(held)
    assert await world.conversations(APP).expire() == 0
    await world.runs().stop(first.run_id)
    await world.until_live(0)
    assert (await world.runs().get(second.run_id)).state == "finished"
    assert await world.conversations(APP).expire() == 0
    world.clock.pass_h(25)
    assert await world.conversations(APP).expire() == 1


@pytest.mark.parametrize("state", ["running", "queued"])
async def test_a_row_of_a_run_keeps_its_conversation(world: World, state: str) -> None:
    """Each of the two states does, in the transaction that would delete."""
    await world.say("c")
    world.clock.pass_h(25)
    for present, deleted in ((state, 0), ("finished", 1)):
        await world.execute("UPDATE run SET state = ?", present)
        assert await world.conversations(APP).expire() == deleted


async def test_a_conversation_with_a_live_run_is_kept(world: World) -> None:
    """Whatever the rows say."""
    await world.say("c")
    world.clock.pass_h(25)
    ((key,),) = await world.rows("SELECT key FROM conversation")
    live: Any = world.node.live
    live["r-x"] = SimpleNamespace(conversation_key=key)
    try:
        assert await world.conversations(APP).expire() == 0
    finally:
        del live["r-x"]
    assert await world.conversations(APP).expire() == 1


async def test_only_the_app_deletes_for_others(world: World) -> None:
    """Anybody else expires what is their own, whatever their role."""
    for principal in (ANN, BEN):
        await world.conversations(principal).create("c")
    world.clock.pass_h(25)
    assert await world.conversations(ANN).expire() == 1
    assert (await world.names(ANN), await world.names(BEN)) == (set(), {"c"})
    assert await world.conversations(APP).expire() == 1
    assert await world.names(BEN) == set()


@pytest.mark.parametrize("principal", [APP, ANN])
async def test_a_limit_is_kept(world: World, principal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest idle go first, and the next call goes on; what must stay is passed over, however much it is."""
    monkeypatch.setattr(retention, "PAGE", 3)
    live: Any = world.node.live
    for number in range(20):
        await world.conversations().create(f"c{number:02}")
    keys = await world.rows("SELECT key FROM conversation WHERE id < 'c07'")
    live |= {f"r-{key}": SimpleNamespace(conversation_key=key) for (key,) in keys}
    world.clock.pass_h(25)
    try:
        assert await world.conversations(principal).expire(5) == 5
        assert await world.names() == {f"c{number:02}" for number in range(20) if not 7 <= number < 12}
        assert await world.conversations(principal).expire(5) == 5
        assert await world.conversations(principal).expire(5) == 3
        assert await world.conversations(principal).expire(5) == 0
        assert await world.names() == {f"c{number:02}" for number in range(7)}
    finally:
        live.clear()


async def test_conversations_of_one_moment_are_all_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages go on by key where the times are equal."""
    monkeypatch.setattr(retention, "PAGE", 3)
    for number in range(10):
        await world.conversations().create(f"c{number}")
    await world.execute("UPDATE conversation SET last_message_at_ms = 5")
    assert await world.conversations(APP).expire() == 10


async def test_a_page_holds_the_writer_for_few_messages(world: World) -> None:
    """It ends behind the conversation with which it has come to PAGE_MESSAGES, and with PAGE conversations."""
    many = retention.PAGE_MESSAGES // 2 + 1
    for number in range(retention.PAGE + 5):
        await world.conversations().create(f"c{number:03}")
    await world.node.committer.write(
        lambda tx: execute(
            tx,
            "UPDATE conversation SET last_message_at_ms = key, message_count = CASE WHEN key < 6 THEN ? ELSE 0 END",
            many,
        )
    )
    behind: retention.Place | None = retention.FIRST
    pages: list[int] = []
    while behind is not None:
        expiring = Expiring(owner=None, now_ms=10**12, idle_ms=0, behind=behind, limit=10_000)
        page = await world.node.committer.write(partial(expire_page, expiring=expiring, live=frozenset()))
        pages.append(page.deleted)
        behind = page.next
    assert pages == [2, 2, retention.PAGE, 1]


async def test_a_post_to_an_expiring_conversation_is_never_lost(world: World) -> None:
    """It is in the conversation, or it makes a new one; the answer is whole either way."""
    names = [f"c{number:02}" for number in range(40)]
    for name in names:
        await world.say(name, script="seed=1 tokens=1")
    world.clock.pass_h(25)

    async def post(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        answer = await world.runs().reply("script: seed=7 tokens=5 delay_ms=1", conversation_id=name)
        assert answer.text == reply(7, 5)

    async def expire() -> int:
        total = 0
        for _ in range(25):
            total += await world.conversations(APP).expire(2)
        return total

    expired, *_ = await asyncio.gather(expire(), *(post(name, at * 0.002) for at, name in enumerate(names)))
    found: dict[str, list[str]] = {}
    for name in names:
        found[name] = [each.text for each in (await world.conversations().messages(name)).messages]
        assert found[name][-2:] == ["script: seed=7 tokens=5 delay_ms=1", reply(7, 5)]
        assert (await world.conversations().get(name)).message_count == len(found[name]) in (2, 4)
    made_anew = sum(len(texts) == 2 for texts in found.values())
    assert made_anew == expired
    assert 0 < made_anew < len(names), "both happened"


# Over HTTP, and as a setting


async def test_retention_is_set_over_http(world: World) -> None:
    """With POST and PATCH, shown in every answer; a message to an unknown conversation makes one that ages."""
    api = create_api(world.node)
    made = (await call(api, "POST", "/conversations", {"id": "c", "retention": "keep", "pinned": True})).json
    assert (made["retention"], made["pinned"]) == ("keep", True)
    bare = (await call(api, "POST", "/conversations", {"id": "d"})).json
    assert (bare["retention"], bare["pinned"]) == ("default", False)
    answer = await call(api, "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": "e"})
    assert b"event: complete" in answer.body
    found = {each["id"]: each for each in (await call(api, "GET", "/conversations")).json["conversations"]}
    assert {name: (each["retention"], each["pinned"]) for name, each in found.items()} == {
        "c": ("keep", True),
        "d": ("default", False),
        "e": ("default", False),
    }
    for body, shown in (
        ({"pinned": False}, ("keep", False)),
        ({"retention": None}, ("default", False)),
        ({"retention": "keep", "pinned": True}, ("keep", True)),
        ({"title": "T"}, ("keep", True)),
        ({"pinned": None}, ("keep", False)),
    ):
        changed = (await call(api, "PATCH", "/conversations/c", body)).json
        assert (changed["retention"], changed["pinned"]) == shown


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("POST", {"retention": "forever"}, "retention"),
        ("POST", {"retention": None}, "retention"),
        ("POST", {"pinned": 1}, "pinned"),
        ("PATCH", {"retention": "none"}, "retention"),
        ("PATCH", {"pinned": "yes"}, "pinned"),
    ],
)
async def test_a_wrong_retention_is_named(world: World, method: str, body: object, field: str) -> None:
    """422, and nothing changes."""
    api = create_api(world.node)
    before = (await call(api, "POST", "/conversations", {"id": "c"})).json
    answer = await call(api, method, "/conversations" + ("/c" if method == "PATCH" else ""), body)
    assert (answer.status, [each["field"] for each in answer.json["errors"]]) == (422, [field])
    assert (await call(api, "GET", "/conversations")).json["conversations"] == [before]


@pytest.mark.parametrize(("word", "value"), [("off", None), ("0.5", 0.5), ("48", 48.0)])
def test_the_setting_takes_hours_or_off(
    word: str, value: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the environment too; a day by default."""
    monkeypatch.chdir(tmp_path)
    assert load_settings().conversation_idle_h == 24
    monkeypatch.setenv("LEGATO_CONVERSATION_IDLE_H", word)
    assert load_settings().conversation_idle_h == value

"""The service of conversations: what steps and the API are given, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from legato.core.errors import Conflict, InvalidRequest, NotFound
from legato.core.resources import Feedback
from legato.core.usage import Usage
from legato.providers.scripted import reply
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from legato.storage.outbox import OutboxEvent, first_events
from tests.service_world import ANN, BEN, LateClock, World
from tests.statements import execute


@pytest.fixture
async def world(node: Node) -> World:
    return World(node, LateClock())


async def test_a_conversation_is_made_with_plain_values(world: World) -> None:
    """What was given comes back as Python values; what was not is None or its default."""
    given: dict[str, Any] = {
        "title": "Ein Titel",
        "system_prompt": "Be kind.",
        "model": "other",
        "temperature": 0.2,
        "max_tokens": 7,
        "metadata": {"a": [1, {"b": None}]},
        "retention": "keep",
        "pinned": True,
    }
    made = await world.conversations().create("c", **given)
    assert {name: getattr(made, name) for name in given} == given
    assert await world.conversations().get("c") == made
    bare = await world.conversations().create()
    assert {name: getattr(bare, name) for name in given} == dict.fromkeys(given) | {
        "title": "",
        "retention": "default",
        "pinned": False,
    }
    with pytest.raises(Conflict):
        await world.conversations().create("c")


async def test_a_change_touches_what_it_names(world: World) -> None:
    """Absent fields stay, None goes back to the default and the title to the first words."""
    await world.say("c")
    service = world.conversations()
    before = await service.get("c")
    changed = await service.change("c", title="T", metadata={"k": 1}, retention="keep", pinned=True, temperature=1)
    assert (changed.title, changed.title_source, changed.metadata) == ("T", "user", {"k": 1})
    assert (changed.retention, changed.pinned, changed.temperature) == ("keep", True, 1.0)
    assert await service.change("c") == changed
    plain = await service.change("c", title=None, metadata=None, retention=None, pinned=None, temperature=None)
    assert plain == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "x" * 501),
        ("title", "\x00"),
        ("title", "\ud800"),
        ("system_prompt", 1),
        ("model", "none-such"),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("metadata", {"a": object()}),
        ("metadata", {"a": "x" * 16_384}),
        ("metadata", []),
        ("retention", "forever"),
        ("pinned", 1),
        ("pined", True),
    ],
)
async def test_a_wrong_setting_is_named(world: World, field: str, value: object) -> None:
    """Each is refused by its name, by what makes and by what changes, and nothing is done."""
    await world.conversations().create("c")
    wrong: dict[str, Any] = {field: value}
    for call in (world.conversations().create("d", **wrong), world.conversations().change("c", **wrong)):
        with pytest.raises(InvalidRequest) as refused:
            await call
        assert [each.field for each in refused.value.fields] == [field]
    assert await world.names() == {"c"}


async def test_a_misspelt_setting_is_told_the_nearest(world: World) -> None:
    """As everywhere in Legato."""
    wrong: dict[str, Any] = {"pined": True}
    with pytest.raises(InvalidRequest) as refused:
        await world.conversations().create("c", **wrong)
    assert refused.value.fields[0].nearest == "pinned"


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
async def test_an_id_that_is_none_is_refused(world: World, name: str) -> None:
    """1 to 200 printable characters."""
    await world.conversations().create("c")
    with pytest.raises(InvalidRequest):
        await world.conversations().create(name)
    with pytest.raises(InvalidRequest):
        await world.conversations().fork("c", copy_id=name)


async def test_what_is_anothers_is_not_found(world: World) -> None:
    """By no method, and in no list."""
    run_id = await world.say("c", session_id="s")
    page = await world.conversations().messages("c")
    ben = world.conversations(BEN)
    message_id = page.messages[1].id
    for call in (
        ben.get("c"),
        ben.change("c", title="x"),
        ben.delete("c"),
        ben.fork("c"),
        ben.messages("c"),
        ben.message(message_id),
        ben.give_feedback(message_id, "up"),
        world.runs(BEN).get(run_id),
        world.runs(BEN).stop(run_id),
    ):
        with pytest.raises(NotFound):
            await call
    assert (await ben.list()).conversations == ()
    assert list(await ben.ids()) == []
    filters: list[dict[str, Any]] = [{}, {"conversation_id": "c"}, {"session_id": "s"}]
    for wanted in filters:
        assert (await ben.log(**wanted)).messages == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_lists_are_paged(world: World, limit: int) -> None:
    """Each once: conversations the latest first, ids in their order, messages the oldest first."""
    service = world.conversations()
    for name in ("b", "a", "d", "c", "e"):
        await service.create(name)
    listed: list[str] = []
    cursor = None
    while True:
        page = await service.list(cursor=cursor, limit=limit)
        listed += [each.id for each in page.conversations]
        if (cursor := page.next_cursor) is None:
            break
    assert listed == ["e", "c", "d", "a", "b"]
    ids: list[str] = []
    while found := await service.ids(after=ids[-1] if ids else None, limit=limit):
        ids += found
    assert ids == ["a", "b", "c", "d", "e"]
    for seed in range(3):
        await world.say("a", script=f"seed={seed} tokens=2")
    texts: list[str] = []
    after = 0
    while True:
        messages = await service.messages("a", after=after, limit=limit)
        texts += [each.text for each in messages.messages]
        if messages.next_cursor is None:
            break
        after = messages.next_cursor
    assert texts[1::2] == [reply(seed, 2) for seed in range(3)]
    assert len(texts) == (await service.get("a")).leaf_depth == 6


@pytest.mark.parametrize("limit", [0, 1001, True, 1.0])
async def test_a_page_has_a_size(world: World, limit: Any) -> None:
    """1 to 1,000."""
    service = world.conversations()
    await service.create("c")
    for call in (service.list(limit=limit), service.messages("c", limit=limit), service.log(limit=limit)):
        with pytest.raises(InvalidRequest, match="limit"):
            await call


async def test_a_message_is_plain_values(world: World) -> None:
    """Parts as a list, metadata as a dict, usage as counts, and whose it is."""
    run_id = await world.say("c", script="seed=2 tokens=3", session_id="s-1", metadata={"k": [1]})
    question, answer = (await world.conversations().messages("c")).messages
    assert (question.role, question.text, question.metadata) == ("user", "script: seed=2 tokens=3", {"k": [1]})
    assert question.parts == [{"type": "text", "text": question.text}]
    assert (question.run_id, question.usage, question.session_id) == (None, None, "s-1")
    assert (answer.role, answer.text, answer.run_id) == ("assistant", reply(2, 3), run_id)
    assert (answer.conversation_id, answer.session_id, answer.parent_id) == ("c", "s-1", question.id)
    assert isinstance(answer.usage, Usage)
    assert answer.usage.output_tokens == 3
    assert await world.conversations().message(answer.id) == answer


async def test_a_reply_that_is_being_made_has_what_it_said(world: World) -> None:
    """Its text comes from the log in memory, in the page, by its id and in the log."""
    started = await world.runs().start("script: seed=2 tokens=9 stall=3", conversation_id="c")
    async for seq, event in world.runs().follow(started.run_id):
        if event == reply(2, 3).removeprefix(reply(2, 2)):
            assert seq >= 3
            break
    service = world.conversations()
    page, logged = await service.messages("c"), await service.log(conversation_id="c")
    for found in (page.messages[1], await service.message(started.message_id), logged.messages[1]):
        assert (found.status, found.text) == ("running", reply(2, 3))
    await world.runs().stop(started.run_id)
    await world.until_live(0)
    assert (await service.message(started.message_id)).status == "stopped"


async def test_a_fork_takes_retention_along_and_is_not_pinned(world: World) -> None:
    """A copy of what is kept is kept; who pinned the one did not pin the other."""
    service = world.conversations()
    await service.create("c", retention="keep", pinned=True)
    copy = await service.fork("c", copy_id="d", title="Copy")
    assert (copy.id, copy.title, copy.retention, copy.pinned) == ("d", "Copy", "keep", False)


# Feedback


async def events(world: World) -> list[OutboxEvent]:
    """What the outbox holds of feedback."""
    found = await world.node.database.read(lambda tx: first_events(tx, 1000))
    return [event for _, event in found if event.topic == "chat.feedback.given"]


async def test_feedback_is_an_event(world: World) -> None:
    """One each time that something is new, with what protocols.md says, in the owner's name."""
    run_id = await world.say("c", session_id="s-1")
    message = (await world.conversations().messages("c")).messages[1]
    service = Conversations(world.node, ANN, trace_id="t-1")
    given = await service.give_feedback(message.id, "down", "wrong é")
    assert given.feedback is not None
    assert given.feedback == Feedback(thumb="down", reason="wrong é", at_ms=given.feedback.at_ms)
    assert await service.message(message.id) == given
    (event,) = await events(world)
    assert (event.owner, event.trace_id, event.at_ms) == ("ann", "t-1", given.feedback.at_ms)
    assert event.payload == {
        "id": event.id,
        "conversationId": "c",
        "sessionId": "s-1",
        "runId": run_id,
        "messageId": message.id,
        "thumb": "down",
        "reason": "wrong é",
        "timestamp": given.feedback.at_ms,
        "model": "scripted",
    }
    await world.conversations().give_feedback(message.id, "up")
    await world.conversations().give_feedback(message.id, None)
    said = [(each.payload["thumb"], each.payload["reason"]) for each in await events(world)]
    assert said == [("down", "wrong é"), ("up", None), (None, None)]
    assert len({each.id for each in await events(world)}) == 3


async def test_feedback_that_changes_nothing_is_no_event(world: World) -> None:
    """The same again, or taken back where there is none; what was kept stays as it was."""
    await world.say("c")
    service = world.conversations()
    message = (await service.messages("c")).messages[1]
    await service.give_feedback(message.id, None)
    assert await events(world) == []
    first = await service.give_feedback(message.id, "up", "good")
    await asyncio.sleep(0.003)
    assert await service.give_feedback(message.id, "up", "good") == first
    assert await service.message(message.id) == first
    assert len(await events(world)) == 1
    await service.give_feedback(message.id, "up", "very good")
    assert len(await events(world)) == 2


@pytest.mark.parametrize(
    ("which", "thumb", "reason", "error"),
    [
        (0, "up", None, Conflict),
        (1, "sideways", None, InvalidRequest),
        (1, "up", "\x00", InvalidRequest),
        (None, "up", None, NotFound),
    ],
)
async def test_refused_feedback_leaves_nothing(
    world: World, which: int | None, thumb: Any, reason: str | None, error: type[Exception]
) -> None:
    """Neither kept nor told: of a question, of no message, of a wrong kind."""
    await world.say("c")
    messages = (await world.conversations().messages("c")).messages
    with pytest.raises(error):
        await world.conversations().give_feedback("m-none" if which is None else messages[which].id, thumb, reason)
    assert await events(world) == []
    assert (await world.conversations().messages("c")).messages == messages


# Deleting


async def test_state_goes_with_its_conversation(world: World) -> None:
    """The owner's group of this conversation goes; others', and other groups, stay."""
    await world.node.committer.write(
        lambda tx: [
            execute(
                tx,
                'INSERT INTO state (owner, "group", key, value, version, updated_at_ms) VALUES (?, ?, ?, ?, 1, 0)',
                *(owner, group, key, msgspec.json.encode(key).decode()),
            )
            for owner in ("ann", "ben")
            for group in ("conversation:c", "conversation:cc", "c", "conversation:")
            for key in ("a", "b")
        ]
    )
    for principal in (ANN, BEN):
        await world.conversations(principal).create("c")
    await world.conversations().delete("c")
    left = await world.rows('SELECT owner, "group" FROM state GROUP BY 1, 2 ORDER BY 1, 2')
    groups = ["c", "conversation:", "conversation:c", "conversation:cc"]
    assert left == [("ann", group) for group in groups if group != "conversation:c"] + [("ben", g) for g in groups]


async def test_a_delete_stops_no_conversation_that_is_new(world: World) -> None:
    """Though the database gives the key of what was deleted to the next one, in the same transaction."""
    service = world.conversations()
    for turn in range(20):
        await service.create(f"old-{turn}")
        _, answer = await asyncio.gather(
            service.delete(f"old-{turn}"),
            world.runs().reply("script: seed=1 tokens=6 delay_ms=2", conversation_id=f"new-{turn}"),
        )
        assert (answer.finish_reason, answer.text) == ("stop", reply(1, 6))

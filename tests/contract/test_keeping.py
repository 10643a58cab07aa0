"""How long conversations are kept, what is held, and what a deletion leaves: over each database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from legato.core.errors import BeingErased, Conflict, Forbidden, InvalidRequest, LegalHold, NotFound
from legato.core.principal import APP, LOCAL, Principal
from legato.http.api import create_api
from legato.runs import erase, keeping
from legato.runs.audit import Actor
from legato.runs.delete import DeleteConversation
from legato.runs.erase import GRACE_MS, Eraser, erase_principal
from legato.runs.node import Node
from legato.runs.prune import prune
from legato.storage.accounts import create_account
from legato.storage.audit import entries_from
from legato.storage.keeping import hold_conversation
from legato.storage.keys import create_key
from tests.asgi import call
from tests.contract.storage_backends import PostgresStorage, Storage
from tests.service_world import ANN, BEN, LateClock, World

ROOT = Principal(id="root", role="admin")
ACTOR = Actor(id="root", via="key")


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node erases nothing of itself: tests say when; and there is no other whose replies were let go."""
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    monkeypatch.setattr(erase, "READ_S", 0.0)


@pytest.fixture
async def world(node: Node) -> World:
    world = World(node, LateClock())
    node.clock = world.clock
    return world


async def hold(world: World, owner: str, held: bool = True) -> None:
    await keeping.hold(world.node, ROOT, ACTOR, owner, held)


async def hold_one(world: World, conversation_id: str, held: bool = True) -> None:
    await keeping.hold_one(world.node, ROOT, ACTOR, "ann", conversation_id, held)


async def actions(world: World) -> list[str]:
    rows = await world.node.database.read(lambda tx: entries_from(tx, 0, 1000))
    return [f"{row.action} {row.subject}" for row in rows]


@pytest.mark.parametrize(
    ("retention", "of_owner", "kept_h"),
    [
        ("default", None, 24),
        ("default", "2h", 2),
        ("default", "3d", 72),
        ("default", "keep", 10_000),
        ("36h", "2h", 36),
        ("2d", None, 48),
        ("keep", "2h", 10_000),
    ],
)
async def test_the_nearest_setting_counts(world: World, retention: str, of_owner: str | None, kept_h: int) -> None:
    """A conversation's own, else its owner's, else the server's, whether it was made before or after it was set."""
    await world.conversations().create("before", retention=retention)
    if of_owner is not None:
        await keeping.set_retention(world.node, ACTOR, "ann", of_owner)
    await world.conversations().create("after", retention=retention)
    await world.conversations(BEN).create("other")
    world.clock.pass_h(kept_h - 0.01)
    await world.conversations(APP).expire()
    assert await world.names() == {"before", "after"}
    world.clock.pass_h(0.02)
    await world.conversations(APP).expire()
    assert await world.names() == ({"before", "after"} if kept_h == 10_000 else set())


async def test_a_setting_goes_back_to_the_servers(world: World) -> None:
    """Conversations that were marked are marked anew; a change of a conversation's own takes the owner's again."""
    await keeping.set_retention(world.node, ACTOR, "ann", "1h")
    await world.conversations().create("c", retention="5d")
    await world.conversations().create("d")
    found = await keeping.set_retention(world.node, ACTOR, "ann", "default")
    assert (found.retention, found.default_hours) == ("default", 24.0)
    assert await world.rows("SELECT own_idle_h FROM conversation WHERE id = 'd'") == [(None,)]
    assert await world.rows("SELECT own_idle_h FROM conversation WHERE id = 'c'") == [(120,)]
    await keeping.set_retention(world.node, ACTOR, "ann", "7h")
    assert (await world.conversations().change("c", retention=None)).retention == "default"
    assert await world.rows("SELECT own_idle_h FROM conversation WHERE id = 'c'") == [(7,)]
    assert (await keeping.find_keeping(world.node, "ann")).retention == "7h"


@pytest.mark.parametrize("word", ["never", "0h", "-1d", "1w", "1.5h", "", "9999999h"])
async def test_a_wrong_retention_is_refused(world: World, word: str) -> None:
    """Of a principal and of a conversation."""
    with pytest.raises(InvalidRequest):
        await keeping.set_retention(world.node, ACTOR, "ann", word)
    if word:
        with pytest.raises(InvalidRequest):
            await world.conversations().create("c", retention=word)


async def test_what_is_held_is_deleted_by_nobody(world: World) -> None:
    """Neither by its owner, nor by time, nor with all that the owner has; and again once it is let go."""
    await world.say("held")
    await world.say("free")
    await hold_one(world, "held")
    with pytest.raises(LegalHold) as refused:
        await world.conversations().delete("held")
    assert (refused.value.http_status, refused.value.code) == (409, "legal_hold")
    assert isinstance(refused.value, Conflict)
    world.clock.pass_h(1000)
    assert await world.conversations(APP).expire() == 1
    assert await world.names() == {"held"}
    with pytest.raises(LegalHold):
        await erase_principal(world.node, ACTOR, "ann", "ann")
    assert await world.rows("SELECT owner FROM erasure WHERE conversation_id IS NULL") == []
    await hold_one(world, "held", False)
    await world.conversations().delete("held")
    assert await world.names() == set()


async def test_a_held_principal_keeps_everything(world: World) -> None:
    """What was there, and what comes later; retention of any kind waits."""
    await world.conversations().create("old", retention="1h")
    await hold(world, "ann")
    await world.conversations().create("new")
    await world.conversations(BEN).create("other")
    world.clock.pass_h(1000)
    assert await world.conversations(APP).expire() == 1
    assert await world.names() == {"old", "new"}
    with pytest.raises(LegalHold):
        await world.conversations().delete("new")
    with pytest.raises(LegalHold):
        await erase_principal(world.node, ACTOR, "ann", "ann")
    await hold(world, "ann", False)
    assert await world.conversations(APP).expire() == 2
    told = await actions(world)
    assert [each for each in told if "hold" in each or "release" in each] == [
        "principal.hold ann",
        "principal.release ann",
    ]


async def test_the_cleanup_does_not_look_at_what_is_kept(world: World) -> None:
    """However much is held, the indexes that it reads are empty."""
    for number in range(5):
        await world.conversations().create(f"c{number}")
    await hold(world, "ann")
    await world.conversations(BEN).create("k", retention="keep")
    aging = "own_idle_h IS NULL AND retention = 'default'"
    kept_by_nobody = "NOT pinned AND held_at_ms IS NULL AND NOT owner_held"
    assert await world.rows(f"SELECT count(*) FROM conversation WHERE {aging} AND {kept_by_nobody}") == [(0,)]


async def test_only_admins_hold(world: World) -> None:
    """Nobody holds or lets go what is their own."""
    await world.conversations().create("c")
    with pytest.raises(Forbidden):
        await keeping.hold(world.node, ANN, ACTOR, "ann", True)
    with pytest.raises(Forbidden):
        await keeping.hold_one(world.node, ANN, ACTOR, "ann", "c", True)
    with pytest.raises(NotFound):
        await keeping.hold_one(world.node, ROOT, ACTOR, "ann", "absent", True)


async def test_settings_that_changed_lately_are_marked_again(world: World) -> None:
    """A server that died between the setting and the marks, or a conversation made in that moment."""
    await world.conversations().create("c")
    await keeping.set_retention(world.node, ACTOR, "ann", "1h")
    await world.execute("UPDATE conversation SET own_idle_h = NULL")
    world.clock.pass_h(2)
    assert await world.conversations(APP).expire() == 1
    await world.conversations().create("d")
    await hold(world, "ann")
    await world.execute("UPDATE conversation SET owner_held = false, own_idle_h = NULL")
    world.clock.pass_h(30)
    # Too long ago to be marked again: asked for by the deletion itself.
    assert await world.conversations(APP).expire() == 0


async def round_of(world: World) -> bool:
    """What the node does of itself a moment later."""
    return await Eraser(world.node).round(at_once=True)


async def test_figures_stay_without_a_name(world: World) -> None:
    """What was counted of a deleted conversation's replies counts on, for nobody, to the hour."""
    await world.say("c")
    ((run_id,),) = await world.rows("SELECT id FROM run")
    await world.execute(
        "INSERT INTO reply_count (run_id, conversation_key, owner, session_id, model, outcome, input_tokens, estimated,"
        " at_ms, thumb) SELECT id, conversation_key, owner, 's', 'm', 'completed', 7, true, 7200001, 'up' FROM run"
    )
    await world.conversations().delete("c")
    assert await world.rows("SELECT run_id FROM reply_count") == []
    found = await world.rows("SELECT at_ms, model, outcome, input_tokens, thumb FROM reply_total")
    assert found == [(7_200_000, "m", "completed", 7, "up")]
    assert run_id not in str(await world.rows("SELECT * FROM reply_total"))


async def test_a_deleted_conversation_is_forgotten_elsewhere_too(world: World) -> None:
    """Waiting events that name it go; those of another owner's conversation of the same name stay."""
    for principal in (ANN, BEN):
        await world.say("c", principal=principal)
    await world.conversations().delete("c")
    assert await world.rows("SELECT owner, conversation_id FROM erasure") == [("ann", "c")]
    await until_erased(world)
    assert {owner for (owner,) in await world.rows("SELECT owner FROM outbox")} == {"ben"}
    assert await world.rows("SELECT * FROM erasure") == []
    assert await world.rows("SELECT conversation_id FROM charge WHERE owner = 'ann'") == [("",)]
    assert await world.rows("SELECT conversation_id FROM charge WHERE owner = 'ben'") == [("c",)]


async def until_erased(world: World) -> None:
    """Have the node do it, as often as it must."""
    eraser = Eraser(world.node)
    async with asyncio.timeout(60):
        while not await eraser.round(at_once=True):
            # What it does once a second of itself.
            await prune(world.node)
            await asyncio.sleep(0.01)


async def test_an_erasure_takes_everything_and_nothing_of_others(world: World) -> None:
    """Rows of every table that name the principal; live replies are stopped; doing it again changes nothing."""
    for principal in (ANN, BEN):
        for name in ("a", "b"):
            await world.say(name, principal=principal)
    await world.runs().start("script: tokens=1000 delay_ms=20", conversation_id="live")
    await world.until_live(1)
    first = await erase_principal(world.node, ACTOR, "ann", "ann")
    assert await erase_principal(world.node, ACTOR, "ann", "ann") == first
    world.clock.late_ms += GRACE_MS
    await until_erased(world)
    await world.until_live(0)
    for table in ("conversation", "message", "run", "reply_count", "state", "request_key", "outbox", "api_key"):
        found = await world.rows(f"SELECT DISTINCT owner FROM {table}")
        assert set(found) <= {("ben",)}, table
    assert set(await world.rows("SELECT DISTINCT owner FROM charge")) <= {("ben",), ("",)}
    assert await world.names(BEN) == {"a", "b"}
    told = await actions(world)
    assert [each for each in told if "erase" in each] == ["principal.erase ann", "principal.erased ann"]
    ((detail,),) = await world.rows("SELECT detail FROM audit_entry WHERE action = 'principal.erased'")
    assert '"conversation":3' in detail


@pytest.mark.parametrize("name", ["", "Ann", "ben"])
async def test_another_name_erases_nothing(world: World, name: str) -> None:
    """What is asked for must be said."""
    await world.conversations().create("c")
    with pytest.raises(InvalidRequest, match="confirm"):
        await erase_principal(world.node, ACTOR, "ann", name)
    assert await world.names() == {"c"}


async def test_a_hold_that_comes_later_stops_what_is_left(world: World) -> None:
    """It waits, and goes on when it is let go."""
    for number in range(30):
        await world.conversations().create(f"c{number:02}")
    await erase_principal(world.node, ACTOR, "ann", "ann")
    await hold(world, "ann")
    world.clock.late_ms += GRACE_MS
    assert await round_of(world)
    left = len(await world.names())
    await hold(world, "ann", False)
    await until_erased(world)
    assert await world.names() == set()
    assert left > 0


async def test_a_conversation_that_is_held_later_stays_and_the_erasure_waits(world: World) -> None:
    """Holding all of the principal, and letting that go again, does not take its own hold away."""
    for number in range(3):
        await world.conversations().create(f"c{number}")
    await erase_principal(world.node, ACTOR, "ann", "ann")
    await hold(world, "ann")
    await world.node.committer.write(lambda tx: hold_conversation(tx, "ann", "c1", True, 5))
    await hold(world, "ann", False)
    world.clock.late_ms += GRACE_MS
    assert await round_of(world)
    assert await world.names() == {"c1"}
    await world.node.committer.write(lambda tx: hold_conversation(tx, "ann", "c1", False, 6))
    await until_erased(world)
    assert await world.names() == set()


async def test_who_comes_back_too_early_is_refused(world: World) -> None:
    """While an erasure goes on, so that it deletes nothing of a new beginning; and let in when it has ended."""
    api = create_api(world.node)
    assert (await call(api, "POST", "/conversations", {"id": "old"})).status == 201
    assert (await call(api, "DELETE", "/me?confirm=local")).status == 202
    refused = await call(api, "POST", "/conversations", {"id": "new"})
    assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (409, "being_erased", "5")
    assert (await call(api, "GET", "/health/live")).status == 200
    for make in (
        lambda tx: create_key(tx, owner="local", role="member", name="n", now_ms=0),
        lambda tx: create_account(tx, now_ms=0, label="n", role="member", name="n", owner="local"),
    ):
        with pytest.raises(BeingErased):
            await world.node.committer.write(make)
    world.clock.late_ms += GRACE_MS
    await until_erased(world)
    assert (await call(api, "POST", "/conversations", {"id": "new"})).status == 201
    assert await world.names(LOCAL) == {"new"}


async def test_a_hold_waits_for_what_is_being_deleted(world: World, storage: Storage) -> None:
    """Nothing is deleted any more behind the answer that says that it is held."""
    if not isinstance(storage, PostgresStorage):
        # One writer at a time.
        return
    await erase_principal(world.node, ACTOR, "ann", "ann")
    with storage.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT id FROM erasure WHERE owner = 'ann' FOR UPDATE")
        held = asyncio.create_task(hold(world, "ann"))
        await until_waiting(world)
        assert not held.done()
        connection.execute("COMMIT")
    await held
    with pytest.raises(LegalHold):
        await world.node.committer.execute(erase._ErasePage(world.node, "ann", ""))


async def until_waiting(world: World) -> None:
    """Wait until somebody waits for a row that another transaction has."""
    async with asyncio.timeout(10):
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while await world.rows(waiting) == [(0,)]:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)


async def test_deletes_are_told_to_the_audit_log(world: World) -> None:
    """By whom, of whose; once for each that there was."""
    await world.conversations().create("c")
    command: Any = DeleteConversation(world.node, "ann", "c", actor=ACTOR)
    await world.node.committer.execute(command)
    command = DeleteConversation(world.node, "ann", "c", actor=ACTOR)
    assert await world.node.committer.execute(command) is None
    rows = await world.node.database.read(lambda tx: entries_from(tx, 0, 9))
    assert [(row.actor, row.action, row.subject, row.owner) for row in rows] == [
        ("root", "conversation.delete", "c", "ann")
    ]


async def test_an_id_that_is_used_again_keeps_what_is_said_then(world: World) -> None:
    """Events of the conversation that was deleted go; those of the one that has its id now stay."""
    old = await world.say("c")
    await world.conversations().delete("c")
    world.clock.late_ms += 5
    new = await world.say("c")
    await until_erased(world)
    left = await world.rows("SELECT event_id FROM outbox WHERE owner = 'ann'")
    assert [event_id for (event_id,) in left if event_id.startswith(new)]
    assert not [event_id for (event_id,) in left if event_id.startswith(old)]

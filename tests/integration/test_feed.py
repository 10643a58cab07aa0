"""Readers of replies that another node makes: over NOTIFY, over Redis, and with every hint lost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from legato.core.errors import CursorDiverged, NotFound
from legato.core.event import LogItem, RunFinished, RunStarted
from legato.http import credentials
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.storage.keys import create_key
from legato.storage.migrate import upgrade
from legato.storage.statement import Transaction
from tests.feed_world import Member, ends, open_members, until
from tests.integration.held_models import HeldModels
from tests.page_world import OWN, cookie_of
from tests.postgres import Postgres
from tests.server import free_port
from tests.statements import query
from tests.tool_world import Bench
from tests.valkey import Valkey, ValkeyServer

DELETE = 'tokens=4 tool=delete:{"path":"a.txt"}@1'

Open = Callable[..., AbstractAsyncContextManager[list[Member]]]


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A database with the schema of this version."""
    postgres.make_template("legato", lambda made: upgrade(made, where="a test's database"))
    made = postgres.make_database("legato")
    yield made
    postgres.drop_database(made)


@pytest.fixture(params=["notify", "redis", "lost"])
def wake(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that say how nodes are woken; `lost` names a Redis that never was."""
    match request.param:
        case "notify":
            return {}
        case "redis":
            valkey: Valkey = request.getfixturevalue("valkey")
            return {"redis_url": valkey.url}
        case _:
            return {"redis_url": f"redis://127.0.0.1:{free_port()}/0"}


hinted_or_not = pytest.mark.parametrize("wake", ["notify", "lost"], indirect=True)


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Open:
    """Opens nodes: `async with opened(3, drain_s=0) as (a, b, c)`."""

    def open_them(count: int = 2, **settings: Any) -> AbstractAsyncContextManager[list[Member]]:
        return open_members(url, tmp_path, count, **settings)

    return open_them


async def rows(node: Node, sql: str) -> list[tuple[Any, ...]]:
    """What a SELECT finds."""

    def read(tx: Transaction) -> list[tuple[Any, ...]]:
        return query(tx, sql)

    return await node.database.read(read)


async def test_readers_on_all_nodes_get_the_same_bytes(opened: Open, wake: dict[str, Any]) -> None:
    """Whether they come before the first word, in its midst, or after the end."""
    async with opened(3, **wake) as (a, b, c):
        run_id = await a.begin("c-1", "tokens=60 delay_ms=10")
        wires = [await each.read(run_id) for each in (a, b, c)]
        for member in (b, c, b):
            await until(lambda: len(wires[0].data) > 200 * len(wires))
            wires.append(await member.read(run_id))
        assert await ends(*wires) == ["finished"] * len(wires)
        wires += [await each.read(run_id) for each in (a, b, c)]
        assert {wire.data for wire in wires} == {wires[0].data}
        assert wires[0].data.count(b"event: chunk") == 60
        assert wires[0].data.count(b"event: complete") == 1
        assert [len(each.node.feed or ()) for each in (a, b, c)] == [0, 0, 0]


async def test_a_stream_over_http_is_the_same(opened: Open) -> None:
    """The whole answer to a GET at another node: status, headers of the run, bytes; afterwards 204 past its end."""
    async with opened() as (a, b):
        run_id = await a.begin("c-1", "tokens=30 delay_ms=10")
        here, there = await asyncio.gather(*(each.ask("GET", f"/chat/stream/{run_id}") for each in (a, b)))
        assert (here.status, here.body) == (there.status, there.body)
        assert here.headers["x-run-id"] == there.headers["x-run-id"] == run_id
        cursor = re.findall(rb"id: (\S+)", there.body)[-1].decode()
        for member in (a, b):
            again = await member.ask("GET", f"/chat/stream/{run_id}", **{"last-event-id": cursor})
            assert again.status == 204


async def test_cursors_are_valid_everywhere(opened: Open) -> None:
    """Whatever a reader was shown at one node, any other goes on behind it, at the same moment and at any later one."""
    async with opened(3) as members:
        a = members[0]
        run_id = await a.begin("c-1", "tokens=40 delay_ms=15")
        seen: list[LogItem] = []
        place = -1
        while not (seen and isinstance(seen[-1], RunFinished)):
            for member in members:
                async for seq, item in member.runs.follow(run_id, after=place):
                    assert seq == place + 1
                    place = seq
                    seen.append(item)
                    if seq % 5 == 0:
                        break
                if isinstance(seen[-1], RunFinished):
                    break
        assert [item async for _, item in a.runs.follow(run_id)] == seen
        assert isinstance(seen[0], RunStarted)
        for member in members:
            with pytest.raises(CursorDiverged):
                await anext(member.runs.follow(run_id, after=place + 1))


async def test_a_node_that_was_overtaken_reads_what_it_lacks(opened: Open) -> None:
    """A node may have committed more than it has shown, and others have shown it: at that node too the reader goes on
    from the database."""
    async with opened() as (a, b):
        run_id = await a.begin("c-1", "tokens=9 stall=5")
        wire = await b.read(run_id)
        await until(lambda: wire.data.count(b"event: chunk") == 5)
        run = a.node.live[run_id]
        tail, behind = run.tail, Tail(run_id=run_id, owner=run.tail.owner)
        behind.publish(tail.log.slice(0, 3))
        run.tail = behind
        late = await a.read(run_id, after=4)
        assert late.data
        assert wire.data.endswith(late.data)
        run.tail = tail
        await b.runs.stop(run_id)
        assert await ends(wire, late) == ["finished", "finished"]
        assert wire.data.endswith(late.data)


async def test_a_cursor_past_the_head_is_refused_everywhere(opened: Open) -> None:
    """Also while the reply is being made, at its own node too."""
    async with opened() as members:
        run_id = await members[0].begin("c-1", "tokens=2 stall=1")
        for member in members:
            answer = await member.ask("GET", f"/chat/stream/{run_id}", **{"last-event-id": f"{run_id}.0.900"})
            assert (answer.status, b"cursor_diverged" in answer.body) == (409, True)
        await members[0].runs.stop(run_id)


async def test_started_on_one_ended_on_another_stopped_on_a_third(
    opened: Open, wake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that was posted at B waits for one that A makes; A makes it then, and C stops it. B's reader, who was
    there from the beginning, sees all of it."""
    models = HeldModels(monkeypatch)
    async with opened(3, **wake) as (a, b, c):
        first = await a.begin("c-1", "tokens=10 delay_ms=20")
        second = await b.begin("c-1", "tokens=9 stall=3")
        wires = [await each.read(second) for each in (b, c)]
        assert not b.is_making(second)
        models.let_go()
        assert await ends(await b.read(first)) == ["finished"]
        await until(lambda: wires[0].data.count(b"event: chunk") == 3)
        assert a.is_making(second)
        await c.runs.stop(second)
        wires.append(await a.read(second))
        assert await ends(*wires) == ["finished"] * 3
        assert {wire.data for wire in wires} == {wires[0].data}
        assert b'"finishReason":"stopped"' in wires[0].data
        assert wires[0].data.count(b"event: queued") == 1


@hinted_or_not
async def test_a_reply_that_is_handed_over_goes_on_for_its_readers(
    opened: Open, wake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node leaves; one of those where it is read makes the rest. Readers at both see one log, without a break."""
    models = HeldModels(monkeypatch, 20)
    async with opened(3, **wake) as (a, b, c):
        run_id = await a.begin("c-1", "tokens=60 delay_ms=20")
        wires = [await each.read(run_id) for each in (b, c)]
        await until(lambda: all(b"event: chunk" in wire.data for wire in wires))
        await a.close()
        await until(lambda: b.is_making(run_id) or c.is_making(run_id))
        wires += [await each.read(run_id) for each in (b, c)]
        models.let_go()
        assert await ends(*wires) == ["finished"] * 4
        assert {wire.data for wire in wires} == {wires[0].data}
        assert wires[0].data.count(b"event: complete") == 1
        assert f"{run_id}.1.".encode() in wires[0].data


@hinted_or_not
async def test_a_waiting_turn_is_stopped_anywhere(opened: Open, wake: dict[str, Any]) -> None:
    """Nobody makes it yet: whoever is asked ends it, and its readers elsewhere see the end."""
    async with opened(3, **wake) as (a, b, c):
        first = await a.begin("c-1", "tokens=2 stall=1")
        second = await b.begin("c-1", "tokens=2")
        wire = await b.read(second)
        await c.runs.stop(second)
        assert await ends(wire) == ["finished"]
        assert b'"finishReason":"stopped"' in wire.data
        await b.runs.stop(first)
        assert await ends(await c.read(first)) == ["finished"]


@hinted_or_not
async def test_readers_of_a_deleted_conversation_are_cut(opened: Open, wake: dict[str, Any]) -> None:
    """Without an end; whoever comes back is told that there is no such reply."""
    async with opened(3, **wake) as (a, b, c):
        run_id = await a.begin("c-1", "tokens=2 stall=1")
        wires = [await each.read(run_id) for each in (a, b)]
        await c.conversations.delete("c-1")
        assert await ends(*wires) == ["aborted", "aborted"]
        for member in (a, b, c):
            with pytest.raises(NotFound):
                await member.read(run_id)
        await until(lambda: not a.node.live)


async def test_a_reply_that_is_being_made_is_read_anywhere(opened: Open) -> None:
    """Messages, the log of messages and exports have what it said so far; so do admins see it."""
    async with opened() as (a, b):
        run_id = await a.begin("c-1", "tokens=9 stall=5")
        # At its own node too: what is committed may be shown elsewhere first.
        wires = [await each.read(run_id) for each in (a, b)]
        await until(lambda: all(wire.data.count(b"event: chunk") == 5 for wire in wires))
        here = await a.conversations.messages("c-1")
        said = here.messages[-1]
        assert said.status == "running"
        assert said.text
        assert await b.conversations.messages("c-1") == here
        assert await b.conversations.message(said.id) == await a.conversations.message(said.id)
        assert (await b.conversations.log()).messages[-1].text == said.text
        assert (await b.conversations.give_feedback(said.id, "up")).text == said.text
        exports = [(await each.ask("GET", "/conversations/c-1/export")).json["messages"] for each in (a, b)]
        assert exports[0] == exports[1]
        assert exports[0][1]["content"] == said.text
        runs = [(await each.ask("GET", "/admin/runs")).json for each in (a, b)]
        for found in runs:
            del found["runs"][0]["elapsedMs"]
        assert runs[0] == runs[1]
        assert runs[0]["count"] == 1
        await b.runs.stop(run_id)
        await ends(*wires)


async def test_a_lost_redis_only_slows_readers_down(
    opened: Open, valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, flushed and back again in the midst of replies: nothing is missing, and nothing comes twice."""
    models = HeldModels(monkeypatch, 10)
    async with opened(redis_url=valkey_server.url) as (a, b):
        runs = [await a.begin(f"c-{number}", "tokens=60 delay_ms=20") for number in range(3)]
        wires = [await b.read(run_id) for run_id in runs]
        await until(lambda: all(b"event: chunk" in wire.data for wire in wires))
        valkey_server.ask("FLUSHALL")
        valkey_server.kill()
        await until(lambda: all(wire.data.count(b"event: chunk") == 10 for wire in wires))
        at = [len(wire.data) for wire in wires]
        models.tokens = 20
        await until(lambda: all(len(wire.data) > before for wire, before in zip(wires, at, strict=True)))
        valkey_server.start()
        models.let_go()
        assert await ends(*wires) == ["finished"] * 3
        for run_id, wire in zip(runs, wires, strict=True):
            assert (await a.read(run_id)).data == wire.data


async def test_a_database_that_was_away_is_read_again(
    opened: Open, postgres: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are killed again and again; followers go on where they were."""
    models = HeldModels(monkeypatch)
    async with opened() as (a, b):
        run_id = await a.begin("c-1", "tokens=40 delay_ms=20")
        wire = await b.read(run_id)
        for _ in range(3):
            before = len(wire.data)
            postgres.end_sessions(b.node.database.application_name, url)
            models.tokens += 5
            await until(lambda before=before: len(wire.data) > before)  # type: ignore[misc]
        models.let_go()
        assert await ends(wire) == ["finished"]
        assert (await a.read(run_id)).data == wire.data


async def test_what_is_followed_is_let_go_of(opened: Open) -> None:
    """A while after the last reader, here a second; a reader who comes back before finds it."""
    async with opened() as (a, b):
        run_id = await a.begin("c-1", "tokens=2 stall=1")
        feed = b.node.feed
        assert feed is not None
        feed._linger_s = 1.0
        for _ in range(2):
            wire = await b.read(run_id)
            wire.leave()
            assert len(feed) == 1
        await until(lambda: len(feed) == 0)
        assert len(b.node.readers) == 0
        wire = await b.read(run_id)
        await a.runs.stop(run_id)
        assert await ends(wire) == ["finished"]


@hinted_or_not
async def test_a_person_decides_at_another_node(opened: Open, wake: dict[str, Any]) -> None:
    """The node that makes the reply has the decision in the log before the other one answers; there is one."""
    bench = Bench()
    async with opened(3, bench=bench, **wake) as (a, b, c):
        run_id = await a.begin("c-1", DELETE)
        wire = await b.read(run_id)
        await until(lambda: b'"status":"asked"' in wire.data)
        path = f"/chat/stream/{run_id}/approvals/call_1_1"
        assert (await b.ask("GET", "/admin/runs")).json["runs"][0]["approvals"] == 1
        answer = await b.ask("POST", path, {"granted": False, "reason": "not that one"})
        assert (answer.status, answer.json["status"]) == (200, "denied")
        assert b'"status":"denied"' in wire.data
        assert [(await each.ask("POST", path, {"granted": True})).status for each in (a, b, c)] == [409] * 3
        assert await ends(wire) == ["finished"]
        assert not bench.ran
        assert (await a.read(run_id)).data == wire.data
        assert await rows(a.node, "SELECT count(*) FROM decision") == [(0,)]
        assert (await c.ask("POST", path, {"granted": True})).status == 409


async def test_two_decide_at_once(opened: Open) -> None:
    """At different nodes, differently: one of them counts, and the other is told so."""
    bench = Bench()
    async with opened(3, bench=bench) as (a, *others):
        run_id = await a.begin("c-1", DELETE)
        wire = await others[0].read(run_id)
        await until(lambda: b'"status":"asked"' in wire.data)
        path = f"/chat/stream/{run_id}/approvals/call_1_1"
        posts = [
            each.ask("POST", path, {"granted": granted}) for each, granted in zip(others, (True, False), strict=True)
        ]
        statuses = [answer.status for answer in await asyncio.gather(*posts)]
        assert sorted(statuses) == [200, 409]
        assert await ends(wire) == ["finished"]
        assert bool(bench.ran) == (statuses[0] == 200)


@pytest.mark.parametrize("hinted", [True, False])
async def test_a_sign_out_holds_at_all_nodes(opened: Open, hinted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where hints are heard; where they are lost as soon as nobody remembers the cookie any more."""
    remembered_s = 30.0 if hinted else 1.0
    monkeypatch.setattr(credentials, "KEY_CACHE_S", remembered_s)
    lost = {} if hinted else {"redis_url": f"redis://127.0.0.1:{free_port()}/0"}
    async with opened(auth="keys", **lost) as (a, b):
        key = await a.node.committer.write(lambda tx: create_key(tx, owner="ann", role="member", name="ann", now_ms=1))
        answer = await a.ask("POST", "/sign-in", {"key": key}, origin=OWN)
        cookie = f"legato_session={cookie_of(answer)}"
        assert (await b.ask("GET", "/me", cookie=cookie)).status == 200
        assert (await a.ask("POST", "/sign-out", cookie=cookie, origin=OWN)).status == 204
        async with asyncio.timeout(20):
            while (await b.ask("GET", "/me", cookie=cookie)).status == 200:  # noqa: ASYNC110 - asked is what counts
                await asyncio.sleep(0.02)

"""What does not open harms nothing but itself: the start, takeovers, the search index, and who rewraps or seals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from legato.runs.search import Search, write_next
from legato.storage.conversations import create_conversation
from legato.storage.encryption import read_record
from legato.storage.root_keys import parse_root_keys
from legato.storage.seal_old import seal_page
from legato.storage.sealing import TAG, Sealing
from legato.storage.sqlite import SqliteDatabase
from tests.conftest import OpenNode
from tests.contract.storage_backends import SealedSqliteStorage, SqliteStorage
from tests.feed_world import until
from tests.postgres import Postgres
from tests.postgres_world import migrated
from tests.service_world import ANN, BEN, LateClock, World
from tests.statements import query

KEYS = "one:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SLOW = "seed=3 tokens=900 delay_ms=20"
OF = "(SELECT key FROM conversation WHERE id = '{}')"
CUT = "substr({0}, 1, length({0}) - 8)"
DAMAGES = {
    "request": f"UPDATE run SET request = {CUT.format('request')} WHERE conversation_key = {OF.format('request')}",
    "prompt": f"UPDATE conversation SET system_prompt = {CUT.format('system_prompt')} WHERE id = 'prompt'",
    "no key": f"DELETE FROM data_key WHERE conversation_key = {OF.format('no key')}",
    "wrong key": "UPDATE data_key SET wrapped = (SELECT other.wrapped FROM data_key AS other WHERE "
    f"other.conversation_key = {OF.format('whole')}) WHERE conversation_key = {OF.format('wrong key')}",
}
"""By the id of a conversation: what is done to it while it is answered."""


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Those of an encrypted database of each kind."""
    if request.param == "sqlite":
        yield SealedSqliteStorage(tmp_path).settings()
        return
    server: Postgres = request.getfixturevalue("postgres")
    with migrated(server) as url:
        yield {"encryption_keys": KEYS, "database_url": url, "database_pool": 2, "lease_s": 2.0}


@pytest.fixture
def indexed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is written by a test alone: not before it has done its damage."""
    monkeypatch.setattr("legato.runs.search.PERIOD_S", 3600)


async def test_a_run_that_does_not_open_ends_and_the_others_go_on(
    open_test_node: OpenNode, settings: dict[str, Any]
) -> None:
    """At a start and a takeover: whose request, prompt or log does not open has failed, whose key is wrong is left."""
    settings["drain_s"] = 0
    async with open_test_node(**settings) as node:
        world = World(node, LateClock())
        for name in ("whole", *DAMAGES):
            await world.conversations().create(name, system_prompt="be brief")
            await world.runs().start(f"script: {SLOW}", conversation_id=name)
        await until(lambda: len(node.live) == 5 and all(run.tail.log.text_bytes for run in node.live.values()))
        for damage in DAMAGES.values():
            await world.execute(damage)
    async with open_test_node(**settings) as node:
        world = World(node, LateClock())
        await world.until_begun(2)
        states = await world.rows(
            "SELECT conversation.id, run.state FROM run JOIN conversation ON conversation.key = run.conversation_key"
        )
        assert dict(states) == {
            "request": "failed",
            "prompt": "failed",
            "no key": "failed",
            "wrong key": "running",
            "whole": "running",
        }
        # Its own end fails after the others' are written.
        await until(lambda: len(node.unendable) == len(node.live) == 1)
        assert len(node.unendable) == 1
        (whole,) = node.live.values()
        end = whole.tail.end
        await until(lambda: whole.tail.end > end)
        # What was shown of a reply whose log opens is kept.
        page = await world.conversations().messages("request")
        assert page.messages[-1].status == "failed"
        assert page.messages[-1].parts[0]["text"]


async def test_a_text_that_does_not_open_does_not_stop_the_search_index(
    open_test_node: OpenNode, indexed_by_hand: None
) -> None:
    """It is not found; all others are, its owner's too."""
    async with open_test_node(encryption_keys=KEYS) as node:
        world = World(node, LateClock())
        for name, who in (("broken", ANN), ("titled", ANN), ("whole", ANN), ("other", BEN)):
            await world.say(name, script="tokens=1 whale", principal=who)
        await world.execute(f"UPDATE message SET parts = {CUT.format('parts')} WHERE conversation_key = 1")
        await world.execute(f"UPDATE conversation SET title = {CUT.format('title')} WHERE id = 'titled'")
        while await write_next(node):
            pass
        found = [each.conversation.id for each in (await Search(node, BEN).find("whale")).results]
        assert found == ["other", "other"]
        words = await world.rows("SELECT conversation_key, count(*) FROM search_entry GROUP BY 1 ORDER BY 1")
        assert words == [(1, 1), (2, 2), (3, 3), (4, 3)]


async def test_old_text_that_looks_sealed_is_read_and_sealed(
    open_test_node: OpenNode, tmp_path: Path, indexed_by_hand: None
) -> None:
    """Somebody wrote it before encryption was turned on; rows that do not open keep no other from being sealed."""
    looks = [f"{TAG}whale", f"{TAG}{'A' * 60}"]
    SqliteStorage(tmp_path)
    async with open_test_node(tmp_path) as node:
        world = World(node, LateClock())
        for name, title in zip(("a", "b"), looks, strict=True):
            await world.conversations().create(name, title=title, system_prompt=title)
        for name in ("c", "d"):
            await world.say(name, script="tokens=1")
        while await write_next(node):
            pass
    async with open_test_node(tmp_path, encryption_keys=KEYS) as node:
        world = World(node, LateClock())
        for name in ("c", "d"):
            await world.say(name, script="tokens=1")
        # The key of one does not open, and the text of another.
        await world.execute("UPDATE data_key SET wrapped = zeroblob(56) WHERE conversation_key = 3")
        await world.execute(
            f"UPDATE message SET parts = {CUT.format('parts')} WHERE conversation_key = 4 AND depth = 4"
        )
    with closing(SqliteDatabase(tmp_path / "legato.db", durability="process")) as database:
        roots = parse_root_keys(KEYS)
        assert roots is not None
        sealing = database.sealing = Sealing(roots)
        while database.transact(lambda tx: seal_page(tx, sealing), writes=True):
            pass
        record = database.transact(lambda tx: read_record(tx, sealing), writes=False)
        assert not {"conversation", "message", "run"} & record.plain.keys()
    async with open_test_node(tmp_path, encryption_keys=KEYS) as node:
        world = World(node, LateClock())
        for name, title in zip(("a", "b"), looks, strict=True):
            found = await world.conversations().get(name)
            assert (found.title, found.system_prompt) == (title, title)
            (stored,) = await world.rows(f"SELECT title, system_prompt FROM conversation WHERE id = '{name}'")
            assert title not in stored
        while await write_next(node):
            pass
        results = (await Search(node, ANN).find("script")).results
        assert {each.conversation.id for each in results} == {"d"}
        plain_words = "SELECT count(*) FROM search_entry WHERE words LIKE '%script%'"
        assert await world.rows(plain_words) == [(0,)]
        assert await world.rows("SELECT count(*) FROM message WHERE conversation_key = 4 AND parts LIKE '[%'") == [(0,)]


def test_a_page_of_old_rows_ends_where_it_becomes_long(tmp_path: Path) -> None:
    """However many long texts there are, servers at work wait for one page; no row is passed over."""
    SqliteStorage(tmp_path)
    with closing(SqliteDatabase(tmp_path / "legato.db", durability="process")) as plain:
        for number in range(9):
            make = partial(
                create_conversation, owner="ann", conversation_id=f"c{number}", now_ms=1, title="x" * 300_000
            )
            plain.transact(make, writes=True)
    with closing(SqliteDatabase(tmp_path / "legato.db", durability="process")) as database:
        roots = parse_root_keys(KEYS)
        assert roots is not None
        sealing = database.sealing = Sealing(roots)
        database.open()
        done = []
        for _ in range(3):
            database.transact(lambda tx: seal_page(tx, sealing), writes=True)
            record = database.transact(lambda tx: read_record(tx, sealing), writes=False)
            done.append(record.done.get("conversation") if "conversation" in record.plain else None)
        assert done == [4, 8, None]
        dues = database.transact(
            lambda tx: query(tx, "SELECT conversation_key, message_key FROM search_due"), writes=False
        )
        # One of its making, one of now.
        assert sorted(dues) == [(key, 0) for key in range(1, 10) for _ in range(2)]

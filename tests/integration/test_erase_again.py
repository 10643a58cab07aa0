"""An erasure goes on after a crash: whatever was done of it, the next start does the rest."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from legato.app import open_node
from legato.runs import care, erase
from legato.runs.audit import Actor
from legato.runs.erase import Eraser, erase_principal
from legato.storage import erasures
from legato.storage.erasures import find_erasure, note_erased
from legato.storage.outbox import OutboxEvent, put_event
from tests.conftest import OpenNode, node_settings
from tests.feed_world import until
from tests.new_database import put_database
from tests.service_world import ANN, BEN, LateClock, World

ACTOR = Actor(id="root", via="key")


class Cut(Exception):
    """The process dies here."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Ann has 45 conversations, three pages of them, and Ben three."""
    folder = tmp_path_factory.mktemp("filled")
    put_database(folder)

    async def fill() -> None:
        async with open_node(node_settings(folder)) as node:
            world = World(node, LateClock())
            for principal, count in ((ANN, 45), (BEN, 3)):
                for number in range(count):
                    name = f"{principal.id}marigoldine{number}"
                    await world.conversations(principal).create(f"c{number:02}", title=name)

    asyncio.run(fill())
    return folder


@pytest.mark.parametrize("pages", range(5))
async def test_what_was_cut_is_gone_on_with(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, filled: Path, pages: int
) -> None:
    """After any number of pages; with every conversation, row and byte gone in the end."""
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    monkeypatch.setattr(erase, "GRACE_MS", 0)
    monkeypatch.setattr(erase, "RETRY_S", 0.05)
    monkeypatch.setattr(care, "PRUNE_S", 0.05)
    folder = tmp_path / "node"
    shutil.copytree(filled, folder)
    async with open_test_node() as node:
        world = World(node, LateClock())
        assert len(await world.names()) == 45
        await erase_principal(node, ACTOR, "ann", "ann")
        written = 0
        write = Eraser._write

        async def cut(self: Eraser, work: Any) -> Any:
            nonlocal written
            written += 1
            if written > pages:
                raise Cut
            return await write(self, work)

        with monkeypatch.context() as patch:
            patch.setattr(Eraser, "_write", cut)
            with pytest.raises(Cut):
                await Eraser(node).round()
    monkeypatch.setattr(erase, "GATHER_S", 0.01)
    async with open_test_node() as node:
        world = World(node, LateClock())

        async with asyncio.timeout(30):
            while await world.rows("SELECT * FROM erasure"):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.05)
        assert await world.names() == set()
        assert len(await world.names(BEN)) == 3
        await until(lambda: _is_clean(folder), limit_s=30)
        ((detail,),) = await world.rows("SELECT detail FROM audit_entry WHERE action = 'principal.erased'")
    assert _is_clean(folder)
    # A page that was deleted just before the cut may not be counted; none is counted twice.
    assert '"conversation":' in detail


async def test_a_busy_server_ends_what_it_erases(open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the replies that had begun before it alone, however many come behind it."""
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    async with open_test_node() as node:
        # No segment is deleted but by hand.
        node.starting = 1
        world, eraser = World(node, LateClock()), Eraser(node)
        for segment, conversation in ((5, "first"), (9, "second")):
            await _put_segment(world, segment)
            await node.committer.write(partial(note_erased, owner="ann", conversation_id=conversation))
            assert not await eraser.round(at_once=True)
        assert await world.rows("SELECT conversation_id FROM erasure") == [("second",)]
        await world.execute("DELETE FROM segment")
        assert await eraser.round(at_once=True)
        assert await world.rows("SELECT conversation_id FROM erasure") == []


async def test_an_erasure_knows_nothing_of_the_one_before_it(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite gives it the same id; it waits for the replies that had begun before itself all the same."""
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    async with open_test_node() as node:
        node.starting = 1
        world, eraser = World(node, LateClock()), Eraser(node)
        for segment, conversation in ((5, "first"), (9, "second")):
            await _put_segment(world, segment)
            await node.committer.write(partial(note_erased, owner="ann", conversation_id=conversation))
            assert not await eraser.round(at_once=True), "its reply is being made"
            await world.execute("DELETE FROM segment")
            assert await eraser.round(at_once=True)


async def _put_segment(world: World, number: int) -> None:
    await world.execute("DELETE FROM segment")
    await world.execute(
        "INSERT INTO segment (id, run_key, first_seq, count, epoch, schema, format, data)"
        " VALUES (?, 0, 0, 0, 0, 1, 1, '')",
        number,
    )


async def test_the_last_step_leaves_no_event_behind(open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of others' wait in front of it: what opens it is deleted next."""
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    monkeypatch.setattr(erasures, "PAGE_ROWS", 2)
    async with open_test_node() as node:
        await erase_principal(node, ACTOR, "ann", "ann")
        for number, owner in enumerate(("ben", "ben", "ben", "ann", "ben")):
            event = OutboxEvent(id=f"e{number}", owner=owner, topic="t", payload={}, trace_id=None, at_ms=1)
            await node.committer.write(partial(put_event, event=event))
        row = await node.database.read(lambda tx: find_erasure(tx, "ann"))
        await node.committer.write(lambda tx: Eraser(node)._end_one(tx, row))
        assert await World(node, LateClock()).rows("SELECT DISTINCT owner FROM outbox") == [("ben",)]


def _is_clean(folder: Path) -> bool:
    return not any(b"annmarigoldine" in _bytes_of(path) for path in folder.rglob("*") if path.is_file())


def _bytes_of(path: Path) -> bytes:
    # A log that the database has just deleted holds nothing.
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""

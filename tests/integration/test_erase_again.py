"""An erasure goes on after a crash: whatever was done of it, the next start does the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from legato.runs import erase
from legato.runs.audit import Actor
from legato.runs.erase import Eraser, erase_principal
from tests.conftest import OpenNode
from tests.feed_world import until
from tests.service_world import ANN, BEN, LateClock, World

ACTOR = Actor(id="root", via="key")


class Cut(Exception):
    """The process dies here."""


@pytest.mark.parametrize("pages", range(5))
async def test_what_was_cut_is_gone_on_with(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pages: int
) -> None:
    """After any number of pages; with every conversation, row and byte gone in the end."""
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    monkeypatch.setattr(erase, "GRACE_MS", 0)
    folder = tmp_path / "node"
    async with open_test_node() as node:
        world = World(node, LateClock())
        for principal in (ANN, BEN):
            for number in range(45):
                await world.conversations(principal).create(f"c{number:02}", title=f"{principal.id}marigoldine{number}")
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
        assert len(await world.names(BEN)) == 45
        await until(lambda: _is_clean(folder), limit_s=30)
        ((detail,),) = await world.rows("SELECT detail FROM audit_entry WHERE action = 'principal.erased'")
    assert _is_clean(folder)
    # A page that was deleted just before the cut may not be counted; none is counted twice.
    assert '"conversation":' in detail


def _is_clean(folder: Path) -> bool:
    return not any(b"annmarigoldine" in path.read_bytes() for path in folder.rglob("*") if path.is_file())

"""`legato hold` and `legato erase`: what an operator holds, counts and erases, with or without a server beside it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from legato.app import open_node
from legato.runs import erase
from legato.runs.erase import GRACE_MS, Eraser
from legato.runs.prune import prune
from tests.cli_process import Ended, legato_inside
from tests.conftest import node_settings
from tests.new_database import put_database
from tests.service_world import ANN, BEN, LateClock, World


class Place:
    """A data folder with two conversations of Ann's and one of Ben's, and the command on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        put_database(folder)
        self.opened(self._fill)

    def opened(self, work: Any) -> Any:
        """Do something with a node on the folder."""

        async def run() -> Any:
            clock = LateClock()
            async with open_node(node_settings(self.folder), clock=clock) as node:
                return await work(World(node, clock))

        return asyncio.run(run())

    async def _fill(self, world: World) -> None:
        await world.say("stop")
        await world.conversations().create("other")
        await world.conversations(BEN).create("stop")

    def run(self, *arguments: str) -> Ended:
        return legato_inside(self.folder, *arguments, "--data-dir", str(self.folder))

    def names(self) -> tuple[set[str], set[str]]:
        async def look(world: World) -> tuple[set[str], set[str]]:
            return await world.names(ANN), await world.names(BEN)

        found: tuple[set[str], set[str]] = self.opened(look)
        return found

    def actions(self) -> list[str]:
        """What the audit log says, the oldest first."""
        lines = [json.loads(line) for line in self.run("audit", "list", "--json").stdout.splitlines()]
        assert all(each["via"] == "command" for each in lines)
        return [f"{each['action']} {each['subject']} of {each['owner']}" for each in lines][::-1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(erase, "GATHER_S", 3600.0)
    return Place(tmp_path)


def test_a_hold_is_set_listed_and_let_go(place: Place) -> None:
    """Of a person and of one conversation; neither is erased meanwhile, and each change is told to the audit log."""
    assert "nothing is held" in place.run("hold", "list").stderr
    assert place.run("hold", "set", "ann", "--conversation", "absent").returncode == 1
    assert place.run("hold", "set", "ann", "--conversation", "stop").stdout == "conversation stop of ann is held\n"
    assert place.run("hold", "set", "ben").stdout == "all that ben has is held\n"
    assert place.run("hold", "set", "ben").stdout.endswith(", as before\n")
    listed = [json.loads(line) for line in place.run("hold", "list", "--json").stdout.splitlines()]
    assert [(each["owner"], each["conversation"]) for each in listed] == [("ben", None), ("ann", "stop")]
    assert [line.split()[:2] for line in place.run("hold", "list").stdout.splitlines()[1:]] == [
        ["ben", "all"],
        ["ann", "stop"],
    ]
    for given in (["ann"], ["ben"], ["ann", "--conversation", "stop"], ["ben", "--conversation", "stop"]):
        refused = place.run("erase", *given, "--confirm", given[-1])
        assert (refused.returncode, "held" in refused.stderr) == (1, True), given
    assert place.run("hold", "clear", "ann", "--conversation", "stop").returncode == 0
    assert place.run("hold", "clear", "ben").stdout == "all that ben has may be deleted again\n"
    assert place.names() == ({"stop", "other"}, {"stop"})
    assert place.actions() == [
        "conversation.hold stop of ann",
        "principal.hold ben of ben",
        "conversation.release stop of ann",
        "principal.release ben of ben",
    ]


def test_a_person_is_counted_confirmed_and_erased(place: Place) -> None:
    """Nothing happens without the id once more; then keys go at once, and everything else where a server runs."""
    assert place.run("keys", "create", "--name", "ann").returncode == 0
    counted = place.run("erase", "ann", "--dry-run")
    assert counted.returncode == 0
    assert {line.split(maxsplit=1)[1]: line.split()[0] for line in counted.stdout.splitlines()[1:]} == {
        "conversations": "2",
        "messages": "2",
        "keys": "1",
        "accounts": "0",
        "state of steps": "0",
        "flagged texts": "0",
        "charged calls (figures stay, without a name)": "1",
    }
    for given in ([], ["--confirm", "Ann"]):
        refused = place.run("erase", "ann", *given)
        assert (refused.returncode, "nothing was erased" in refused.stderr) == (1, True)
    assert place.names()[0] == {"stop", "other"}
    assert place.run("erase", "ann", "--confirm", "ann").returncode == 0
    again = place.run("keys", "create", "--name", "ann")
    assert (again.returncode, "is being erased" in again.stderr) == (1, True)
    assert "it is being erased already" in place.run("erase", "ann", "--dry-run").stderr

    async def serve(world: World) -> None:
        world.clock.late_ms += GRACE_MS
        while not await Eraser(world.node).round(at_once=True):
            await prune(world.node)

    place.opened(serve)
    assert place.names() == (set(), {"stop"})
    assert "nothing is known by this id" in place.run("erase", "ann", "--dry-run").stderr
    assert place.run("keys", "create", "--name", "ann").returncode == 0


def test_a_conversation_is_erased_by_its_owner_and_id(place: Place) -> None:
    """Another owner's of the same id stays; one in which a reply is being made is left to its server."""
    counted = place.run("erase", "ann", "--conversation", "stop", "--dry-run")
    assert counted.stdout == "conversation stop of ann: 2 messages\n"

    async def be_answered(world: World) -> Ended:
        await world.runs().start("script: tokens=1000 delay_ms=20", conversation_id="other")
        arguments = ("erase", "ann", "--conversation", "other", "--confirm", "other")
        return await asyncio.to_thread(place.run, *arguments)

    refused = place.opened(be_answered)
    assert (refused.returncode, "a reply is being made" in refused.stderr) == (1, True)
    assert place.run("erase", "ann", "--conversation", "absent", "--confirm", "absent").returncode == 1
    assert place.run("erase", "ann", "--conversation", "stop", "--confirm", "stop").returncode == 0
    assert place.names() == ({"other"}, {"stop"})
    assert place.actions() == ["conversation.delete stop of ann"]

"""`legato dead-letters`, beside a running queue and without one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from legato.cli.dead_letters import app
from legato.core.errors import ConfigurationError, InvalidJob
from legato.steps.jobs import JobEvent, QueueStep
from legato.steps.queue_address import QueueAddress
from tests.cli_process import environment
from tests.queue_world import QueueWorld, event, events

STEPS = (QueueStep(name="find_lead", topics=["lead"]), QueueStep(name="sync", topics=["lead"], key=lambda e: e.owner))


@pytest.fixture
async def world(queue_address: QueueAddress) -> AsyncIterator[QueueWorld]:
    """A queue with three dead letters of each step, whose handlers would succeed now."""
    made = QueueWorld(queue_address)

    async def refuse(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        raise InvalidJob("payload.email: \x1b[31mis no address")

    made.behaviour = refuse
    await made.open(*STEPS)
    await made.engine.hand_over("b1", events(3))
    await made.dead(6)
    made.behaviour = None
    yield made
    await made.engine.close()


def options(where: QueueAddress) -> list[str]:
    """Return what names a queue, by its address, to a command."""
    return ["--database-url", where] if isinstance(where, str) else ["--data-dir", str(where.parent)]


async def run(where: QueueAddress, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *options(where)])


async def test_they_are_listed_and_shown(world: QueueWorld) -> None:
    """In lines for people, with nothing that steers a terminal, and as JSON."""
    listed = await run(world.address, "list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [
        *(f"find_lead:e{n}" for n in range(3)),
        *(f"sync:e{n}" for n in range(3)),
    ]
    rows = (await run(world.address, "list", "--step", "sync", "--limit", "2", "--json")).stdout.splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["sync:e0", "sync:e1"]
    shown = await run(world.address, "show", "sync:e1")
    assert shown.exit_code == 0
    assert "InvalidJob: payload.email: ␛[31mis no address" in shown.stdout
    assert '"trace_id": "t-e1"' in shown.stdout
    letter = json.loads((await run(world.address, "show", "sync:e1", "--json")).stdout)
    assert letter["events"][0]["payload"] == event("e1").payload


async def test_a_running_server_takes_what_is_redriven(world: QueueWorld) -> None:
    """Without being told, within its polling interval, in order within a key."""
    done = await run(world.address, "redrive", "--step", "sync")
    assert (done.exit_code, done.stdout) == (0, "3 redriven\n")
    await world.until(lambda: world.ended == ["e0", "e1", "e2"])
    assert (await run(world.address, "redrive", "find_lead:e1")).stdout == "1 redriven\n"
    await world.until(lambda: len(world.ended) == 4)
    assert [letter.id for letter in await world.engine.dead_letters()] == ["find_lead:e0", "find_lead:e2"]


async def test_a_stopped_server_finds_what_was_changed(world: QueueWorld) -> None:
    """Redriven ones are done at the next start, discarded ones never."""
    await world.engine.close()
    assert (await run(world.address, "redrive", "find_lead:e0", "sync:e0")).stdout == "2 redriven\n"
    assert (await run(world.address, "discard", "--step", "find_lead")).stdout == "2 discarded\n"
    await world.open(*STEPS)
    await world.idle()
    assert world.ended == ["e0", "e0"]
    assert [letter.id for letter in await world.engine.dead_letters()] == ["sync:e1", "sync:e2"]


async def test_ids_that_are_none_are_named(world: QueueWorld) -> None:
    """The others are done; the exit code tells."""
    done = await run(world.address, "discard", "sync:never", "sync:e0")
    assert (done.exit_code, done.stdout) == (1, "1 discarded\n")
    assert "there is no dead letter 'sync:never'" in done.stderr
    for command in ("show", "redrive"):
        done = await run(world.address, command, "sync:e0")
        assert done.exit_code == 1
        assert "'sync:e0'" in done.stderr


@pytest.mark.parametrize("arguments", [["redrive"], ["discard"], ["redrive", "sync:e0", "--step", "sync"]])
async def test_either_ids_or_a_step_are_given(tmp_path: Path, arguments: list[str]) -> None:
    """Nothing is redriven or discarded by leaving something out."""
    assert (await run(tmp_path / "queue.db", *arguments)).exit_code == 2


async def test_without_a_queue_there_are_none(tmp_path: Path) -> None:
    """No file is made by looking."""
    folder = tmp_path / "data"
    listed = await run(folder / "queue.db", "list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert (await run(folder / "queue.db", "discard", "--step", "sync")).stdout == "0 discarded\n"
    assert (await run(folder / "queue.db", "show", "sync:e0")).exit_code == 1
    assert os.listdir(tmp_path) == []


async def test_a_database_without_a_queue_has_none(postgres_url: str) -> None:
    """Nothing is made in it by looking."""
    listed = await run(postgres_url, "list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT to_regnamespace('dbos')").fetchone() == (None,)


async def test_another_file_is_refused(tmp_path: Path) -> None:
    """In words, and left as it is."""
    (tmp_path / "queue.db").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="start the server once"):
        raise (await run(tmp_path / "queue.db", "list")).exception or AssertionError


@pytest.mark.slow
async def test_another_process_redrives_beside_a_running_server(world: QueueWorld) -> None:
    """As an operator does it."""
    command = [sys.executable, "-c", "from legato.cli.dead_letters import app; app()", "redrive", "find_lead:e2"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, *options(world.address)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 redriven\n", "")
    await world.until(lambda: world.ended == ["e2"])

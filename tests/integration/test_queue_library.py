"""How DBOS sits in this process: quietly, privately, and with nothing left behind."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import dbos
import pytest
import sqlalchemy as sa
from dbos import _queue, _utils, _workflow_commands

import legato
from legato.core.errors import ConfigurationError, InvalidJob, StorageUnavailable
from legato.steps.engine import Engine
from legato.steps.jobs import JobEvent, QueueStep
from legato.steps.queue_address import QueueAddress, queue_path
from tests.queue_world import QueueWorld, events

LEAD = QueueStep(name="find_lead", topics=["lead"], backoff_s=0.01, attempts=2)


@pytest.fixture
async def world(queue_address: QueueAddress) -> AsyncIterator[QueueWorld]:
    made = QueueWorld(queue_address)
    yield made
    await made.engine.close()


@pytest.fixture
async def file_world(tmp_path: Path) -> AsyncIterator[QueueWorld]:
    made = QueueWorld(tmp_path / "queue.db")
    yield made
    await made.engine.close()


async def work_through(world: QueueWorld) -> None:
    """Have jobs done, tried again and given up."""

    async def fail(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        if batch[0].id == "e1":
            raise InvalidJob("no")
        if attempt == 1:
            raise ConnectionError

    world.behaviour = fail
    await world.open(LEAD)
    await world.engine.hand_over("b1", events(3))
    await world.dead()
    await world.idle()
    await world.engine.redrive("find_lead:e1")
    await world.dead()


async def test_nothing_is_pickled(world: QueueWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the file is JSON: reading it runs no code."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("pickle was used")

    for name in ("dumps", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    await work_through(world)
    assert world.rows("DISTINCT serialization, application_version", "workflow_status") == [("legato-json", "1")]


async def test_no_address_is_listened_on_or_talked_to(world: QueueWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of a DBOS cloud would say."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network was used")

    for name in ("bind", "connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(_utils.GlobalParams, "dbos_cloud", True)
    await work_through(world)


async def test_the_logging_stays_as_it_is(world: QueueWorld) -> None:
    """No handler, level or formatter is changed; what DBOS has to say goes where the rest goes."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, [each.formatter for each in root.handlers])
    await work_through(world)
    assert (root.handlers, root.level, [each.formatter for each in root.handlers]) == before
    own = logging.getLogger("dbos")
    assert own.propagate
    assert all(isinstance(each, logging.NullHandler) for each in own.handlers)


async def test_jobs_that_fail_are_no_stacks_in_the_log(world: QueueWorld, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a close in mid-work: both are told in a line of our own."""
    with caplog.at_level(logging.INFO, "dbos"):
        await work_through(world)

        async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
            await asyncio.sleep(60)

        world.behaviour = hang
        await world.engine.hand_over("b2", events(2, prefix="f"))
        await world.until(lambda: world.running["find_lead"] == 2)
        await world.engine.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_nothing_is_left_behind(world: QueueWorld) -> None:
    """No thread, and the event loop's own threads are as they were."""
    before = set(threading.enumerate())
    loop: Any = asyncio.get_running_loop()
    executor = loop._default_executor
    await work_through(world)
    assert loop._default_executor is executor
    await world.engine.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(2)
    assert set(threading.enumerate()) - before == set()
    assert await asyncio.to_thread(lambda: 7) == 7


@pytest.mark.alone
async def test_a_close_in_mid_work_takes_no_second(world: QueueWorld) -> None:
    """Ten steps, all of them busy."""

    async def hang(name: str, batch: Sequence[JobEvent], attempt: int) -> None:
        await asyncio.sleep(60)

    world.behaviour = hang
    steps = [QueueStep(name=f"step{n}", topics=["lead"]) for n in range(10)]
    await world.open(*steps)
    await world.engine.hand_over("b1", events(100))
    await world.until(lambda: world.running.total() == 40)
    begun_s = time.monotonic()
    await world.engine.close()
    assert time.monotonic() - begun_s < 1.0


async def test_an_idle_queue_hardly_asks(world: QueueWorld) -> None:
    """With ten steps fewer than ten statements a second."""
    count = 0

    def counting(*_: object) -> None:
        nonlocal count
        count += 1

    await world.open(*[QueueStep(name=f"step{n}", topics=["lead"]) for n in range(10)], poll_s=5.0)
    await asyncio.sleep(1.0)
    sa.event.listen(sa.Engine, "before_cursor_execute", counting)
    try:
        await asyncio.sleep(3.0)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", counting)
    assert count < 30


async def test_one_process_has_one_queue(world: QueueWorld, tmp_path: Path) -> None:
    """A second is refused in words; after the first is closed it can be had."""
    await world.open(LEAD)
    second = Engine(tmp_path / "other.db")

    async def handle(step: str, batch: list[JobEvent], attempt: int) -> None: ...

    with pytest.raises(ConfigurationError, match="another queue is open"):
        await second.start([LEAD], handle)
    await world.engine.hand_over("b1", events(1))
    await world.idle()
    await world.engine.close()
    third = Engine(tmp_path / "other.db")
    await third.start([LEAD], handle)
    await third.close()


async def test_a_file_that_is_no_queue_is_refused(file_world: QueueWorld) -> None:
    """In words, once, without a stack."""
    world = file_world
    world.path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        await world.open(LEAD)
    world.path.unlink()
    await world.open(LEAD)


@pytest.mark.parametrize(
    ("port", "kind", "says"),
    [
        ("1", StorageUnavailable, r"cannot be reached: .*Connection refused"),
        ("x", ConfigurationError, r"cannot be used: LEGATO_DATABASE_URL does not read postgresql://.*: see its port"),
    ],
)
async def test_a_database_that_does_not_answer_is_named_without_its_password(
    port: str, kind: type[Exception], says: str
) -> None:
    """Where it is, and why not; what is no address is a mistake, and a server that is away may come back."""
    address = f"postgresql://legato:secret@127.0.0.1:{port}/lg"
    engine = Engine(address, alone=False)

    async def handle(step: str, batch: list[JobEvent], attempt: int) -> None: ...

    with pytest.raises(kind, match=rf"the queue 127\.0\.0\.1:./lg {says}") as caught:
        await engine.start([LEAD], handle)
    assert "secret" not in str(caught.value)


async def test_the_file_is_its_owners_alone(file_world: QueueWorld) -> None:
    """It holds what people wrote."""
    world = file_world
    await work_through(world)
    files = list(world.path.parent.glob("queue.db*"))
    assert world.path in files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize(
    ("database", "queue"), [("data/legato.db", "data/queue.db"), ("data/other.db", "data/other-queue.db")]
)
def test_two_databases_in_one_folder_have_two_queues(database: str, queue: str) -> None:
    """The lock that makes one server the only one is a database's."""
    assert queue_path(Path(database)) == Path(queue)


def test_only_the_engine_knows_its_library() -> None:
    """Another one could be put in its place."""
    source = Path(legato.__file__).parent
    knowing = {
        path.name for path in source.rglob("*.py") if re.search(r"^\s*(import|from) dbos\b", path.read_text(), re.M)
    }
    assert knowing
    assert all(name.startswith("engine") for name in knowing), knowing


def test_importing_the_engine_does_not_import_its_library() -> None:
    """A process that runs no steps does not pay for it."""
    code = "import legato.steps.engine, sys; sys.exit(any(name in sys.modules for name in ('dbos', 'psycopg')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_leant_on_is_there() -> None:
    """Names that DBOS does not promise: where one is set that nobody reads any more, nothing would fail but this."""
    assert "_BACKGROUND_JOBS_INTERVAL_SEC" in inspect.getsource(_workflow_commands.background_jobs_thread)
    assert "_polling_interval_sec" in inspect.getsource(_queue.queue_worker_thread)
    assert "stop_event.wait(timeout=" in inspect.getsource(_queue.queue_worker_thread)
    assert "GlobalParams.dbos_cloud" in inspect.getsource(dbos.DBOS._launch)
    assert "if not dbos_logger.handlers" in inspect.getsource(dbos._logger.init_logger)

"""The outbox: what has happened is told once it is committed, is never lost, and never comes before it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from legato.core.errors import StorageUnavailable
from legato.core.principal import LOCAL
from legato.runs.node import Node
from legato.runs.replies import Runs
from legato.steps.jobs import JobEvent, QueueStep
from legato.steps.relay import MOST_EVENTS, Relay
from legato.storage.erasures import Erased, erase_events
from legato.storage.outbox import OutboxEvent, first_events, put_event
from legato.storage.statement import Transaction
from tests.conftest import OpenNode
from tests.feed_world import until
from tests.postgres import Postgres
from tests.queue_world import QueueWorld
from tests.two_nodes import open_mates, rows


class Queue:
    """Takes events, or refuses as often as it is told; `misfits` are events that it never takes."""

    def __init__(self, refusals: int = 0, misfits: Sequence[str] = ()) -> None:
        self.batches: list[Sequence[JobEvent]] = []
        self.refusals = refusals
        self.misfits = set(misfits)
        self.refuse_behind_misfit = False

    async def hand_over(self, batch_id: str, events: Sequence[JobEvent]) -> int:
        if self.refusals:
            self.refusals -= 1
            raise StorageUnavailable("the queue is away")
        if found := self.misfits & {event.id for event in events}:
            if self.refuse_behind_misfit and len(events) == 1:
                self.refuse_behind_misfit, self.refusals = False, 1
            raise ValueError(f"{found} cannot be kept")
        self.batches.append(events)
        return len(events)

    @property
    def ids(self) -> list[str]:
        return [event.id for batch in self.batches for event in batch]


async def _reply(node: Node, text: str, conversation_id: str = "c-1") -> str:
    runs = Runs(node, LOCAL, trace_id="f" * 32)
    started = await runs.start(text, conversation_id=conversation_id, session_id="s-1")
    async for _ in runs.follow(started.run_id):
        pass
    return started.run_id


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - of nothing here it could be told
            await asyncio.sleep(0.01)


async def _left(node: Node) -> list[OutboxEvent]:
    return [event for _, event in await node.database.read(lambda tx: first_events(tx, 10_000))]


async def _until_left(node: Node, *ids: str) -> None:
    """Wait for these alone to be left: rows go a moment after the queue has their events."""
    async with asyncio.timeout(5):
        while [event.id for event in await _left(node)] != list(ids):  # noqa: ASYNC110 - of nothing here it could be told
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("words", "topic", "more"),
    [
        ("script: tokens=4 seed=3", "chat.message.completed", {"finishReason": "stop", "chunkCount": 4}),
        ("script: tokens=4 fail=400@1", "chat.message.failed", {"code": "upstream_refused", "partial": False}),
    ],
)
async def test_the_end_of_a_reply_is_told_with_its_figures(
    open_test_node: OpenNode, words: str, topic: str, more: dict[str, object]
) -> None:
    """Everything that protocols name, as the reply's own last event has it."""
    async with open_test_node() as node:
        run_id = await _reply(node, words)
        (event,) = await _left(node)
        assert (event.topic, event.owner, event.trace_id) == (topic, "local", "f" * 32)
        assert event.id == event.payload["id"] == f"{run_id}.{topic.rpartition('.')[2]}"
        assert {name: event.payload[name] for name in more} == more
        assert event.payload["messageLength"] == len(words)
        assert event.payload["sessionId"] == "s-1"
        assert event.payload["conversationId"] == "c-1"
        assert 0 <= event.payload["responseTimeMs"] < 5000
        first_ms = event.payload["firstTokenMs"]
        assert first_ms is None if "failed" in topic else 0 <= first_ms <= event.payload["responseTimeMs"]


async def test_what_is_rolled_back_is_not_told(open_test_node: OpenNode) -> None:
    """An event belongs to its transaction."""

    def fail(tx: Transaction) -> None:
        put_event(tx, OutboxEvent(id="e", owner="o", topic="t", payload=1, trace_id=None, at_ms=0))
        raise ValueError("on purpose")

    async with open_test_node() as node:
        with pytest.raises(ValueError, match="on purpose"):
            await node.committer.write(fail)
        assert await _left(node) == []


async def test_the_relay_hands_over_together_what_came_together(open_test_node: OpenNode) -> None:
    """Many replies are one batch; the outbox is empty then, and nothing is read while nothing happens."""
    async with open_test_node() as node:
        queue = Queue()
        relay = Relay(node, queue)
        runs = await asyncio.gather(*(_reply(node, "script: tokens=2", f"c-{n}") for n in range(50)))
        await _until(lambda: len(queue.ids) == 50)
        await _until_left(node)
        await relay.close()
        assert sorted(queue.ids) == sorted(f"{run_id}.completed" for run_id in runs)
        assert len(queue.batches) <= 5


async def test_a_queue_that_is_away_gets_everything_when_it_is_back(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, each once."""
    monkeypatch.setattr("legato.steps.relay.RETRY_S", 0.01)
    async with open_test_node() as node:
        queue = Queue(refusals=3)
        relay = Relay(node, queue)
        first, second = await _reply(node, "script: tokens=1"), await _reply(node, "script: tokens=1")
        await _until(lambda: len(queue.ids) == 2)
        await relay.close()
        assert queue.ids == [f"{first}.completed", f"{second}.completed"]


def _put(*ids: str) -> Callable[[Transaction], None]:
    def put(tx: Transaction) -> None:
        for id_ in ids:
            put_event(tx, OutboxEvent(id=id_, owner="o", topic="t", payload=1, trace_id="f" * 32, at_ms=0))

    return put


async def test_an_event_that_the_queue_cannot_take_holds_no_other_up(open_test_node: OpenNode) -> None:
    """Those before and behind it go on, in order; it stays where it is, and is named in the log once."""
    async with open_test_node() as node:
        await node.committer.write(_put("e1", "bad1", "e2", "bad2", "e3"))
        queue = Queue(misfits=("bad1", "bad2"))
        with capture_logs() as lines:
            relay = Relay(node, queue)
            await _until(lambda: len(queue.ids) == 3)
            await node.committer.write(_put("e4", "e5"))
            await _until(lambda: len(queue.ids) == 5)
            await _until_left(node, "bad1", "bad2")
            await relay.close()
        assert queue.ids == ["e1", "e2", "e3", "e4", "e5"]
        assert [len(batch) for batch in queue.batches] == [1, 1, 1, 2], "what comes later is a batch again"
        named = [line for line in lines if line["log_level"] == "error"]
        assert [(line["event_id"], line["topic"], line["trace_id"]) for line in named] == [
            ("bad1", "t", "f" * 32),
            ("bad2", "t", "f" * 32),
        ]


async def test_an_event_that_was_left_behind_is_tried_again(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this process after a while, though others keep coming, and by the next one at its start."""
    monkeypatch.setattr("legato.steps.relay.AGAIN_S", 0.2)
    monkeypatch.setattr("legato.steps.relay.PACE_S", 0.01)
    monkeypatch.setattr("legato.steps.relay.GATHER_S", 0.01)
    async with open_test_node() as node:
        await node.committer.write(_put("bad1", "e1", "bad2"))
        queue = Queue(misfits=("bad1", "bad2"))
        with capture_logs() as lines:
            relay = Relay(node, queue)
            for number in range(20):
                await asyncio.sleep(0.04)
                await node.committer.write(_put(f"f{number}"))
            queue.misfits = {"bad2"}
            await _until(lambda: "bad1" in queue.ids)
            await _until_left(node, "bad2")
            await relay.close()
        assert [line["event_id"] for line in lines if line["log_level"] == "error"] == ["bad1", "bad2"]
        following = Queue()
        relay = Relay(node, following)
        await _until(lambda: following.ids == ["bad2"])
        await relay.close()
        assert len(queue.ids) == len(set(queue.ids)) == 22


async def test_a_queue_that_goes_away_meanwhile_leaves_no_event_behind(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what fails alone while the queue is there is the event's own fault."""
    monkeypatch.setattr("legato.steps.relay.RETRY_S", 0.01)
    async with open_test_node() as node:
        await node.committer.write(_put("e1", "bad", "e2"))
        queue = Queue(misfits=("bad",))
        queue.refuse_behind_misfit = True
        relay = Relay(node, queue)
        await _until(lambda: queue.ids == ["e1", "e2"])
        await _until_left(node, "bad")
        await relay.close()


async def test_what_took_the_place_of_an_erased_event_is_not_forgotten_with_it(open_test_node: OpenNode) -> None:
    """An event is erased while it is handed over, and SQLite gives the next one its place."""
    async with open_test_node() as node:
        queue = Queue()
        hand_over = queue.hand_over

        def replace(tx: Transaction) -> None:
            erase_events(tx, Erased(owners=frozenset(["o"]), conversations={}), 0)
            _put("later")(tx)

        async def slowly(batch_id: str, events: Sequence[JobEvent]) -> int:
            count = await hand_over(batch_id, events)
            if len(queue.batches) == 1:
                await node.committer.write(replace)
            return count

        queue.hand_over = slowly  # type: ignore[method-assign]
        await node.committer.write(_put("erased"))
        relay = Relay(node, queue)
        await _until(lambda: queue.ids == ["erased", "later"])
        await _until_left(node)
        await relay.close()


async def test_the_real_queue_tells_its_absence_from_what_it_cannot_keep(
    open_test_node: OpenNode, tmp_path: Path
) -> None:
    """A value that is longer than its file takes is no absence of the file."""
    world = QueueWorld(tmp_path / "queue.db")
    engine = await world.open(QueueStep(name="lead", topics=["lead"]))
    assert engine._opened is not None

    @sa.event.listens_for(engine._opened.rows._engine, "checkout")
    def limit(connection: Any, *_: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)

    def put(tx: Transaction) -> None:
        for id_, size in (("e1", 1), ("bad", 30_000), ("e2", 1)):
            put_event(tx, OutboxEvent(id=id_, owner="o", topic="lead", payload="x" * size, trace_id=None, at_ms=0))

    try:
        async with open_test_node() as node:
            await node.committer.write(put)
            relay = Relay(node, engine)
            await world.until(lambda: sorted(world.ended) == ["e1", "e2"])
            await _until_left(node, "bad")
            await relay.close()
    finally:
        await engine.close()


async def test_what_an_earlier_process_left_is_handed_over(open_test_node: OpenNode, tmp_path: Path) -> None:
    """More than one batch of it, in order."""

    def put(tx: Transaction) -> None:
        for number in range(MOST_EVENTS + 10):
            put_event(tx, OutboxEvent(id=f"e{number}", owner="o", topic="t", payload=1, trace_id=None, at_ms=0))

    async with open_test_node() as node:
        await node.committer.write(put)
        queue = Queue()
        relay = Relay(node, queue)
        await _until(lambda: len(queue.ids) == MOST_EVENTS + 10)
        await relay.close()
        assert queue.ids == [f"e{number}" for number in range(MOST_EVENTS + 10)]


async def test_one_node_relays_what_all_have_committed(postgres: Postgres, tmp_path: Path) -> None:
    """In the order in which it was committed; when another node leads, that one goes on."""
    async with open_mates(postgres, tmp_path) as mates:
        queues = [Queue() for _ in mates]
        relays = [Relay(mate.node, queue) for mate, queue in zip(mates, queues, strict=True)]
        told = []
        for number in range(20):
            told.append(f"e{number}")
            await mates[number % 2].node.committer.write(_put(told[-1]))
        await until(lambda: [id_ for queue in queues for id_ in queue.ids] == told)
        leads = [mate.node.leads for mate in mates]
        assert [bool(queue.ids) for queue in queues] == leads
        assert sum(leads) == 1
        ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2"
        assert rows(mates[0], ended) == [(True,)]
        await mates[0].node.committer.write(_put("later"))
        await until(lambda: any("later" in queue.ids for queue in queues))
        for relay in relays:
            await relay.close()

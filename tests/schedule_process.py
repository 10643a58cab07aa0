"""A server process for schedules, as far as storage goes: it becomes a node, makes runs, and becomes another node."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, Final

from legato.core.errors import StorageUnavailable
from legato.core.event import CallStarted, LogItem, RunFinished, RunStarted, RunStopped
from legato.core.run import RunState
from legato.runs.tail import Tail
from legato.storage import nodes
from legato.storage.committer import Command, Committer
from legato.storage.postgres import PostgresDatabase
from legato.storage.postgres_aside import Aside
from legato.storage.runs import EndedTurn, TurnRows, end_run, insert_log
from legato.storage.statement import Transaction
from legato.storage.turns import LEAF, NewTurn, StartedTurn, start_turn
from tests.statements import execute

LEASE_MS: Final = 60_000


class HeldTail(Tail):
    """The log of a run at the process that makes it; a process that is dead shows nothing."""

    __slots__ = ("__dict__",)
    dead = False

    def publish(self, items: Any) -> None:
        if not self.dead:
            super().publish(items)


class EndRun(Command[LogItem]):
    """Ends a run as runs.end does."""

    def __init__(self, row: StartedTurn, tail: HeldTail) -> None:
        self.row, self.tail = row, tail
        self.log = tail

    def apply(self, tx: Transaction) -> LogItem:
        rows = TurnRows(
            run_key=self.row.key,
            run_id="r",
            epoch=self.tail.epoch,
            conversation_key=self.row.conversation_key,
            message_id=self.row.message_id,
            parts="[]",
            model=None,
            calls=1,
            usage=None,
            first_token_at_ms=None,
            first_token_ms=None,
            response_time_ms=1,
            now_ms=1,
        )
        terminal: LogItem = RunFinished(reason="stop", message_count=2, response_time_ms=1)
        if isinstance(end_run(tx, rows, _ended(RunState.FINISHED)), str):
            terminal = RunStopped(by="user", message_count=2, response_time_ms=1)
            end_run(tx, rows, _ended(RunState.STOPPED))
        log = self.tail.log.copy()
        log.extend([terminal], self.tail.epoch)
        insert_log(tx, rows.run_key, rows.conversation_key, log)
        return terminal

    def committed(self, value: LogItem) -> None:
        self.tail.publish([value])


def _ended(state: RunState) -> EndedTurn:
    stopped = "user" if state is RunState.STOPPED else None
    return EndedTurn(state=state, status="complete", stopped_by=stopped, finish_reason="stop", error=None)  # type: ignore[arg-type]


class Process:
    """A server process, as far as storage goes; it lives through many incarnations as a node."""

    def __init__(self, url: str) -> None:
        self.database = PostgresDatabase(url, pool=1)
        self.committer = Committer(self.database)
        self.committer.on_fenced = self._fenced
        self.aside = Aside(self.database, statement_s=5)
        self.held: dict[int, HeldTail] = {}
        self.followed: dict[int, Tail] = {}
        self.incarnations = 0
        self.id = uuid.uuid4().hex
        self._registering: asyncio.Task[None] | None = None

    @property
    def key(self) -> int:
        assert self.database.node_key is not None
        return self.database.node_key

    async def register(self) -> None:
        """Become a new node, which owns nothing."""
        for tail in self.held.values():
            tail.key, tail.dead = 0, True
        self.held.clear()
        self.followed.clear()
        self.incarnations += 1
        row = nodes.NodeRow(
            id=f"{self.id}.{self.incarnations}",
            host="h",
            pid=1,
            executor_id=self.id,
            lease_ms=LEASE_MS,
            version="0",
        )
        self.database.node_key = await self.aside.run(lambda tx: nodes.register(tx, row))
        self.committer.go_on()

    def _fenced(self) -> None:
        for tail in self.held.values():
            tail.key = 0
        self._registering = asyncio.get_running_loop().create_task(self.register())

    async def settle(self) -> None:
        """Come to rest: nothing is under way, and the node may write."""
        try:
            await self.committer.flush(wait_s=10)
        except StorageUnavailable:
            assert self._registering is not None, "only who was fenced is refused"
        if self._registering is not None:
            await self._registering
            self._registering = None

    async def close(self) -> None:
        await self.committer.close()
        self.aside.close()
        self.database.close()


def emptying(table: str) -> Callable[[Transaction], int]:
    return lambda tx: execute(tx, f"DELETE FROM {table}")


def starting(run_id: str) -> Callable[[Transaction], Any]:
    return lambda tx: start_turn(tx, _turn(run_id), _first)


def _turn(run_id: str) -> NewTurn:
    return NewTurn(
        owner="ann",
        conversation_id=f"c-{run_id}",
        session_id="s",
        run_id=run_id,
        user_message_id=f"u-{run_id}",
        message_id=f"m-{run_id}",
        parts="[]",
        title="t",
        metadata=None,
        request="{}",
        parent=LEAF,
        regenerate=None,
        create=True,
        key=None,
        body_hash=b"",
        max_waiting=1,
        now_ms=1,
        refusal=None,
    )


def _first(*, ahead: int, user_message_id: str, parts: str, model: str | None) -> list[LogItem]:
    started = RunStarted(
        conversation_id="c", session_id="s", user_message_id=user_message_id, message_id="m", at_ms=1, ahead=ahead
    )
    return [started, CallStarted(epoch=0, provider="p", model="m", reason="first")]

"""Stops a run: the intent is committed first; only the process that holds the run writes its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence, Set
from typing import Any

from legato.core.errors import NotFound
from legato.core.principal import Principal
from legato.fanout.hint import HintKind
from legato.runs.end import Stopped
from legato.runs.execute import end_turn
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.take_up import take_up
from legato.storage.codec import SegmentPiece
from legato.storage.committer import Command
from legato.storage.pieces import read_each
from legato.storage.runs import find_run, stop_run
from legato.storage.statement import Transaction


async def stop(node: Node, principal: Principal, run_id: str) -> Any:
    """Ask a run to stop; return its row as it was found. A run that has ended stays as it is.

    Raises:
        NotFound: No such run, or another's.
        StorageUnavailable: The intent could not be saved.
    """
    asked = _Stop(node, principal, run_id)
    row = await node.committer.execute(asked, wait_s=node.settings.storage_wait_s)
    if asked.ending is not None:
        await asyncio.shield(asked.ending)
    return row


class _Stop(Command[Any]):
    """Records the intent, and acts on it though whoever asked has gone meanwhile.

    Attributes:
        ending: Ends the turn, where it waited: nobody else would.
    """

    ending: asyncio.Task[None] | None = None

    def __init__(self, node: Node, principal: Principal, run_id: str) -> None:
        self._node = node
        self._principal = principal
        self._run_id = run_id

    def apply(self, tx: Transaction) -> Any:
        row = find_run(tx, self._principal.id, self._run_id)
        if row is None:
            raise NotFound("there is no run with this id")
        stop_run(tx, self._principal.id, self._run_id, "user")
        return row

    def committed(self, value: Any) -> None:
        node, run = self._node, self._node.live.get(self._run_id)
        if run is not None:
            waited = run.queued and run.stop_cause is None
            run.stop("user")
            if waited:
                self._keep(end_turn(node, run, Stopped("user")))
        elif value.state == "queued" and node.key is not None:
            self._keep(_stop_elsewhere(node, self._principal, self._run_id))
        elif value.state == "running":
            node.wakes.tell(HintKind.STOP, [value.key])

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        self.ending = asyncio.get_running_loop().create_task(work)
        self._node.keep(self.ending)


async def _stop_elsewhere(node: Node, principal: Principal, run_id: str) -> None:
    """End a turn that waits and that nobody holds, as long as nobody else has let it run or ended it."""

    def find(tx: Transaction) -> tuple[Any, Sequence[SegmentPiece] | None]:
        row = find_run(tx, principal.id, run_id)
        if row is None:
            return None, ()
        found, unreadable = read_each(tx, [row.key])
        return row, None if row.key in unreadable else found.get(row.key, ())

    row, pieces = await node.database.read(find)
    if row is None or row.stop_by is None:
        return
    if row.state == "queued" and pieces != ():
        await end_turn(node, take_up(node, row, pieces, queued=True), Stopped(row.stop_by))
    # It may have begun to run in between.
    node.wakes.tell(HintKind.STOP, [row.key])


def let_go(node: Node, conversation_key: int) -> None:
    """Interrupt what a deleted conversation was being answered."""
    for run in list(node.live.values()):
        if run.conversation_key == conversation_key:
            _let_go(node, run)


def let_go_of(node: Node, run_keys: Set[int]) -> None:
    """Interrupt runs that were deleted at another node."""
    for run in list(node.live.values()):
        if run.tail.key in run_keys:
            _let_go(node, run)


def _let_go(node: Node, run: LiveRun) -> None:
    # The next run may be given its key: what this one still appends must be nobody's.
    run.tail.key = 0
    if run.queued:
        node.live.pop(run.id, None)
        run.tail.lose()
    else:
        run.stop("user")

"""Stops a run: the intent is committed first; only the process that holds the run writes its end."""

from __future__ import annotations

from typing import Any

from legato.core.errors import NotFound
from legato.core.principal import Principal
from legato.runs.end import Stopped, end
from legato.runs.execute import promote
from legato.runs.node import Node
from legato.storage.runs import find_run, stop_run
from legato.storage.statement import Transaction


async def stop(node: Node, principal: Principal, run_id: str) -> Any:
    """Ask a run to stop; return its row as it was found. A run that has ended stays as it is.

    Raises:
        NotFound: No such run, or another's.
        StorageUnavailable: The intent could not be saved.
    """

    def record(tx: Transaction) -> Any:
        row = find_run(tx, principal.id, run_id)
        if row is None:
            raise NotFound("there is no run with this id")
        stop_run(tx, principal.id, run_id, "user")
        return row

    row = await node.committer.write(record, wait_s=node.settings.storage_wait_s)
    run = node.live.get(run_id)
    if run is not None:
        waited = run.queued and run.stop_cause is None
        run.stop("user")
        if waited:
            following = await end(node, run, Stopped("user"))
            if following is not None:
                promote(node, following)
    return row


def let_go(node: Node, conversation_key: int) -> None:
    """Interrupt what a deleted conversation was being answered."""
    for run in list(node.live.values()):
        if run.conversation_key == conversation_key:
            # The next run may be given its key: what this one still appends must be nobody's.
            run.tail.key = 0
            if run.queued:
                node.live.pop(run.id, None)
                run.tail.cut()
            else:
                run.stop("user")

"""Finds the log that a reader wants, live or ended, and checks the place from which it wants to go on."""

from __future__ import annotations

from legato.core.cursor import Cursor
from legato.core.errors import CursorDiverged, Draining, NotFound, StorageUnavailable
from legato.core.principal import Principal
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.storage.codec import unpack_log
from legato.storage.runs import find_log, find_run


async def find_tail(node: Node, principal: Principal, run_id: str) -> Tail:
    """Return the log of a run, growing or closed.

    Raises:
        NotFound: No such run, or another's.
        StorageUnavailable: The log cannot be read at present.
        Draining: The run, as all that still run, has been left to the next start.
    """
    if node.left:
        raise Draining("the server is shutting down: try again in a moment")
    run = node.live.get(run_id)
    # Another's is looked for like one that is not there: the time that it takes tells nothing.
    if run is not None and run.tail.owner == principal.id:
        return run.tail
    row = await node.database.read(lambda tx: find_log(tx, principal.id, run_id))
    if row is not None:
        return Tail(run_id=run_id, owner=principal.id, log=unpack_log(row.schema, row.format, row.data))
    if (run := node.live.get(run_id)) is not None and run.tail.owner == principal.id:
        return run.tail
    if await node.database.read(lambda tx: find_run(tx, principal.id, run_id)) is None:
        raise NotFound("there is no run with this id")
    # It ended between the two looks, or waits for its process to take it up again.
    row = await node.database.read(lambda tx: find_log(tx, principal.id, run_id))
    if row is None:
        raise StorageUnavailable("the reply is being taken up again: try in a moment")
    return Tail(run_id=run_id, owner=principal.id, log=unpack_log(row.schema, row.format, row.data))


def check_cursor(tail: Tail, cursor: Cursor | None, after: int | None) -> int:
    """Return the seq of the last event that the reader has; -1 for none.

    Args:
        cursor: From Last-Event-ID; it wins.
        after: A bare seq.

    Raises:
        CursorDiverged: It is of another run, of an epoch whose prefix is not this one's, or past the log's head.
    """
    if cursor is not None:
        if cursor.run_id != tail.run_id:
            raise CursorDiverged("the cursor is of another run: replay this one from the start")
        after = cursor.seq
    if after is None:
        return -1
    if after >= len(tail.log):
        raise CursorDiverged(f"the cursor is at {after}, the log's head at {len(tail.log) - 1}: replay from the start")
    if cursor is not None and after >= 0 and cursor.epoch != tail.log.epoch_at(after):
        raise CursorDiverged("the cursor is of another epoch of this run: replay from the start")
    return after


def is_read(tail: Tail, after: int) -> bool:
    """Return whether a reader at `after` has the terminal event already."""
    return tail.closed and after >= len(tail.log) - 1

"""Finds the log that a reader wants, live or ended, and checks the place from which it wants to go on."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from legato.core.cursor import Cursor
from legato.core.errors import CursorDiverged, Draining, NotFound, StorageUnavailable
from legato.core.principal import Principal
from legato.runs.feed import Feed
from legato.runs.node import Node
from legato.runs.tail import Tail
from legato.storage.codec import unpack_log
from legato.storage.followed import Growth, read_followed
from legato.storage.runs import find_log, find_run

if TYPE_CHECKING:
    from legato.storage.postgres_aside import Aside


async def find_tail(node: Node, principal: Principal, run_id: str, *, after: int = -1) -> Tail:
    """Return the log of a run, growing or closed.

    Args:
        after: Seq of the last event that the reader has. What it was shown at another node is committed, and may not
            have come to this one yet.

    Raises:
        NotFound: No such run, or another's.
        StorageUnavailable: The log cannot be read at present.
        Draining: The run, as all that still run, has been left to the next start.
    """
    if node.left:
        raise Draining("the server is shutting down: try again in a moment")
    if not await node.wait_to_go():
        raise StorageUnavailable("this server has lost touch with the others: try again in a moment")
    tail = await _growing(node, principal, run_id, after)
    if tail is not None:
        return tail
    row = await node.database.read(lambda tx: find_log(tx, principal.id, run_id))
    if row is not None:
        return Tail(run_id=run_id, owner=principal.id, log=unpack_log(row.schema, row.format, row.data))
    if (tail := await _growing(node, principal, run_id, after)) is not None:
        return tail
    row = await node.database.read(lambda tx: find_run(tx, principal.id, run_id))
    if row is None:
        raise NotFound("there is no run with this id")
    if node.feed is not None:
        # Another node makes it, or none yet.
        return await node.feed.follow(row)
    # It ended between the two looks, or waits for its process to take it up again.
    row = await node.database.read(lambda tx: find_log(tx, principal.id, run_id))
    if row is None:
        raise StorageUnavailable("the reply is being taken up again: try in a moment")
    return Tail(run_id=run_id, owner=principal.id, log=unpack_log(row.schema, row.format, row.data))


async def _growing(node: Node, principal: Principal, run_id: str, after: int) -> Tail | None:
    """Return the log of a run that is in memory here, if it is this principal's."""
    run = node.live.get(run_id)
    # Another's is looked for like one that is not there: the time that it takes tells nothing.
    if run is not None and run.tail.owner == principal.id and (node.feed is None or after < run.tail.end):
        return run.tail
    if node.feed is not None and (tail := node.feed.find(principal.id, run_id)) is not None:
        return await node.feed.catch_up(tail)
    return None


def create_feed(connection: Aside | None, *, patience_s: float) -> Feed | None:
    """Return what follows the runs of other nodes over a connection of its own; None where there can be none."""
    if connection is None:
        return None

    async def read(ends: Mapping[int, int], asked: AbstractSet[int]) -> Growth:
        return await connection.run(lambda tx: read_followed(tx, ends, asked))

    return Feed(read, patience_s=patience_s)


def place_of(cursor: Cursor | None, after: int | None) -> int:
    """Return the seq of the last event that a reader says it has; -1 for none. See `check_cursor`."""
    if cursor is not None:
        return cursor.seq
    return -1 if after is None else after


def check_cursor(tail: Tail, cursor: Cursor | None, after: int | None) -> int:
    """Return the seq of the last event that the reader has; -1 for none.

    Args:
        cursor: From Last-Event-ID; it wins.
        after: A bare seq.

    Raises:
        CursorDiverged: It is of another run, of an epoch whose prefix is not this one's, or past the log's head.
    """
    if cursor is not None and cursor.run_id != tail.run_id:
        raise CursorDiverged("the cursor is of another run: replay this one from the start")
    after = place_of(cursor, after)
    if after >= len(tail.log):
        raise CursorDiverged(f"the cursor is at {after}, the log's head at {len(tail.log) - 1}: replay from the start")
    if cursor is not None and after >= 0 and cursor.epoch != tail.log.epoch_at(after):
        raise CursorDiverged("the cursor is of another epoch of this run: replay from the start")
    return after


def is_read(tail: Tail, after: int) -> bool:
    """Return whether a reader at `after` has the terminal event already."""
    return tail.closed and after >= len(tail.log) - 1

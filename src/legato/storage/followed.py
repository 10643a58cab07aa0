"""Reading the logs of runs that other nodes make, as far as they are committed. PostgreSQL alone has other nodes.

One statement reads what is new of any number of runs. The log of a run that has ended is the packed one: its pieces go
some time after it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import text

from legato.core.event import LogItem
from legato.core.log import RunLog
from legato.core.reply import fold_reply
from legato.storage.codec import unpack_log
from legato.storage.sealed_logs import UNREADABLE, open_log, read_items
from legato.storage.statement import Prepared, Transaction

MOST_PIECES: Final = 256
"""Of one run, in one read."""

Piece = tuple[int, int, Sequence[LogItem]]
"""The seq of the first item, the epoch, and the items."""

_PIECES = Prepared(
    text(
        """
SELECT found.run_key, found.first_seq, found.epoch, found.schema, found.format, found.data
FROM unnest(CAST(:keys AS bigint[]), CAST(:ends AS integer[])) AS wanted(key, first_seq)
CROSS JOIN LATERAL (
    SELECT piece.run_key, piece.first_seq, piece.epoch, piece.schema, piece.format, piece.data
    FROM piece
    WHERE piece.run_key = wanted.key AND piece.first_seq >= wanted.first_seq
    ORDER BY piece.first_seq
    LIMIT :most
) AS found
ORDER BY found.run_key, found.first_seq
"""
    )
)
_STATES = Prepared(text("SELECT key, state FROM run WHERE key = ANY(CAST(:keys AS bigint[]))"))
_LOGS = Prepared(
    text(
        """
SELECT run_log.run_key, run.conversation_key, run_log.count, run_log.schema, run_log.format, run_log.data
FROM run_log JOIN run ON run.key = run_log.run_key
WHERE run_log.run_key = ANY(CAST(:keys AS bigint[]))
"""
    )
)
_ALL_PIECES = Prepared(
    text(
        """
SELECT run.id, run.key, piece.first_seq, piece.epoch, piece.schema, piece.format, piece.data
FROM run JOIN piece ON piece.run_key = run.key
WHERE run.id = ANY(CAST(:ids AS text[]))
ORDER BY run.key, piece.first_seq
"""
    )
)


@dataclass(frozen=True, slots=True)
class Growth:
    """What one look at followed runs has found, by their keys.

    Attributes:
        pieces: Of each run that has new ones, in order.
        more: Runs of which not all was read.
        logs: The whole logs of runs that have ended.
        gone: Runs that were deleted.
        unreadable: Runs whose log a newer Legato writes.
    """

    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    more: set[int] = field(default_factory=set)
    logs: dict[int, RunLog] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)


def read_followed(tx: Transaction, ends: Mapping[int, int], asked: AbstractSet[int]) -> Growth:
    """Return what is new of runs. Each statement may see more than the one before it: nothing is missed by that.

    Args:
        ends: Of each run's key, the seq of the first event that is not known.
        asked: Of these it is looked up whether they have ended, of others only where they bring nothing.
    """
    found = Growth()
    pieces = found.pieces
    values = {"keys": list(ends), "ends": list(ends.values()), "most": MOST_PIECES}
    for key, first_seq, epoch, schema, form, data in tx.tuples(_PIECES, **values):
        try:
            items = read_items(tx, key, first_seq, epoch, schema, form, data)
        except UNREADABLE:
            found.unreadable.add(key)
            continue
        if (known := pieces.get(key)) is None:
            pieces[key] = [(first_seq, epoch, items)]
        else:
            known.append((first_seq, epoch, items))
    found.more.update(key for key, each in pieces.items() if len(each) == MOST_PIECES)
    unsure = [key for key in ends if key in asked or key not in pieces]
    if not unsure:
        return found
    states = dict(tx.tuples(_STATES, keys=unsure))
    ended = [key for key in unsure if states.get(key) not in ("queued", "running")]
    if ended:
        found.gone.update(ended)
        for key, conversation_key, count, schema, form, data in tx.tuples(_LOGS, keys=ended):
            found.gone.remove(key)
            try:
                found.logs[key] = unpack_log(schema, *open_log(tx, key, conversation_key, count, form, data))
            except UNREADABLE:
                found.unreadable.add(key)
    return found


def find_said(tx: Transaction, rows: Sequence[Any], live: Container[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the parts of the replies that are being made elsewhere, by the ids of their runs.

    Args:
        rows: Messages.
        live: Runs that this process makes: it has what they said.
    """
    if tx.database != "postgresql":
        return {}
    ids = [row.run_id for row in rows if row.status == "running" and row.run_id not in live]
    return {run_id: fold_reply(log).parts for run_id, log in find_logs(tx, ids).items()}


def find_logs(tx: Transaction, run_ids: Sequence[str]) -> dict[str, RunLog]:
    """Return the logs of unfinished runs, as far as they are committed."""
    logs: dict[str, RunLog] = {}
    if run_ids:
        for run_id, key, first_seq, epoch, schema, form, data in tx.tuples(_ALL_PIECES, ids=list(run_ids)):
            items = read_items(tx, key, first_seq, epoch, schema, form, data)
            logs.setdefault(run_id, RunLog()).extend(items, epoch)
    return logs

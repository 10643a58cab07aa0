"""Segments: what one flush brought of the logs of live runs, in the order of appending."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import structlog

from legato.core.event import SCHEMA_VERSION, LogItem
from legato.storage.codec import SEGMENT_FORMAT, SegmentPiece, encode_segment
from legato.storage.pieces import append_pieces
from legato.storage.sealed_logs import UNREADABLE, format_of, read_items, seal_items, split_segment
from legato.storage.statement import Transaction, insert_into
from legato.storage.tables import segment

INSERT_SEGMENT = insert_into(segment, without="id")
log = structlog.get_logger(__name__)

Logs: TypeAlias = tuple[dict[int, list[SegmentPiece]], dict[int, int], dict[int, Exception]]
"""By the keys of runs: their logs, the ids of their first segments, and why those of others cannot be read."""


def insert_segment(
    tx: Transaction, run_key: int, first_seq: int, epoch: int, items: list[LogItem], *, conversation_key: int
) -> int:
    """Write one segment of one run inside a larger transaction; return its id, 0 where there are pieces instead."""
    if tx.sealing is not None:
        tx.sealing.remember_run(run_key, conversation_key)
    if tx.database == "postgresql":
        append_pieces(tx, [(run_key, first_seq, epoch, items)])
        return 0
    form, data = SEGMENT_FORMAT, encode_segment(items)
    if tx.sealing is not None:
        form, data = format_of(items), seal_items(tx, run_key, first_seq, epoch, items) or b""
    return tx.insert(
        INSERT_SEGMENT,
        run_key=run_key,
        first_seq=first_seq,
        count=len(items),
        epoch=epoch,
        schema=SCHEMA_VERSION,
        format=form,
        data=data,
    )


def read_segments(tx: Transaction, rows: list[Any], conversations: Mapping[int, int]) -> Logs:
    """Return the logs of runs.

    Args:
        rows: All segments, in the order of appending.
        conversations: By the keys of the runs that are wanted, the keys of their conversations.

    Raises:
        UnknownFormat: A newer Legato wrote a segment of several runs.
    """
    found: dict[int, list[Any]] = {}
    first_ids: dict[int, int] = {}
    for row in rows:
        for piece in split_segment(row):
            key, first_seq = piece[0], piece[1]
            if key not in conversations:
                continue
            if first_seq == 0:
                # SQLite gives the key of a run that was deleted to the next one: what is before is not this run's.
                found[key], first_ids[key] = [], row.id
            found.setdefault(key, []).append(piece)
    if tx.sealing is not None:
        for key, conversation_key in conversations.items():
            tx.sealing.remember_run(key, conversation_key)
    logs: dict[int, list[SegmentPiece]] = {}
    unreadable: dict[int, Exception] = {}
    for key, pieces in found.items():
        try:
            logs[key] = [
                (key, first_seq, epoch, read_items(tx, key, first_seq, epoch, *rest))
                for _, first_seq, epoch, *rest in pieces
            ]
        except UNREADABLE as error:
            # The boundary of one run: the others go on.
            log.error("the log of a run cannot be read", run_key=key, error=str(error))
            unreadable[key] = error
    return logs, first_ids, unreadable

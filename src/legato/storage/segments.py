"""Segments: what one flush brought of the logs of live runs, in the order of appending."""

from __future__ import annotations

from legato.core.event import SCHEMA_VERSION, LogItem
from legato.storage.codec import SEGMENT_FORMAT, encode_segment
from legato.storage.pieces import append_pieces
from legato.storage.statement import Transaction, insert_into
from legato.storage.tables import segment

INSERT_SEGMENT = insert_into(segment, without="id")


def insert_segment(tx: Transaction, run_key: int, first_seq: int, epoch: int, items: list[LogItem]) -> int:
    """Write one segment of one run inside a larger transaction; return its id, 0 where there are pieces instead."""
    if tx.database == "postgresql":
        append_pieces(tx, [(run_key, first_seq, epoch, items)])
        return 0
    return tx.insert(
        INSERT_SEGMENT,
        run_key=run_key,
        first_seq=first_seq,
        count=len(items),
        epoch=epoch,
        schema=SCHEMA_VERSION,
        format=SEGMENT_FORMAT,
        data=encode_segment(items),
    )

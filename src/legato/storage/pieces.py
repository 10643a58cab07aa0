"""Pieces: on PostgreSQL, what one flush brought of one run, a row each; the log of a run until it has ended.

A piece is never written over: one run has one piece at a place, whoever tries to write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import text

from legato.core.event import SCHEMA_VERSION
from legato.storage.codec import SEGMENT_FORMAT, SegmentPiece, decode_items, encode_segment
from legato.storage.statement import Prepared, Transaction

_GIVEN: Final = """
unnest(CAST(:run_keys AS bigint[]), CAST(:first_seqs AS int[]), CAST(:epochs AS int[]), CAST(:counts AS int[]),
       CAST(:data AS bytea[])) AS given (run_key, first_seq, epoch, count, data)
"""
_INSERT: Final = f"""
INSERT INTO piece (run_key, first_seq, epoch, count, schema, format, data)
SELECT run_key, first_seq, epoch, count, {SCHEMA_VERSION}, {SEGMENT_FORMAT}, data FROM {_GIVEN}
"""
_APPEND = Prepared(text(_INSERT))
# The lock is let go with the statement; who fences waits for it, and what comes after sees that it was fenced.
_APPEND_UNFENCED = Prepared(
    text(
        "WITH mine AS MATERIALIZED (SELECT FROM node WHERE key = :node_key AND fenced_at IS NULL FOR KEY SHARE)"
        f"{_INSERT} WHERE EXISTS (SELECT FROM mine)"
    )
)
_COUNT_WRITTEN = Prepared(
    text(f"SELECT count(*) AS found FROM piece JOIN {_GIVEN} USING (run_key, first_seq, epoch, count, data)")
)
_READ = Prepared(
    text(
        "SELECT run_key, first_seq, epoch, schema, format, data FROM piece"
        " WHERE run_key = ANY(CAST(:run_keys AS bigint[])) ORDER BY run_key, first_seq"
    )
)
_DELETE = Prepared(text("DELETE FROM piece WHERE run_key = ANY(CAST(:run_keys AS bigint[]))"))

# From run to run by the index: there are many pieces of few runs.
_DELETE_ORPHANS = Prepared(
    text(
        """
        WITH RECURSIVE known (run_key) AS (
            SELECT min(run_key) FROM piece
            UNION ALL
            SELECT (SELECT min(piece.run_key) FROM piece WHERE piece.run_key > known.run_key)
            FROM known WHERE known.run_key IS NOT NULL
        )
        DELETE FROM piece WHERE run_key IN (
            SELECT known.run_key FROM known LEFT JOIN run ON run.key = known.run_key
            WHERE known.run_key IS NOT NULL AND (run.key IS NULL OR run.state NOT IN ('queued', 'running'))
            LIMIT 100
        )
        """
    )
)


def append_pieces(tx: Transaction, pieces: Sequence[SegmentPiece], *, node_key: int | None = None) -> int:
    """Write pieces in one statement; return how many were written: all, or none where the node is fenced.

    Args:
        node_key: The node that must not be fenced; None asks for none.
    """
    if node_key is None:
        return tx.run(_APPEND, **_columns(pieces))
    return tx.run(_APPEND_UNFENCED, node_key=node_key, **_columns(pieces))


def are_written(tx: Transaction, pieces: Sequence[SegmentPiece]) -> bool:
    """Return whether just these pieces are there."""
    return bool(tx.one(_COUNT_WRITTEN, **_columns(pieces)).found == len(pieces))


def read_pieces(tx: Transaction, run_keys: Iterable[int]) -> dict[int, list[SegmentPiece]]:
    """Return what there is of the logs of runs, by run, each in its order; a run without pieces is not in it.

    Raises:
        UnknownFormat: A newer Legato wrote it.
    """
    found: dict[int, list[SegmentPiece]] = {}
    for row in tx.all(_READ, run_keys=list(run_keys)):
        piece = (row.run_key, row.first_seq, row.epoch, decode_items(row.schema, row.format, row.data))
        found.setdefault(row.run_key, []).append(piece)
    return found


def delete_pieces(tx: Transaction, run_keys: Iterable[int]) -> int:
    """Delete the pieces of runs that have ended; return how many there were."""
    return tx.run(_DELETE, run_keys=list(run_keys))


def delete_orphans(tx: Transaction) -> int:
    """Delete pieces of up to 100 runs that are not being made, whoever left them behind; return how many there were."""
    return tx.run(_DELETE_ORPHANS)


def _columns(pieces: Sequence[SegmentPiece]) -> dict[str, Any]:
    keys, firsts, epochs, items = zip(*pieces, strict=True)
    return {
        "run_keys": keys,
        "first_seqs": firsts,
        "epochs": epochs,
        "counts": [len(each) for each in items],
        "data": [encode_segment(each) for each in items],
    }

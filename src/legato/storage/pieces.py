"""Pieces: on PostgreSQL, what one flush brought of one run, a row each; the log of a run until it has ended.

A piece is never written over: one run has one piece at a place, whoever tries to write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import text

from legato.core.event import SCHEMA_VERSION
from legato.storage.codec import SEGMENT_FORMAT, SegmentPiece, encode_segment
from legato.storage.sealed_logs import UNREADABLE, format_of, read_items, seal_items
from legato.storage.statement import Prepared, Transaction

_GIVEN: Final = """
unnest(CAST(:run_keys AS bigint[]), CAST(:first_seqs AS int[]), CAST(:epochs AS int[]), CAST(:counts AS int[]),
       CAST(:data AS bytea[])) AS given (run_key, first_seq, epoch, count, data)
"""
# Those that are sealed say what they begin with: nobody can look.
_GIVEN_SEALED: Final = """
unnest(CAST(:run_keys AS bigint[]), CAST(:first_seqs AS int[]), CAST(:epochs AS int[]), CAST(:counts AS int[]),
       CAST(:data AS bytea[]), CAST(:formats AS int[])) AS given (run_key, first_seq, epoch, count, data, format)
"""
_INTO: Final = "INSERT INTO piece (run_key, first_seq, epoch, count, schema, format, data)"
_INSERT: Final = f"""
{_INTO} SELECT run_key, first_seq, epoch, count, {SCHEMA_VERSION}, {SEGMENT_FORMAT}, data FROM {_GIVEN}
"""
_INSERT_SEALED: Final = f"""
{_INTO} SELECT run_key, first_seq, epoch, count, {SCHEMA_VERSION}, format, data FROM {_GIVEN_SEALED}
"""
# The lock is let go with the statement; who fences waits for it, and what comes after sees that it was fenced.
_MINE: Final = "WITH mine AS MATERIALIZED (SELECT FROM node WHERE key = :node_key AND fenced_at IS NULL FOR KEY SHARE)"
_UNFENCED: Final = "WHERE EXISTS (SELECT FROM mine)"
_APPEND = Prepared(text(_INSERT))
_APPEND_SEALED = Prepared(text(_INSERT_SEALED))
_APPEND_UNFENCED = Prepared(text(f"{_MINE}{_INSERT} {_UNFENCED}"))
_APPEND_UNFENCED_SEALED = Prepared(text(f"{_MINE}{_INSERT_SEALED} {_UNFENCED}"))
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
    if tx.sealing is not None:
        return _append_sealed(tx, pieces, node_key)
    if node_key is None:
        return tx.run(_APPEND, **_columns(pieces))
    return tx.run(_APPEND_UNFENCED, node_key=node_key, **_columns(pieces))


def _append_sealed(tx: Transaction, pieces: Sequence[SegmentPiece], node_key: int | None) -> int:
    rows = [(piece, data) for piece in pieces if (data := seal_items(tx, *piece)) is not None]
    # Of a conversation that is gone nothing is kept, and nobody misses it.
    left_out = len(pieces) - len(rows)
    if not rows:
        return left_out
    values = _places([piece for piece, _ in rows]) | {
        "data": [data for _, data in rows],
        "formats": [format_of(piece[3]) for piece, _ in rows],
    }
    if node_key is None:
        return left_out + tx.run(_APPEND_SEALED, **values)
    written = tx.run(_APPEND_UNFENCED_SEALED, node_key=node_key, **values)
    return left_out + written if written else 0


def are_written(tx: Transaction, pieces: Sequence[SegmentPiece]) -> bool:
    """Return whether just these pieces are there."""
    if tx.sealing is not None:
        there = read_pieces(tx, {piece[0] for piece in pieces})
        return all((key, seq, epoch, list(items)) in there.get(key, ()) for key, seq, epoch, items in pieces)
    return bool(tx.one(_COUNT_WRITTEN, **_columns(pieces)).found == len(pieces))


def read_pieces(tx: Transaction, run_keys: Iterable[int]) -> dict[int, list[SegmentPiece]]:
    """Return what there is of the logs of runs, by run, each in its order; a run without pieces is not in it.

    Raises:
        UnknownFormat: A newer Legato wrote it.
        SealBroken: It does not open.
    """
    found, unreadable = read_each(tx, run_keys)
    for error in unreadable.values():
        raise error
    return found


def read_each(tx: Transaction, run_keys: Iterable[int]) -> tuple[dict[int, list[SegmentPiece]], dict[int, Exception]]:
    """Return the same of the runs whose logs can be read, and why those of others cannot."""
    found: dict[int, list[SegmentPiece]] = {}
    unreadable: dict[int, Exception] = {}
    for row in tx.all(_READ, run_keys=list(run_keys)):
        key, place = row.run_key, (row.run_key, row.first_seq, row.epoch)
        if key in unreadable:
            continue
        try:
            found.setdefault(key, []).append((*place, read_items(tx, *place, row.schema, row.format, row.data)))
        except UNREADABLE as error:
            # The boundary of one run: the others of a page are taken all the same.
            found.pop(key, None)
            unreadable[key] = error
    return found, unreadable


def delete_pieces(tx: Transaction, run_keys: Iterable[int]) -> int:
    """Delete the pieces of runs that have ended; return how many there were."""
    return tx.run(_DELETE, run_keys=list(run_keys))


def delete_orphans(tx: Transaction) -> int:
    """Delete pieces of up to 100 runs that are not being made, whoever left them behind; return how many there were."""
    return tx.run(_DELETE_ORPHANS)


def _columns(pieces: Sequence[SegmentPiece]) -> dict[str, Any]:
    return _places(pieces) | {"data": [encode_segment(items) for *_, items in pieces]}


def _places(pieces: Sequence[SegmentPiece]) -> dict[str, Any]:
    keys, firsts, epochs, items = zip(*pieces, strict=True)
    return {"run_keys": keys, "first_seqs": firsts, "epochs": epochs, "counts": [len(each) for each in items]}

"""Logs as they lie in an encrypted database: each run's piece is sealed for itself, at its place in the run's log.

In the clear stand run, first seq, epoch and count, and on PostgreSQL whether a piece begins with an event. Forms and
places are read by these functions whether encryption is on or off; codec has the bytes within.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from sqlalchemy import bindparam, select

from legato.core.errors import EncryptionKeyMissing, SealBroken
from legato.core.event import SCHEMA_VERSION, LogItem
from legato.core.log import RunLog
from legato.storage.codec import (
    FLUSH_FORMAT,
    PACKED_FORMAT,
    SEGMENT_FORMAT,
    SegmentPiece,
    UnknownFormat,
    decode_items,
    decode_segment,
    encode_segment,
    pack_log,
)
from legato.storage.encryption import LOGS
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import run

if TYPE_CHECKING:
    from legato.storage.sealed_transaction import SealedTransaction

SEALED_SEGMENT_FORMAT: Final = 4
"""SEGMENT_FORMAT, sealed; the first item is text."""
SEALED_FLUSH_FORMAT: Final = 5
"""MessagePack: an array of [run key, first seq, epoch, count, format 4 or 7 as bytes], one of each run."""
SEALED_PACKED_FORMAT: Final = 6
"""PACKED_FORMAT, sealed."""
SEALED_EVENTS_FORMAT: Final = 7
"""SEGMENT_FORMAT, sealed; the first item is an event."""
UNREADABLE: Final = (UnknownFormat, SealBroken)
"""What reading a log raises: a newer Legato wrote it, or it does not open."""

_PIECE: Final = struct.Struct(">5sqqq")
_LOG: Final = struct.Struct(">5sqq")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_CONVERSATION = Prepared(select(run.c.conversation_key).where(run.c.key == bindparam("run_key")))


def is_lost(error: Exception) -> bool:
    """Whether nobody can read a log any more, for which this error was raised."""
    return isinstance(error, SealBroken) and not isinstance(error, EncryptionKeyMissing)


def seal_items(tx: Transaction, run_key: int, first_seq: int, epoch: int, items: Sequence[LogItem]) -> bytes | None:
    """Return a piece of a run's log, sealed; None where its conversation is gone, and nobody needs it."""
    sealed = cast("SealedTransaction", tx)
    encoded = encode_segment(items)
    conversation_key = conversation_of(tx, run_key)
    key = None if conversation_key is None else sealed.data_key(conversation_key, make=True)
    if key is None:
        return None
    return key.seal(_PIECE.pack(b"piece", run_key, first_seq, epoch), encoded)


def format_of(items: Sequence[LogItem]) -> int:
    """Return the format that a sealed piece of these items has."""
    return SEALED_SEGMENT_FORMAT if type(items[0]) is str else SEALED_EVENTS_FORMAT


def seal_flush(tx: Transaction, pieces: Sequence[SegmentPiece]) -> bytes:
    """Return one flush of many runs as the bytes of one segment row; SQLite's."""
    return _encode(
        [
            (key, first_seq, epoch, len(items), data)
            for key, first_seq, epoch, items in pieces
            if (data := seal_items(tx, key, first_seq, epoch, items)) is not None
        ]
    )


def split_segment(row: Any) -> list[tuple[int, int, int, int, int, Any]]:
    """Return (run key, first seq, epoch, schema, format, data) of each piece in a segment row; none is opened.

    Raises:
        UnknownFormat: A newer Legato wrote it.
    """
    if row.format == SEALED_FLUSH_FORMAT and row.schema == SCHEMA_VERSION:
        return [
            (key, first_seq, epoch, row.schema, SEALED_SEGMENT_FORMAT, data)
            for key, first_seq, epoch, _count, data in _decode(row.data)
        ]
    if row.format == FLUSH_FORMAT and row.schema == SCHEMA_VERSION:
        return [(*place, row.schema, FLUSH_FORMAT, items) for *place, items in decode_segment(row)]
    return [(row.run_key, row.first_seq, row.epoch, row.schema, row.format, row.data)]


def read_items(
    tx: Transaction, run_key: int, first_seq: int, epoch: int, schema: int, form: int, data: Any
) -> list[LogItem]:
    """Return what one flush brought of one run.

    Args:
        data: Bytes; with FLUSH_FORMAT the items themselves (`split_segment`).

    Raises:
        UnknownFormat: A newer Legato wrote it.
        SealBroken: It does not open, or is not sealed and should be.
    """
    if tx.sealing is not None:
        if form in (SEALED_SEGMENT_FORMAT, SEALED_EVENTS_FORMAT):
            place = _PIECE.pack(b"piece", run_key, first_seq, epoch)
            data, form = _open(tx, run_key, place, data), SEGMENT_FORMAT
        else:
            _check_plain(tx, run_key)
    return list(data) if form == FLUSH_FORMAT else decode_items(schema, form, data)


def seal_log(tx: Transaction, run_key: int, conversation_key: int, log: RunLog) -> tuple[int, bytes]:
    """Return format and bytes of a whole log."""
    packed = pack_log(log)
    if tx.sealing is None:
        return PACKED_FORMAT, packed
    return seal_packed(tx, run_key, conversation_key, len(log), packed)


def seal_packed(tx: Transaction, run_key: int, conversation_key: int, count: int, packed: bytes) -> tuple[int, bytes]:
    """Return format and bytes of a whole log that is packed already, sealed."""
    sealed = cast("SealedTransaction", tx)
    return SEALED_PACKED_FORMAT, sealed.seal(conversation_key, _LOG.pack(b"runlg", run_key, count), packed)


def open_log(
    tx: Transaction, run_key: int, conversation_key: int | None, count: int, form: int, data: bytes
) -> tuple[int, bytes]:
    """Return format and bytes of a whole log as `unpack_log` wants them.

    Raises:
        SealBroken: As `read_items`.
    """
    if tx.sealing is None:
        return form, data
    if form != SEALED_PACKED_FORMAT:
        _check_plain(tx, run_key)
        return form, data
    if conversation_key is None:
        raise SealBroken("the run of a log is gone")
    place = _LOG.pack(b"runlg", run_key, count)
    return PACKED_FORMAT, cast("SealedTransaction", tx).open(conversation_key, place, data)


def conversation_of(tx: Transaction, run_key: int) -> int | None:
    """Return the key of a run's conversation; None where the run is gone.

    On SQLite only whoever writes may ask: a snapshot may be of before a deletion, and keys are given again there.
    """
    sealing = tx.sealing
    assert sealing is not None
    if (found := sealing.conversation_of(run_key)) is not None:
        return found
    row = tx.one(_CONVERSATION, run_key=run_key)
    if row is None:
        return None
    sealing.remember_run(run_key, row.conversation_key)
    return int(row.conversation_key)


def _open(tx: Transaction, run_key: int, place: bytes, data: bytes) -> bytes:
    conversation_key = conversation_of(tx, run_key)
    if conversation_key is None:
        raise SealBroken("the run of a piece of a log is gone")
    return cast("SealedTransaction", tx).open(conversation_key, place, data)


def _check_plain(tx: Transaction, run_key: int) -> None:
    assert tx.sealing is not None
    if not tx.sealing.may_be_plain(LOGS, run_key):
        raise SealBroken("a log is not sealed, and was not there before encryption was turned on")

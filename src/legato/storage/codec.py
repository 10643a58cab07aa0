"""Events to bytes and back: the two forms in which a log lies in the database.

Each row names its schema version (of the vocabulary, core.event) and its format (of the bytes, here), so that a row
of any age can be read.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from legato.core.event import EVENT_TYPES, SCHEMA_VERSION, Event, LogItem
from legato.core.log import RunLog

SEGMENT_FORMAT = 1
"""MessagePack: an array of the items of one flush; text deltas are strings, events are [type, fields]."""
FLUSH_FORMAT = 3
"""MessagePack: what one flush brought of many runs, an array of [run key, first seq, epoch, items as in format 1]."""
PACKED_FORMAT = 2
"""MessagePack: [text, ends, event seqs, events, epoch starts, epochs]; the arrays are little-endian uint32."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

SegmentPiece = tuple[int, int, int, Sequence[LogItem]]
"""What one flush brought of one run: the run's key, the seq of the first item, the epoch, and the items."""


class UnknownFormat(ValueError):
    """A row was written by a newer Legato, or is damaged."""


def encode_segment(items: Sequence[LogItem]) -> bytes:
    """Return one flush of one run as the bytes of a segment row."""
    return _encode(_items_out(items))


def encode_flush(pieces: Iterable[SegmentPiece]) -> bytes:
    """Return one flush of many runs as the bytes of one segment row."""
    return _encode(
        [
            # Most pieces are one delta.
            (key, first_seq, epoch, items if len(items) == 1 and type(items[0]) is str else _items_out(items))
            for key, first_seq, epoch, items in pieces
        ]
    )


def decode_segment(row: Any) -> list[SegmentPiece]:
    """Return what a segment row (tables.segment) holds of each run.

    Raises:
        UnknownFormat: A newer Legato wrote it.
    """
    if row.format != FLUSH_FORMAT or row.schema != SCHEMA_VERSION:
        return [(row.run_key, row.first_seq, row.epoch, decode_items(row.schema, row.format, row.data))]
    return [(key, first_seq, epoch, _items_in(items)) for key, first_seq, epoch, items in _decode(row.data)]


def decode_items(schema: int, form: int, data: bytes) -> list[LogItem]:
    """Return what one flush brought of one run.

    Raises:
        UnknownFormat: A newer Legato wrote it.
    """
    if schema != SCHEMA_VERSION or form != SEGMENT_FORMAT:
        raise UnknownFormat(f"segment of schema {schema} and format {form}")
    return _items_in(_decode(data))


def pack_log(log: RunLog) -> bytes:
    """Return a whole log as the bytes of a run_log row."""
    return _encode(
        (
            bytes(log.text_bytes),
            _array_out(log.ends),
            _array_out(log.event_seqs),
            [_event_out(event) for event in log.events],
            _array_out(array("I", log.epoch_starts)),
            _array_out(array("I", log.epochs)),
        )
    )


def unpack_log(schema: int, form: int, data: bytes) -> RunLog:
    """Return the log of a run_log row."""
    if schema != SCHEMA_VERSION or form != PACKED_FORMAT:
        raise UnknownFormat(f"run log of schema {schema} and format {form}")
    text, ends, event_seqs, events, epoch_starts, epochs = _decode(data)
    log = RunLog()
    log.text_bytes = bytearray(text)
    log.ends = _array_in(ends)
    log.event_seqs = _array_in(event_seqs)
    log.events = [_event_in(event) for event in events]
    log.epoch_starts = tuple(_array_in(epoch_starts))
    log.epochs = tuple(_array_in(epochs))
    return log


def _items_out(items: Sequence[LogItem]) -> list[Any]:
    return [item if type(item) is str else _event_out(item) for item in items]  # type: ignore[arg-type]


def _items_in(data: list[Any]) -> list[LogItem]:
    return [item if type(item) is str else _event_in(item) for item in data]


def _event_out(event: Event) -> tuple[str, Event]:
    return event.type, event


def _event_in(data: list[Any]) -> Event:
    kind, fields = data
    try:
        return msgspec.convert(fields, EVENT_TYPES[kind])
    except KeyError:
        raise UnknownFormat(f"event of type {kind!r}") from None


def _array_out(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _array_in(data: bytes) -> array[int]:
    values = array("I")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values

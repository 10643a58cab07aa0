"""Events to bytes and back: the two forms in which a log lies in the database.

Each row names its schema version (of the vocabulary, core.event) and its format (of the bytes, here), so that a row
of any age can be read.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from legato.core.event import EVENT_TYPES, SCHEMA_VERSION, Event, LogItem
from legato.core.log import RunLog

SEGMENT_FORMAT = 1
"""MessagePack: an array of the items of one flush; text deltas are strings, events are [type, fields]."""
PACKED_FORMAT = 2
"""MessagePack: [text, ends, event seqs, events, epoch starts, epochs]; the arrays are little-endian uint32."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class UnknownFormat(ValueError):
    """A row was written by a newer Legato, or is damaged."""


def encode_segment(items: Sequence[LogItem]) -> bytes:
    """Return one flush of one run as the bytes of a segment row."""
    return _encode([item if type(item) is str else _event_out(item) for item in items])  # type: ignore[arg-type]


def decode_segment(schema: int, form: int, data: bytes) -> list[LogItem]:
    """Return the items of a segment row."""
    if schema != SCHEMA_VERSION or form != SEGMENT_FORMAT:
        raise UnknownFormat(f"segment of schema {schema} and format {form}")
    return [item if type(item) is str else _event_in(item) for item in _decode(data)]


def pack_log(log: RunLog) -> bytes:
    """Return a whole log as the bytes of a run_log row."""
    return _encode(
        (
            bytes(log.text_bytes),
            _array_out(log.ends),
            _array_out(log.event_seqs),
            [_event_out(event) for event in log.events],
            _array_out(log.epoch_starts),
            _array_out(log.epochs),
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
    log.epoch_starts = _array_in(epoch_starts)
    log.epochs = _array_in(epochs)
    return log


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

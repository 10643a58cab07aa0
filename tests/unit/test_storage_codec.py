"""Events to bytes and back: nothing is lost in either form, and what is not known is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given

from legato.core.event import SCHEMA_VERSION, LogItem
from legato.core.log import RunLog
from legato.storage.codec import (
    FLUSH_FORMAT,
    PACKED_FORMAT,
    SEGMENT_FORMAT,
    UnknownFormat,
    decode_segment,
    encode_flush,
    encode_segment,
    pack_log,
    unpack_log,
)
from tests.logs import epochs_of_items, log_of

Epochs = list[tuple[int, list[LogItem]]]
OLD_SEGMENT = b"\x92\xa1a\x92\xafreasoning-delta\x81\xa4text\xa1b"
"""A row as the first version wrote it: the text `a`, then reasoning `b`."""


def row(schema: int, form: int, data: bytes) -> Any:
    """A segment row of the run 7, from seq 3 on, of epoch 1 where it holds one run's items."""
    return SimpleNamespace(run_key=7, first_seq=3, epoch=1, schema=schema, format=form, data=data)


@given(epochs_of_items())
def test_a_segment_gives_back_its_items(epochs: Epochs) -> None:
    """Every event with every field, every text with every sign."""
    for _, items in epochs:
        data = encode_segment(items)
        assert decode_segment(row(SCHEMA_VERSION, SEGMENT_FORMAT, data)) == [(7, 3, 1, items)]


@given(epochs_of_items())
def test_a_flush_gives_back_what_each_run_brought(epochs: Epochs) -> None:
    """Many runs in one row: none is lost, none takes another's place."""
    pieces = [(key, 10 * key, epoch, items) for key, (epoch, items) in enumerate(epochs, 1)]
    assert decode_segment(row(SCHEMA_VERSION, FLUSH_FORMAT, encode_flush(pieces))) == pieces


@given(epochs_of_items())
def test_a_packed_log_gives_back_the_log(epochs: Epochs) -> None:
    """Boundaries and epochs kept; it can be read as the first was."""
    log = log_of(epochs)
    again = unpack_log(SCHEMA_VERSION, PACKED_FORMAT, pack_log(log))
    for name in RunLog.__slots__:
        assert getattr(again, name) == getattr(log, name)
    assert pack_log(again) == pack_log(log)


def test_a_packed_log_can_grow() -> None:
    """It is a log like any other."""
    log = unpack_log(SCHEMA_VERSION, PACKED_FORMAT, pack_log(log_of([(0, ["a"])])))
    log.extend(["b"], 1)
    assert (log.text, log.epoch_at(1)) == ("ab", 1)


def test_a_row_of_the_first_version_is_read() -> None:
    """Old rows are read for ever."""
    [(_, _, _, (text, event))] = decode_segment(row(1, 1, OLD_SEGMENT))
    assert text == "a"
    assert (getattr(event, "type", None), getattr(event, "text", None)) == ("reasoning-delta", "b")


@pytest.mark.parametrize(("schema", "form"), [(SCHEMA_VERSION + 1, 1), (SCHEMA_VERSION, 9), (0, 1)])
def test_a_newer_row_is_refused(schema: int, form: int) -> None:
    """It is never guessed at."""
    with pytest.raises(UnknownFormat):
        decode_segment(row(schema, form, encode_segment(["a"])))
    with pytest.raises(UnknownFormat):
        unpack_log(schema, form if form != 1 else PACKED_FORMAT + 7, pack_log(log_of([(0, ["a"])])))


def test_an_unknown_event_is_refused() -> None:
    """A name that this version does not have."""
    with pytest.raises(UnknownFormat, match="citation"):
        decode_segment(row(SCHEMA_VERSION, SEGMENT_FORMAT, bytes.fromhex("9192a86369746174696f6e80")))

"""Readers of a live run: what is committed is shared, who is behind catches up alone, who takes nothing is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.event import LogItem, RunFinished, RunStarted
from legato.core.log import RunLog
from legato.runs.tail import SLICE, Readers, Tail
from legato.wire.native import NativeRenderer

STARTED = RunStarted(conversation_id="c", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)
LAST = RunFinished(reason="stop", message_count=2, response_time_ms=1)


class Wire:
    """A connection that takes frames until it is told to be full."""

    def __init__(self) -> None:
        self.data = b""
        self.full_at: int | None = None
        self.end: str | None = None

    @property
    def paused(self) -> bool:
        return self.full_at is not None and len(self.data) >= self.full_at

    def write(self, frames: bytes) -> None:
        assert self.end is None, "written to after its end"
        self.data += frames

    def finish(self) -> None:
        assert self.end is None
        self.end = "finished"

    def abort(self) -> None:
        self.end = self.end or "aborted"


class Counting(NativeRenderer):
    """Counts its renderings."""

    made = 0

    def render(self, first: int, items: Sequence[LogItem]) -> bytes:
        Counting.made += 1
        return super().render(first, items)


def opened(readers: Readers, tail: Tail, after: int = -1) -> Wire:
    wire = Wire()
    readers.open(wire, tail, NativeRenderer, after=after).pull()
    return wire


def whole(log: RunLog) -> bytes:
    renderer = NativeRenderer("r-1", log)
    return b"".join(renderer.render(seq, log.slice(seq, 1)) for seq in range(len(log)))


@pytest.fixture
def readers() -> Readers:
    return Readers(heartbeat_s=2, send_timeout_s=3)


@pytest.fixture
def tail() -> Tail:
    return Tail(run_id="r-1", owner="o")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.booleans()), max_size=20))
def test_every_reader_gets_the_same_bytes(steps: list[tuple[int, int, bool]]) -> None:
    """Whenever it came, however often its connection was full, and from whichever place it began."""
    readers, tail = Readers(heartbeat_s=1, send_timeout_s=9), Tail(run_id="r-1", owner="o")
    tail.publish([STARTED])
    wires: list[tuple[Wire, int]] = []
    for number, (size, which, full) in enumerate(steps):
        tail.publish([f"{number}.{at} " for at in range(size)])
        after = len(tail.log) - 1 if which else -1
        wires.append((opened(readers, tail, after), after))
        wire = wires[which % len(wires)][0]
        wire.full_at = len(wire.data) if full else None
    tail.publish([LAST])
    for wire, _ in wires:
        wire.full_at = None
    for reader in tuple(readers._readers):
        reader.pull()
    assert len(readers) == 0
    renderer = NativeRenderer("r-1", tail.log)
    for wire, after in wires:
        rest = b"".join(renderer.render(seq, tail.log.slice(seq, 1)) for seq in range(after + 1, len(tail.log)))
        assert (wire.data, wire.end) == (rest, "finished")


def test_a_batch_is_rendered_once_for_all(readers: Readers, tail: Tail) -> None:
    """However many readers there are."""
    tail.publish([STARTED])
    wires = [Wire() for _ in range(50)]
    for wire in wires:
        readers.open(wire, tail, Counting, after=0)
    Counting.made = 0
    tail.publish(["a", "b"])
    assert Counting.made == 1
    assert len({wire.data for wire in wires}) == 1


def test_a_reader_that_is_behind_catches_up_in_slices(readers: Readers, tail: Tail) -> None:
    """A full connection stops it between two slices, and it goes on from there."""
    tail.publish([STARTED, *["x"] * (5 * SLICE)])
    wire = Wire()
    wire.full_at = 1
    reader = readers.open(wire, tail, NativeRenderer, after=-1)
    reader.pull()
    assert wire.data.count(b"event: chunk") == SLICE - 1
    tail.publish(["late"])
    assert b"late" not in wire.data
    wire.full_at = None
    reader.pull()
    assert wire.data == whole(tail.log)


def test_a_closed_reader_gets_nothing(readers: Readers, tail: Tail) -> None:
    """And holds nothing."""
    wire = Wire()
    reader = readers.open(wire, tail, NativeRenderer, after=-1)
    reader.close()
    reader.close()
    tail.publish([STARTED, "a", LAST])
    assert wire.data == b""
    assert wire.end is None
    assert len(readers) == 0


def test_silence_is_filled(readers: Readers, tail: Tail) -> None:
    """A comment after the heartbeat's time, counted from the last frame."""
    tail.publish([STARTED])
    wire = opened(readers, tail)
    for written in (0, 1, 1, 2):
        readers.tick(1.0)
        assert wire.data.count(b": ping\n\n") == written
    tail.publish(["a"])
    for written in (2, 2, 3):
        readers.tick(1.0)
        assert wire.data.count(b": ping\n\n") == written


def test_a_reader_that_takes_nothing_is_cut(readers: Readers, tail: Tail) -> None:
    """After the send timeout, and not before; taking something begins its count anew."""
    tail.publish([STARTED])
    wire = opened(readers, tail)
    wire.full_at = 0
    readers.tick(1.0)
    readers.tick(1.0)
    wire.full_at = None
    readers.tick(1.0)
    wire.full_at = 0
    readers.tick(1.0)
    readers.tick(1.0)
    ends = [wire.end]
    readers.tick(1.0)
    assert [*ends, wire.end] == [None, "aborted"]
    assert len(readers) == 0


def test_a_cut_shows_no_end(readers: Readers, tail: Tail) -> None:
    """A log without a terminal event ends no response well."""
    tail.publish([STARTED, "a"])
    wires = [opened(readers, tail) for _ in range(3)]
    tail.cut()
    assert [wire.end for wire in wires] == ["aborted"] * 3
    assert len(readers) == 0
    other = opened(readers, tail)
    readers.cut_all()
    assert other.end == "aborted"


def test_an_ended_log_is_read_at_once(readers: Readers) -> None:
    """From any place, to a proper end."""
    log = RunLog()
    log.extend([STARTED, "a", LAST], 0)
    tail = Tail(run_id="r-1", owner="o", log=log)
    assert tail.closed
    wire = opened(readers, tail)
    assert (wire.data, wire.end) == (whole(log), "finished")
    assert opened(readers, tail, after=1).data.startswith(b"event: complete")


def test_an_ended_log_is_read_whole_by_a_slow_reader(readers: Readers) -> None:
    """A full connection is no end: what is missing comes when it has drained, and the end after it."""
    log = RunLog()
    log.extend([STARTED, *["x"] * (3 * SLICE), LAST], 0)
    wire = Wire()
    wire.full_at = 1
    reader = readers.open(wire, Tail(run_id="r-1", owner="o", log=log), NativeRenderer, after=-1)
    ends = []
    for _ in range(3):
        wire.full_at = len(wire.data) + 1
        reader.pull()
        ends.append(wire.end)
    assert ends == [None, None, None]
    wire.full_at = None
    reader.pull()
    assert (wire.data, wire.end) == (whole(log), "finished")

"""The event stream reader against the standard's rules."""

from __future__ import annotations

import pytest

from legato.providers.sse import EventReader, SseEvent


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a\n\n", [(b"", b" a")]),
        (b"data\n\n", [(b"", b"")]),
        (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"event: e\ndata: a\n\ndata: b\n\n", [(b"e", b"a"), (b"", b"b")]),
        (b"event: e\n\ndata: a\n\n", [(b"", b"a")]),
        (b": comment\n\n", []),
        (b"data: a\r\rdata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\r\ndata: b\r\n\r\n", [(b"", b"a\nb")]),
        (b"data: a\r\n\n", [(b"", b"a")]),
        (b"data: a: b\n\n", [(b"", b"a: b")]),
        ("data: \u2028\u0085\n\n".encode(), [(b"", "\u2028\u0085".encode())]),
        (b"data: a\n", []),
    ],
)
def test_a_stream_gives_its_events(stream: bytes, events: list[tuple[bytes, bytes]]) -> None:
    """Each rule of the standard, whole and byte by byte."""
    expected = [SseEvent(*event) for event in events]
    assert EventReader().feed(stream) == expected
    reader = EventReader()
    pieces = [stream[i : i + 1] for i in range(len(stream))]
    assert [event for piece in pieces for event in reader.feed(piece)] == expected


def test_what_is_cut_short_can_be_asked_for() -> None:
    """The last event is given though its blank line, or its line end, is missing."""
    for stream in (b"data: a", b"data: a\n", b"data: a\r", b"data: a\r\n"):
        reader = EventReader()
        assert reader.feed(stream) == []
        assert reader.finish() == [SseEvent(b"", b"a")]
        assert reader.finish() == []


def test_what_waits_is_measured() -> None:
    """The caller can bound a line and an event that have no end."""
    reader = EventReader()
    reader.feed(b"data: " + b"x" * 1000)
    assert reader.held_bytes >= 1000
    reader.feed(b"\n" + b"data: y\n" * 1000)
    assert reader.held_bytes >= 3000
    reader.feed(b"\n")
    assert reader.held_bytes == 0


def test_stray_lines_are_counted() -> None:
    """An HTML page is told from an event stream of unknown length."""
    reader = EventReader()
    reader.feed(b"<html>\n<body>\nid: 1\nretry: 2\nevent: x\n: comment\ndata: a\n\n")
    assert reader.stray_lines == 2

"""The streaming client's pure half."""

from __future__ import annotations

import pytest

from legato.cli.reply_stream import Approval, BadStream, Ended, EventParser, Happening, ReplyFold, StreamEvent, Text
from legato.cli.stream_client import reconnect_delay
from legato.cli.terminal import neutral, one_line

STREAM = (
    ": ok\n\n"
    'event: chunk\nid: r-1.0.2\ndata: {"content":"Grüße, 東京 🎵\\u2028","index":1,"conversationId":"c-1"}\n\n'
    ": beat\n\n"
    'event: chunk\nid: r-1.0.3\ndata: {"content":" x\u2028y","index":2,"conversationId":"c-1"}\n\n'
    'event: complete\nid: r-1.0.5\ndata: {"conversationId":"c-1","finishReason":"stop"}\n\n'
).encode()


def text_of(happenings: list[Happening]) -> str:
    return "".join(each.text for each in happenings if isinstance(each, Text))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_however_the_bytes_are_cut(end: str) -> None:
    """Any of the three line ends, a cut at any byte, a byte order mark: the same events."""
    raw = b"\xef\xbb\xbf" + STREAM.replace(b"\n", end.encode())
    whole = EventParser().feed(raw)
    assert [event.type for event in whole] == ["chunk", "chunk", "complete"]
    for cut in range(len(raw)):
        parser = EventParser()
        assert parser.feed(raw[:cut]) + parser.feed(raw[cut:]) == whole
    parser = EventParser()
    assert [event for byte in raw for event in parser.feed(bytes([byte]))] == whole


def test_lines_follow_the_standard() -> None:
    """Several data lines are joined, one space after the colon goes, an event without data is none."""
    parser = EventParser()
    raw = b"data:a\ndata:  b\nretry: 5\nevent\nid: 1\n\nevent: x\n\ndata\n\nid: 2\0\ndata: c\n\ndata: cut"
    assert parser.feed(raw) == [
        StreamEvent("message", "a\n b", "1"),
        StreamEvent("message", "", ""),
        StreamEvent("message", "c", ""),
    ]


def test_a_fold_knows_where_to_go_on() -> None:
    """After a cut the cursor is that of the last whole event, and what is repeated is dropped."""
    fold = ReplyFold()
    first = fold.feed(STREAM[: STREAM.index(b"r-1.0.5")])
    assert (fold.run_id, fold.cursor, fold.conversation_id, fold.ended) == ("r-1", "r-1.0.3", "c-1", False)
    fold.connected()
    again = fold.feed(STREAM)
    assert again == [Ended(reason="stop", data={"conversationId": "c-1", "finishReason": "stop"})]
    assert text_of(first) == "Grüße, 東京 🎵\u2028 x\u2028y"
    assert fold.ended


def test_what_is_decided_already_is_not_asked() -> None:
    """A replay that brings a question and its decision brings the decision alone."""
    event = 'event: approval\nid: r-1.0.%d\ndata: {"callId":"%s","name":"ask","arguments":"{}","status":"%s"}\n\n'
    told = [(2, "a", "asked"), (3, "b", "asked"), (4, "a", "granted")]
    happenings = ReplyFold().feed("".join(event % each for each in told).encode())
    decisions = [(each.call_id, each.status) for each in happenings if isinstance(each, Approval)]
    assert decisions == [("b", "asked"), ("a", "granted")]


def test_a_reply_has_exactly_one_end() -> None:
    """What follows the end is not told."""
    fold = ReplyFold()
    happenings = fold.feed(STREAM + STREAM.replace(b"r-1.0", b"r-1.1"))
    assert sum(isinstance(each, Ended) for each in happenings) == 1
    assert fold.feed(STREAM) == []


def test_an_error_without_an_id_is_told_after_events_that_had_one() -> None:
    """An event that brings no id is never taken for one that was read before."""
    fold = ReplyFold()
    fold.feed(STREAM[: STREAM.index(b"event: complete")])
    assert fold.feed(b'event: error\ndata: {"error":"away","code":"unavailable"}\n\n') == [
        Ended(reason="error", error="away", data={"error": "away", "code": "unavailable"})
    ]


@pytest.mark.parametrize("data", [b"<html>", b"[1]", b""])
def test_what_is_no_json_object_is_a_bad_stream(data: bytes) -> None:
    """Garbage is reported, not shown."""
    with pytest.raises(BadStream):
        ReplyFold().feed(b"event: chunk\ndata: " + data + b"\n\n")


def test_delays_grow_to_a_bound() -> None:
    """The first repeat is quick, later ones are at most 5 s apart."""
    assert reconnect_delay(1, jitter=0.0) == pytest.approx(0.05)
    assert reconnect_delay(1, jitter=0.999) < 0.1
    assert reconnect_delay(1000, jitter=0.999) < 5.0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n東京 🎵\u2028", "plain\ttext\n東京 🎵\u2028"),
        ("\x1b[2J\x1b]0;owned\x07", "␛[2J␛]0;owned␇"),
        ("\x9b31m\x90q", "\ufffd31m\ufffdq"),
        ("safe\rrm -rf", "saferm -rf"),
        ("\b\x7f\0", "␈␡␀"),
        ("\ud800", "\ufffd"),
        ("pay \u202e001\u202c now \u2066x\u2069", "pay \ufffd001\ufffd now \ufffdx\ufffd"),
    ],
)
def test_control_sequences_are_neutralised(text: str, shown: str) -> None:
    """Nothing a model says can steer the terminal."""
    assert neutral(text) == shown


def test_one_line_is_one_line() -> None:
    """A message of several lines cannot look like several messages."""
    assert one_line("a\n\nlegato: b\x1b") == "a legato: b␛"

"""The pure half of the Python client: bytes, events, the table, the fold. Shared cases: tests/contract."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import pytest

from legato.client.delay import reconnect_delay
from legato.client.delivery import TextDelivery
from legato.client.errors import BadStream, ChatError, Diverged
from legato.client.events import Chunk, Complete, Failure, Open, Reconnected, ToolEvent, Unknown, WireEvent
from legato.client.fold import fold, fold_all, open_approvals
from legato.client.message import EMPTY_REPLY, TextPart, ToolCallPart, ToolResultPart
from legato.client.read_event import read_event
from legato.client.reconnect import TABLE, Answer, EventName, Row, State, Table, answer_event, step
from legato.client.sse import MOST_CHARS, SseEvent, SseParser

STREAM = (
    ": ok\n\n"
    'event: chunk\nid: r-1.0.2\ndata: {"content":"Grüße, 東京 🎵\\u2028","index":1,"conversationId":"c-1"}\n\n'
    ": ping\n\n"
    'event: chunk\nid: r-1.0.3\ndata: {"content":" x\u2028y","index":2,"conversationId":"c-1"}\n\n'
    'event: complete\nid: r-1.0.5\ndata: {"conversationId":"c-1","finishReason":"stop"}\n\n'
).encode()


def events_of(raw: bytes) -> list[WireEvent]:
    return [read_event(each) for each in SseParser().feed(raw)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_however_the_bytes_are_cut(end: str) -> None:
    """Any of the three line ends, a cut at any byte, a byte order mark: the same events."""
    raw = b"\xef\xbb\xbf" + STREAM.replace(b"\n", end.encode())
    whole = SseParser().feed(raw)
    assert [event.name for event in whole] == ["chunk", "chunk", "complete"]
    for cut in range(len(raw)):
        parser = SseParser()
        assert parser.feed(raw[:cut]) + parser.feed(raw[cut:]) == whole
    parser = SseParser()
    assert [event for byte in raw for event in parser.feed(bytes([byte]))] == whole


def test_lines_follow_the_standard() -> None:
    """Several data lines are joined, one space goes, an event without data is none, an id is its event's own."""
    parser = SseParser()
    raw = b"data:a\ndata:  b\nretry: 5\nretry: x\nevent\nid: 1\n\nevent: x\n\ndata\n\nid: 2\0\ndata: c\n\ndata: cut"
    assert parser.feed(raw) == [
        SseEvent(name="message", data="a\n b", id="1", last_event_id="1"),
        SseEvent(name="message", data="", last_event_id="1"),
        SseEvent(name="message", data="c", last_event_id="1"),
    ]
    assert parser.retry_ms == 5


def test_a_line_without_an_end_is_given_up() -> None:
    """What would fill the memory is no stream; what is large and ends is one."""
    block = b"x" * (MOST_CHARS // 8)
    parser = SseParser()
    parser.feed(b"data: ")
    for _ in range(7):
        assert parser.feed(block) == []
    (event,) = parser.feed(b"\n\n")
    assert len(event.data) == 7 * len(block)
    for _ in range(8):
        assert parser.feed(b"x" + block[1:]) == []
    with pytest.raises(BadStream):
        parser.feed(b"x")


@pytest.mark.parametrize("data", [b"<html>", b"[1]", b"", b"[" * 100_000])
def test_what_is_no_json_object_is_a_bad_stream(data: bytes) -> None:
    """Garbage is reported, not shown; of an event that is not known it is passed over."""
    with pytest.raises(BadStream):
        events_of(b"event: chunk\ndata: " + data + b"\n\n")
    (unknown,) = events_of(b"event: later\ndata: " + data + b"\n\n")
    assert unknown == Unknown(cursor=None, conversation_id=None, name="later", data={})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("chunk", '{"content":7,"index":"1","conversationId":[]}'),
        ("complete", '{"finishReason":null,"usage":[],"cost":{"usd":1},"failover":{"from":1}}'),
        ("error", '{"error":{},"retryable":1,"messageCount":true,"responseLength":1e400}'),
        ("tool", '{"status":"paused"}'),
        ("approval", '{"status":["asked"]}'),
    ],
)
def test_fields_of_wrong_types_claim_nothing(name: str, data: str) -> None:
    """A server of another version cannot break a reader."""
    (event,) = events_of(f"event: {name}\ndata: {data}\n\n".encode())
    assert event.conversation_id is None
    match event:
        case Chunk():
            assert (event.content, event.index) == ("", 0)
        case Complete():
            assert (event.finish_reason, event.usage, event.cost, event.failover) == ("stop", None, None, None)
        case Failure():
            assert (event.error, event.code, event.retryable) == ("the reply failed", "internal", False)
            assert (event.message_count, event.response_length) == (None, None)
        case _:
            assert isinstance(event, Unknown)


def row_of(state: State) -> dict[str, object]:
    return dict(TABLE[state])


def test_the_table_has_a_cell_for_each_event_in_each_state() -> None:
    """The types name what the table holds, so that a cell left out is a type error."""
    assert set(TABLE) == set(get_args(State)) == set(Table.__annotations__)
    for state in get_args(State):
        assert list(row_of(state)) == list(get_args(EventName)) == list(Row.__annotations__), state


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_can_be_left_and_an_end_is_an_end(state: State) -> None:
    """Whoever reads may give up in each state; nothing brings a reply back that is over."""
    after, action = step(state, "abort")
    if state in ("ended", "failed", "aborted"):
        assert (after, action) == (state, "none")
        assert [event for event, cell in row_of(state).items() if cell is not None] == ["abort"]
    else:
        assert (after, action) == ("aborted", "fail")


def test_what_cannot_happen_is_a_fault_of_the_program() -> None:
    """A signal that has no cell is never passed over."""
    with pytest.raises(AssertionError, match="'due' cannot happen in the state 'reading'"):
        step("reading", "due")


def answer(**changes: Any) -> Answer:
    plain: dict[str, Any] = {"method": "GET", "status": 200, "is_stream": True, "code": None, "is_named": True}
    return Answer(**(plain | {"cursor": "read"} | changes))


@pytest.mark.parametrize(
    ("given", "event"),
    [
        (answer(), "opened_named"),
        (answer(is_named=False), "opened"),
        (answer(is_stream=False), "refused"),
        (answer(status=204), "diverged"),
        (answer(status=204, cursor="given"), "nothing_more"),
        (answer(status=204, cursor="none"), "refused"),
        (answer(status=409, code="cursor_diverged"), "diverged"),
        (answer(status=409, code="cursor_diverged", cursor="none"), "refused"),
        (answer(status=409, code="conflict"), "refused"),
        (answer(status=409, code="cursor_diverged", method="POST"), "refused"),
        (answer(status=429), "refused_for_now"),
        (answer(status=503, method="POST"), "refused_for_now"),
        (answer(status=502), "cut"),
        *[(answer(status=status), "refused") for status in (301, 400, 401, 402, 403, 404, 410, 413, 422, 500)],
    ],
)
def test_an_answer_is_one_event(given: Answer, event: EventName) -> None:
    """What an HTTP answer means to a reader."""
    assert answer_event(given) == event


def test_delays_grow_to_a_bound() -> None:
    """The first repeat is quick, later ones are at most 5 s apart unless the server asks for more, up to a minute."""
    assert reconnect_delay(1, jitter=0.0) == pytest.approx(0.05)
    assert reconnect_delay(1, jitter=0.999) < 0.1
    assert reconnect_delay(1000, jitter=0.999) < 5.0
    assert reconnect_delay(1, jitter=0.0, asked_s=7.0) == 7.0
    assert reconnect_delay(1000, jitter=0.5, asked_s=1.0) > 1.0
    assert reconnect_delay(1, jitter=0.0, asked_s=86_400.0) == 60.0


def test_a_reply_told_anew_is_not_handed_out_twice() -> None:
    """Only what goes beyond is handed out; another text, or a shorter one, is an error."""
    delivery = TextDelivery()
    assert [delivery.take("Hel"), delivery.take("lo")] == ["Hel", "lo"]
    delivery.restart()
    assert [delivery.take("H"), delivery.take("ello w"), delivery.take("orld")] == ["", " w", "orld"]
    delivery.end()
    delivery.restart()
    delivery.take("Hello")
    with pytest.raises(Diverged):
        delivery.end()
    delivery.restart()
    with pytest.raises(Diverged):
        delivery.take("Hallo")


def test_a_reply_is_folded_from_its_events() -> None:
    """Text, ids, cursor and status; a restart forgets all but which reply it is; the same twice is the same."""
    opened = Open(run_id="r-1", message_id="m-1", conversation_id="c-1", session_id="s-1")
    whole = fold_all([opened, *events_of(STREAM)])
    assert (whole.id, whole.run_id, whole.status, whole.finish_reason) == ("m-1", "r-1", "complete", "stop")
    assert whole.text == "Grüße, 東京 🎵\u2028 x\u2028y"
    assert (whole.parts, whole.cursor) == ((TextPart(type="text", text=whole.text),), "r-1.0.5")
    again = fold(whole, Reconnected(restarted=True))
    assert (again.text, again.parts, again.cursor, again.id) == ("", (), None, "m-1")
    assert fold(whole, Reconnected(restarted=False)) is whole
    assert fold_all(events_of(STREAM), again) == whole


def test_calls_end_a_stretch_and_results_stand_in_their_order() -> None:
    """Reasoning before text, calls behind both, results in the order of the calls, however they are mixed."""

    def told(event: str, **data: Any) -> WireEvent:
        return read_event(SseEvent(name=event, data=json.dumps(data), id=None))

    asked = [
        told("chunk", content="a", index=1),
        told("reasoning", content="think"),
        told("tool", callId="1", name="f", status="called", arguments="{}"),
        told("tool", callId="2", name="g", status="called", arguments="[]"),
        told("approval", callId="1", name="f", arguments="{}", status="asked", until=9),
        told("tool", callId="2", name="g", status="failed", output="no", elapsedMs=3),
    ]
    waiting = fold_all(asked)
    assert [call.call_id for call in open_approvals(waiting)] == ["1"]
    rest = [
        told("approval", callId="1", name="f", arguments="{}", status="granted", by="ann"),
        told("tool", callId="1", name="f", status="running"),
        told("tool", callId="1", name="f", status="done", output="yes", elapsedMs=5),
        told("tool", callId="9", name="h", status="done", output="of no call"),
        told("chunk", content="b", index=2),
    ]
    done = fold_all(rest, waiting)
    assert open_approvals(done) == ()
    assert done.tools[0].approval is not None
    assert (done.tools[0].approval.until_ms, done.tools[0].approval.by) == (9, "ann")
    assert done.parts == (
        TextPart(type="reasoning", text="think"),
        TextPart(type="text", text="a"),
        ToolCallPart(call_id="1", name="f", arguments="{}", approval="granted"),
        ToolCallPart(call_id="2", name="g", arguments="[]"),
        ToolResultPart(call_id="1", name="f", output="yes", is_error=False, elapsed_ms=5),
        ToolResultPart(call_id="2", name="g", output="no", is_error=True, elapsed_ms=3),
        TextPart(type="text", text="b"),
    )
    assert isinstance(asked[2], ToolEvent)
    assert EMPTY_REPLY.parts == ()


def test_the_client_stands_alone() -> None:
    """Importing it brings nothing of the server: not the web framework, not the database, not pydantic."""
    code = (
        "import sys, legato.client; "
        "heavy = {'fastapi', 'starlette', 'sqlalchemy', 'pydantic', 'uvicorn', 'structlog', 'msgspec', 'dbos', 'mcp'}; "
        "own = {name for name in sys.modules if name.startswith('legato.')}; "
        "print(sorted(heavy & set(sys.modules)), "
        "sorted(name for name in own if not name.startswith(('legato.client', 'legato.core', 'legato.version'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert done.stdout == "[] []\n"


def test_errors_tell_what_to_do() -> None:
    """Code, status, whether to try again and when; the message is the exception's text."""
    error = ChatError("full", code="overloaded", status=503, retryable=True, retry_after_s=5.0)
    assert (str(error), error.message, error.code, error.status) == ("full", "full", "overloaded", 503)
    assert (error.retryable, error.retry_after_s, error.fields) == (True, 5.0, ())

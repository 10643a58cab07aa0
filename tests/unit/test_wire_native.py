"""The native protocol as a pure rendering: the same place in a log gives the same bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.event import (
    ApprovalAsked,
    ApprovalGiven,
    CallStarted,
    LogItem,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    RunStopped,
    ToolCalled,
    ToolResulted,
    ToolStarted,
    UsageReported,
)
from legato.core.log import RunLog
from legato.core.usage import usage_json
from legato.wire.native import NativeRenderer, encode_json, error_event
from tests.client import parse_event
from tests.logs import RUN_ID, epochs_of_items, log_of

Epochs = list[tuple[int, list[LogItem]]]
STARTED = RunStarted(conversation_id="c-1", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)


def render(log: RunLog, first: int = 0, limit: int = 10**6) -> bytes:
    """Render a whole log from a place on, in slices."""
    renderer = NativeRenderer(RUN_ID, log)
    frames = b""
    while items := log.slice(first, limit):
        frames += renderer.render(first, items)
        first += len(items)
    return frames


@given(epochs_of_items(), st.data())
def test_any_split_renders_to_the_same_bytes(epochs: Epochs, data: st.DataObject) -> None:
    """Item by item, in slices of any size, as it grows or once it has ended: one log, one stream of bytes."""
    log = log_of(epochs)
    whole = render(log)
    assert render(log, limit=data.draw(st.integers(1, 9))) == whole
    growing = RunLog()
    renderer = NativeRenderer(RUN_ID, growing)
    live = b""
    for epoch, items in epochs:
        while items:
            size = data.draw(st.integers(1, len(items)))
            first = len(growing)
            growing.extend(items[:size], epoch)
            live += renderer.render(first, items[:size])
            items = items[size:]
    assert live == whole


@given(epochs_of_items())
def test_a_rendering_from_a_cursor_is_the_rest(epochs: Epochs) -> None:
    """From any seq on, exactly what follows there in the whole."""
    log = log_of(epochs)
    whole = render(log)
    for seq in range(len(log) + 1):
        rest = render(log, seq)
        assert whole.endswith(rest)
        cursors = [int(line.rpartition(b".")[2]) for line in rest.split(b"\n") if line.startswith(b"id: ")]
        assert all(cursor >= seq for cursor in cursors)
        assert cursors == sorted(set(cursors))


@given(epochs_of_items())
def test_every_frame_keeps_the_naive_contract(epochs: Epochs) -> None:
    """Order of lines, LF, one line of data, and `data: ` only at its beginning, for any text and any ids."""
    log = log_of(epochs)
    whole = render(log)
    assert b"\r" not in whole
    blocks = whole.split(b"\n\n")
    assert blocks.pop() == b""
    text, index = "", 0
    for block in blocks:
        event = parse_event(block)
        assert block.count(b"data: ") == 1
        assert len(block.decode().splitlines()) == 3
        seq = int(str(event.id).rpartition(".")[2])
        assert event.id == f"{RUN_ID}.{log.epoch_at(seq)}.{seq}"
        if event.name == "chunk":
            index += 1
            assert event.data["index"] == index
            text += event.data["content"]
    assert text == log.text
    assert [parse_event(block).name for block in blocks][-1] in ("complete", "error")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.sampled_from(["data: ", "\u2028x"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("data: "), inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_is_one_line_and_says_the_same(value: object) -> None:
    """Only the spelling changes."""
    line = encode_json(value)
    assert json.loads(line) == value
    assert b"data: " not in line
    assert len((line + b"x").decode().splitlines()) == 1


def test_bookkeeping_is_not_rendered() -> None:
    """Calls and usage have a seq and no frame; a first event with nobody ahead has none either."""
    log = log_of([(0, [STARTED, CallStarted(epoch=0, provider="p", model="m", reason="first"), UsageReported()])])
    assert render(log) == b""


def test_waiting_and_reasoning_have_events_of_their_own() -> None:
    """Naive clients ignore them."""
    waiting = RunStarted(
        conversation_id="c-1", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1, ahead=3
    )
    log = log_of([(0, [waiting, ReasoningDelta(text="hm\n"), "x"])])
    assert render(log) == (
        b'event: queued\nid: r-0123456789abcdef.0.0\ndata: {"conversationId":"c-1","ahead":3}\n\n'
        b'event: reasoning\nid: r-0123456789abcdef.0.1\ndata: {"content":"hm\\n","conversationId":"c-1"}\n\n'
        b'event: chunk\nid: r-0123456789abcdef.0.2\ndata: {"content":"x","index":1,"conversationId":"c-1"}\n\n'
    )


def test_tools_and_approvals_have_events_of_their_own() -> None:
    """Byte by byte: the name of the tool stands in each, and nothing of them can be taken for a chunk."""
    log = log_of(
        [
            (
                0,
                [
                    STARTED,
                    ToolCalled(call_id="a", name="search", arguments='{"q": "data: x"}'),
                    ToolCalled(call_id="b", name="delete", arguments="{}"),
                    ApprovalAsked(call_id="b", until_ms=60),
                    ToolStarted(call_id="a"),
                    ToolResulted(call_id="a", output="1\n\u2028", is_error=False, elapsed_s=0.0126),
                    ApprovalGiven(call_id="b", granted=False, by="ann", reason="no"),
                    ToolResulted(call_id="b", output="not approved", is_error=True, elapsed_s=0.0),
                    ApprovalGiven(call_id="a", granted=True, by="ann"),
                ],
            )
        ]
    )
    at = b"\nid: r-0123456789abcdef.0."
    assert render(log) == (
        b"event: tool" + at + b'1\ndata: {"callId":"a","name":"search","status":"called",'
        b'"arguments":"{\\"q\\": \\"data:\\u0020x\\"}","conversationId":"c-1"}\n\n'
        b"event: tool" + at + b'2\ndata: {"callId":"b","name":"delete","status":"called","arguments":"{}",'
        b'"conversationId":"c-1"}\n\n'
        b"event: approval" + at + b'3\ndata: {"callId":"b","name":"delete","arguments":"{}","status":"asked",'
        b'"until":60,"conversationId":"c-1"}\n\n'
        b"event: tool" + at + b'4\ndata: {"callId":"a","name":"search","status":"running","conversationId":"c-1"}\n\n'
        b"event: tool" + at + b'5\ndata: {"callId":"a","name":"search","status":"done","output":"1\\n\\u2028",'
        b'"elapsedMs":13,"conversationId":"c-1"}\n\n'
        b"event: approval" + at + b'6\ndata: {"callId":"b","name":"delete","arguments":"{}","status":"denied",'
        b'"by":"ann","reason":"no","conversationId":"c-1"}\n\n'
        b"event: tool" + at + b'7\ndata: {"callId":"b","name":"delete","status":"failed","output":"not approved",'
        b'"elapsedMs":0,"conversationId":"c-1"}\n\n'
        b"event: approval" + at + b'8\ndata: {"callId":"a","name":"search",'
        b'"arguments":"{\\"q\\": \\"data:\\u0020x\\"}","status":"granted","by":"ann","reason":null,'
        b'"conversationId":"c-1"}\n\n'
    )


def test_an_epoch_shows_in_the_cursor() -> None:
    """From the place on where it began to write, and the index goes on."""
    log = log_of([(0, [STARTED, "a"]), (4, ["b"])])
    ids = [parse_event(block).id for block in render(log).split(b"\n\n")[:-1]]
    assert ids == [f"{RUN_ID}.0.1", f"{RUN_ID}.4.2"]
    assert parse_event(render(log, 2).removesuffix(b"\n\n")).data["index"] == 2


def test_a_failover_is_told_at_the_end() -> None:
    """From which model to which."""
    calls: list[LogItem] = [
        CallStarted(epoch=0, provider="p", model=model, reason=reason)  # type: ignore[arg-type]
        for model, reason in (("a", "first"), ("b", "failover"))
    ]
    log = log_of([(0, [STARTED, *calls, "x", RunFinished(reason="fallback", message_count=2, response_time_ms=3)])])
    data = parse_event(render(log, 4).removesuffix(b"\n\n")).data
    assert (data["failover"], data["model"], data["finishReason"]) == ({"from": "a", "to": "b"}, "b", "fallback")


@pytest.mark.parametrize(("by", "reason"), [("user", "stopped"), ("time", "stopped"), ("budget", "budget")])
def test_a_stop_is_complete(by: str, reason: str) -> None:
    """With who stopped it."""
    stopped = RunStopped(by=by, message_count=2, response_time_ms=3)  # type: ignore[arg-type]
    event = parse_event(render(log_of([(0, [STARTED, "x", stopped])]), 2).removesuffix(b"\n\n"))
    assert (event.name, event.data["finishReason"], event.data["stoppedBy"]) == ("complete", reason, by)


def test_an_error_before_the_log_has_no_id() -> None:
    """There is nothing to go on from."""
    event = parse_event(error_event("code", "data: x", True, "c\u2028", status=418).removesuffix(b"\n\n"))
    assert event.id is None
    assert event.data == {
        "error": "data: x",
        "conversationId": "c\u2028",
        "code": "code",
        "retryable": True,
        "partial": False,
        "status": 418,
    }


def test_unknown_usage_is_null() -> None:
    """Never 0, and never left out."""
    assert usage_json(None) is None

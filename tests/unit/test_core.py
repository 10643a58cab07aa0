"""The core's small pure parts: cursors, run states, ids, replies, errors, text and usage."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core import errors, run_errors
from legato.core.clock import SystemClock
from legato.core.cursor import Cursor, parse_cursor
from legato.core.errors import FieldError, InvalidRequest, LegatoError
from legato.core.event import (
    EVENT_TYPES,
    TERMINAL,
    CallStarted,
    LogItem,
    ReasoningDelta,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    UsageReported,
)
from legato.core.ids import ID_MAX_CHARS, id_fault, new_id
from legato.core.log import RunLog
from legato.core.reply import STOP_REASONS, Failover, fold_reply
from legato.core.run import ENDED, TRANSITIONS, RunState
from legato.core.text import utf16_length
from legato.core.usage import Usage

STARTED = RunStarted(conversation_id="c", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)


def call(model: str, reason: str = "first") -> CallStarted:
    return CallStarted(epoch=0, provider="p", model=model, reason=reason)  # type: ignore[arg-type]


def log_with(*items: LogItem) -> RunLog:
    log = RunLog()
    log.extend([STARTED, *items], 0)
    return log


# Cursors


@given(st.from_regex(r"[0-9a-z-]{1,64}", fullmatch=True), st.integers(0, 999_999_999), st.integers(0, 999_999_999))
def test_a_cursor_is_read_as_it_is_written(run_id: str, epoch: int, seq: int) -> None:
    """`<run>.<epoch>.<seq>`, both ways."""
    cursor = Cursor(run_id, epoch, seq)
    assert parse_cursor(str(cursor)) == cursor


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_none(text: str) -> None:
    """Nothing raises, and what is read is spelled in one way only."""
    cursor = parse_cursor(text)
    assert cursor is None or str(cursor) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "r.0",
        "r.0.1.2",
        "R.0.1",
        "r.-1.1",
        "r.0.01",
        "r.0.+1",
        "r.0.1\n",
        " r.0.1",
        "r.٣.1",
        "r.0.1e3",
        ".0.1",
        f"r.{10**9}.1",
        f"{'r' * 65}.0.1",
    ],
)
def test_what_is_no_cursor_is_none(text: str) -> None:
    """Other signs, other digits, other lengths."""
    assert parse_cursor(text) is None


# Run states


def test_every_state_has_its_place_in_the_table() -> None:
    """All states, three of them ends; every other one leads to an end, and only a waiting run to a running one."""
    assert set(TRANSITIONS) == set(RunState)
    assert {RunState.FINISHED, RunState.FAILED, RunState.STOPPED} == ENDED
    for state in RunState:
        assert state in ENDED or TRANSITIONS[state] & ENDED
        assert (RunState.RUNNING in TRANSITIONS[state]) == (state is RunState.QUEUED)
        assert RunState.QUEUED not in TRANSITIONS[state]


# Ids


def test_new_ids_sort_by_time_and_do_not_repeat() -> None:
    """A prefix, then signs that a cursor and a header can carry."""
    ids = [new_id("r", now_ms) for now_ms in (1, 2, 3_000, 1_700_000_000_000) for _ in range(50)]
    assert len(set(ids)) == 200
    assert [each[2:14] for each in ids] == sorted(each[2:14] for each in ids)
    assert all(re.fullmatch("r-[0-9a-f]{32}", each) and parse_cursor(f"{each}.0.0") for each in ids)


@given(st.text(min_size=1, max_size=ID_MAX_CHARS).filter(str.isprintable))
def test_printable_characters_are_an_id(value: str) -> None:
    """Any of them, 1 to 200."""
    assert id_fault(value) is None


@pytest.mark.parametrize(
    "value", ["", "x" * 201, "a\n", "\x00", "\x7f", "\u2028", "\u00a0", "\ud800", "\u202e", "\ue000"]
)
def test_anything_else_is_no_id(value: str) -> None:
    """The fault says why, without the value."""
    fault = id_fault(value)
    assert fault
    assert not value or value not in fault


# Replies


def test_a_reply_folds_from_its_log() -> None:
    """Text, reasoning, model, calls, summed usage, and how it ended."""
    log = log_with(
        call("a"),
        "Hel",
        ReasoningDelta(text="hm "),
        "lo",
        UsageReported(input_tokens=3, output_tokens=None),
        call("a", "retry"),
        ReasoningDelta(text="so"),
        UsageReported(input_tokens=4, output_tokens=7, reasoning_tokens=1),
        RunFinished(reason="length", message_count=2, response_time_ms=5),
    )
    reply = fold_reply(log)
    assert (reply.text, reply.reasoning, reply.model, reply.calls) == ("Hello", "hm so", "a", 2)
    assert reply.usage == Usage(input_tokens=7, output_tokens=7, cache_read_tokens=None, reasoning_tokens=1)
    assert (reply.finish_reason, reply.failed, reply.failover, reply.started) == ("length", None, None, STARTED)


def test_a_reply_that_changed_models_says_so() -> None:
    """From the first that was asked to the one that answered."""
    reply = fold_reply(log_with(call("a"), call("b", "failover"), call("c", "failover")))
    assert (reply.failover, reply.model) == (Failover(from_model="a", to_model="c"), "c")


def test_an_empty_reply_knows_nothing() -> None:
    """Unknown is None, never 0."""
    reply = fold_reply(RunLog())
    assert (reply.started, reply.model, reply.usage, reply.finish_reason) == (None, None, None, None)


@pytest.mark.parametrize(
    ("cause", "reason"), [("user", "stopped"), ("time", "stopped"), ("budget", "budget"), ("policy", "content_filter")]
)
def test_a_stop_has_its_reason(cause: str, reason: str) -> None:
    """As the native protocol spells it."""
    reply = fold_reply(log_with(RunStopped(by=cause, message_count=1, response_time_ms=1)))  # type: ignore[arg-type]
    assert reply.finish_reason == reason
    assert set(STOP_REASONS) == {"user", "time", "budget", "policy"}


def test_a_failed_reply_has_no_finish_reason() -> None:
    """It has its failure."""
    failed = RunFailed(code="x", message="y", retryable=True, message_count=1, response_time_ms=1)
    assert (fold_reply(log_with("a", failed)).finish_reason, fold_reply(log_with(failed)).failed) == (None, failed)


def test_every_event_has_a_name_of_its_own() -> None:
    """The names stand in databases: they never change."""
    assert set(EVENT_TYPES) == {
        "run-started",
        "call-started",
        "reasoning-delta",
        "usage",
        "tool-call",
        "approval-asked",
        "approval-given",
        "tool-started",
        "tool-result",
        "run-finished",
        "run-failed",
        "run-stopped",
    }
    assert {cls.type for cls in TERMINAL} == {"run-finished", "run-failed", "run-stopped"}


# Usage, text, clock


counts = st.none() | st.integers(0, 1000)
usages = st.builds(Usage, input_tokens=counts, output_tokens=counts, cache_read_tokens=counts, reasoning_tokens=counts)


@given(usages, usages, usages)
def test_usages_add_up_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    """What neither side knows stays unknown."""
    assert a.plus(b) == b.plus(a)
    assert a.plus(b).plus(c) == a.plus(b.plus(c))
    assert a.plus(Usage()) == a
    assert replace(a, input_tokens=None).plus(replace(b, input_tokens=None)).input_tokens is None


@given(st.text(alphabet=st.characters()))
def test_length_is_in_utf16_units(text: str) -> None:
    """Two for what lies beyond the first plane, one for the rest, half a pair too."""
    assert utf16_length(text) == sum(2 if ord(sign) > 0xFFFF else 1 for sign in text)


def test_the_clock_tells_milliseconds_and_seconds() -> None:
    """One for people, one that never goes back."""
    clock = SystemClock()
    assert clock.now_ms() > 1_700_000_000_000
    assert clock.monotonic_s() <= clock.monotonic_s()


# Errors


def tree(cls: type[LegatoError]) -> list[type[LegatoError]]:
    """The errors of the tree's two files; other rooms may have finer ones of their own, with the codes of these."""
    own = [child for child in cls.__subclasses__() if child.__module__ in (errors.__name__, run_errors.__name__)]
    return [cls, *(each for child in own for each in tree(child))]


@pytest.mark.parametrize("cls", tree(LegatoError), ids=lambda cls: cls.__name__)
def test_every_error_stands_in_the_drawn_tree(cls: type[LegatoError]) -> None:
    """With its status where it answers a request, and with a line of its own on what it means."""
    drawn = errors.__doc__ or ""
    assert re.search(rf"\b{cls.__name__}\b", drawn)
    assert cls.__doc__
    if issubclass(cls, errors.Refused) and cls not in (errors.Refused,):
        assert re.search(rf"\b{cls.__name__}\s+{cls.http_status}\b", drawn)
        assert 400 <= cls.http_status < 500 or cls.http_status == 503
        # A conflict may pass too: an erasure comes to its end.
        assert cls.retryable == (cls.http_status in (429, 503) or cls is errors.BeingErased)
        assert (cls.retry_after_s is not None) == cls.retryable


def test_every_code_is_one_errors_own() -> None:
    """Codes tell errors apart."""
    codes = [cls.code for cls in tree(LegatoError)]
    assert len(codes) == len(set(codes)) + codes.count("internal") - 1
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


def test_wrong_fields_are_told_together() -> None:
    """One message with every field's name."""
    error = InvalidRequest([FieldError(field="a", message="is x"), FieldError(field="b", message="is y")])
    assert error.message == "a: is x; b: is y"
    assert InvalidRequest.of("c", "is z", nearest="d").fields == (FieldError(field="c", message="is z", nearest="d"),)

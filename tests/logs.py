"""Runs' logs for property tests: any log that the runs room could write."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from legato.core.event import (
    ApprovalAsked,
    ApprovalGiven,
    CallStarted,
    LogItem,
    ReasoningDelta,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    ToolCalled,
    ToolResulted,
    ToolStarted,
    UsageReported,
)
from legato.core.log import RunLog

RUN_ID = "r-0123456789abcdef"
texts = st.text(min_size=1, max_size=12) | st.sampled_from(["data: ", "\n\n", "\u2028", "\u0085", '"', "\\", "🎵", "é"])
counts = st.none() | st.integers(0, 2**40)
small = st.integers(0, 2**31)
started = st.builds(
    RunStarted,
    conversation_id=texts,
    session_id=texts,
    user_message_id=st.just("m-1"),
    message_id=st.just("m-2"),
    at_ms=st.integers(0, 2**45),
    ahead=st.integers(0, 17),
    request_key=st.none() | texts,
)
call_ids = st.sampled_from(["call_1", "call_2", "data: 3"])
tools = st.one_of(
    st.builds(ToolCalled, call_id=call_ids, name=texts, arguments=texts),
    st.builds(ToolStarted, call_id=call_ids),
    st.builds(ToolResulted, call_id=call_ids, output=texts, is_error=st.booleans(), elapsed_s=st.floats(0, 600)),
    st.builds(ApprovalAsked, call_id=call_ids, until_ms=st.integers(0, 2**45)),
    st.builds(ApprovalGiven, call_id=call_ids, granted=st.booleans(), by=st.none() | texts, reason=st.none() | texts),
)
middle = st.one_of(
    texts,
    texts,
    texts,
    st.builds(ReasoningDelta, text=texts),
    st.builds(
        CallStarted,
        epoch=st.integers(0, 3),
        provider=st.just("scripted"),
        model=st.sampled_from(["a", "b"]),
        reason=st.sampled_from(["first", "retry", "failover", "takeover", "tools"]),
    ),
    tools,
    st.builds(
        UsageReported,
        input_tokens=counts,
        output_tokens=counts,
        cache_read_tokens=counts,
        reasoning_tokens=counts,
        cost=st.none() | st.just("0.01"),
    ),
)
ends = st.one_of(
    st.builds(
        RunFinished,
        reason=st.sampled_from(["stop", "length", "content_filter", "tool_limit", "fallback"]),
        message_count=small,
        response_time_ms=small,
    ),
    st.builds(
        RunFailed, code=texts, message=texts, retryable=st.booleans(), message_count=small, response_time_ms=small
    ),
    st.builds(
        RunStopped,
        by=st.sampled_from(["user", "policy", "budget", "time"]),
        message_count=small,
        response_time_ms=small,
    ),
)


@st.composite
def epochs_of_items(draw: st.DrawFn) -> list[tuple[int, list[LogItem]]]:
    """What each epoch wrote, the first event first and the terminal one last."""
    parts: list[list[LogItem]] = draw(st.lists(st.lists(middle, min_size=1, max_size=12), min_size=1, max_size=4))
    parts[0].insert(0, draw(started))
    parts[-1].append(draw(ends))
    number = 0
    found = []
    for part in parts:
        found.append((number, part))
        number += draw(st.integers(1, 3))
    return found


def log_of(epochs: Sequence[tuple[int, Sequence[LogItem]]]) -> RunLog:
    """The log that those items make."""
    log = RunLog()
    for epoch, items in epochs:
        log.extend(items, epoch)
    return log

"""A reply with tools, folded from its log: its parts in order, and where each call stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from legato.core.event import (
    ApprovalAsked,
    ApprovalGiven,
    CallStarted,
    LogItem,
    ReasoningDelta,
    RunStarted,
    ToolCalled,
    ToolResulted,
    ToolStarted,
)
from legato.core.log import RunLog
from legato.core.reply import fold_reply
from tests.logs import epochs_of_items, log_of

STARTED = RunStarted(conversation_id="c", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)


def model(reason: str = "tools") -> CallStarted:
    return CallStarted(epoch=0, provider="p", model="a", reason=reason)  # type: ignore[arg-type]


def called(call_id: str, name: str = "search", arguments: str = "{}") -> ToolCalled:
    return ToolCalled(call_id=call_id, name=name, arguments=arguments)


def result(call_id: str, output: str = "found", *, is_error: bool = False) -> ToolResulted:
    return ToolResulted(call_id=call_id, output=output, is_error=is_error, elapsed_s=0.25)


def log_with(*items: LogItem) -> RunLog:
    log = RunLog()
    log.extend([STARTED, *items], 0)
    return log


def call_part(call_id: str, name: str = "search", arguments: str = "{}", **more: str) -> dict[str, Any]:
    return {"type": "tool-call", "callId": call_id, "name": name, "arguments": arguments} | more


def result_part(call_id: str, output: str = "found", *, is_error: bool = False) -> dict[str, Any]:
    return {
        "type": "tool-result",
        "callId": call_id,
        "name": "search",
        "output": output,
        "isError": is_error,
        "elapsedMs": 250,
    }


TEXT = {"type": "text", "text": "Hello"}
CASES: dict[str, tuple[list[LogItem], list[dict[str, Any]]]] = {
    "without tools, as before there were any": (
        [model("first"), "Hel", ReasoningDelta(text="hm "), "lo", model("retry"), ReasoningDelta(text="so")],
        [{"type": "reasoning", "text": "hm so"}, TEXT],
    ),
    "empty": ([], []),
    "text before and after": (
        [model("first"), "Let me", " look.", called("a"), ToolStarted(call_id="a"), result("a"), model(), "Here:", "x"],
        [
            {"type": "text", "text": "Let me look."},
            call_part("a"),
            result_part("a"),
            {"type": "text", "text": "Here:x"},
        ],
    ),
    "results in the order of the calls, however they came": (
        [
            model("first"),
            called("a"),
            called("b"),
            ToolStarted(call_id="b"),
            ToolStarted(call_id="a"),
            result("b", "2"),
            result("a", "1", is_error=True),
        ],
        [call_part("a"), call_part("b"), result_part("a", "1", is_error=True), result_part("b", "2")],
    ),
    "two rounds, and thoughts where they were": (
        [
            model("first"),
            ReasoningDelta(text="one"),
            called("a"),
            result("a"),
            model(),
            ReasoningDelta(text="two"),
            called("b"),
            result("b"),
            model(),
            model("retry"),
            "Hello",
        ],
        [
            {"type": "reasoning", "text": "one"},
            call_part("a"),
            result_part("a"),
            {"type": "reasoning", "text": "two"},
            call_part("b"),
            result_part("b"),
            TEXT,
        ],
    ),
    "a round that was stopped": (
        [model("first"), "Hello", called("a"), called("b"), ToolStarted(call_id="a"), result("b")],
        [TEXT, call_part("a"), call_part("b"), result_part("b")],
    ),
    "approvals": (
        [
            model("first"),
            called("a"),
            called("b"),
            called("c"),
            *(ApprovalAsked(call_id=each, until_ms=5) for each in "abc"),
            ApprovalGiven(call_id="a", granted=True, by="ann"),
            ApprovalGiven(call_id="b", granted=False),
        ],
        [
            call_part("a", approval="granted"),
            call_part("b", approval="denied"),
            call_part("c", approval="asked"),
        ],
    ),
    "what is about no known call": ([model("first"), ToolStarted(call_id="x"), result("x"), "Hello"], [TEXT]),
}


@pytest.mark.parametrize(("items", "parts"), CASES.values(), ids=CASES)
def test_a_reply_has_its_parts_in_order(items: list[LogItem], parts: list[dict[str, Any]]) -> None:
    """Reasoning, text, calls and results as they followed each other; text that nothing stands between is one part."""
    assert fold_reply(log_with(*items)).parts == parts


@given(epochs_of_items())
def test_the_text_of_the_parts_is_the_text_of_the_reply(epochs: list[tuple[int, list[LogItem]]]) -> None:
    """All of it, in order, whatever stands between; every call has its part, and no part is empty."""
    log = log_of(epochs)
    reply = fold_reply(log)
    assert "".join(part["text"] for part in reply.parts if part["type"] == "text") == log.text == reply.text
    assert "".join(part["text"] for part in reply.parts if part["type"] == "reasoning") == reply.reasoning
    assert all(part.get("text") != "" for part in reply.parts)
    calls = [event.call_id for event in log.events if isinstance(event, ToolCalled)]
    assert [part["callId"] for part in reply.parts if part["type"] == "tool-call"] == calls


def test_a_call_knows_where_it_stands() -> None:
    """What is still to be done after a crash is read from here: called, asked about, started, or done."""
    log = log_with(
        model("first"),
        called("a", arguments='{"n":1}'),
        called("b"),
        called("c"),
        ApprovalAsked(call_id="b", until_ms=7),
        ToolStarted(call_id="c"),
        ToolStarted(call_id="a"),
        result("a", "1"),
    )
    reply = fold_reply(log)
    a, b, c = reply.tool_calls
    assert (a.arguments, a.started, a.result is not None) == ('{"n":1}', True, True)
    assert (b.started, b.approval, b.asked) == (False, "asked", ApprovalAsked(call_id="b", until_ms=7))
    assert (c.started, c.result, c.approval) == (True, None, None)
    assert reply.tool_rounds == 1


def test_rounds_are_counted_by_answers() -> None:
    """Several calls of one answer are one round; a retry after one is none."""
    log = log_with(model("first"), called("a"), called("b"), result("a"), result("b"), model(), model("retry"), "x")
    assert fold_reply(log).tool_rounds == 1
    log.extend([called("c"), result("c"), model()], 0)
    assert fold_reply(log).tool_rounds == 2
    assert fold_reply(log).stretches[-1].text == ""

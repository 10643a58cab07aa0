"""Tool calls in what a model is given: each with its result, whole turns or none, and ids that are unlike."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given

from legato.core.event import CallStarted, LogItem, RunStarted, ToolCalled, ToolResulted
from legato.core.log import RunLog
from legato.core.reply import fold_reply
from legato.core.run_errors import ContextExceeded
from legato.providers.base import ChatMessage
from legato.providers.scripted import ScriptedProvider
from legato.providers.tool_deltas import ToolCall
from legato.runs.context import LEFT_OUT, NO_RESULT, fit, messages_of, messages_so_far, with_ids_of_their_own
from tests.logs import epochs_of_items, log_of

STARTED = RunStarted(conversation_id="c", session_id="s", user_message_id="m-1", message_id="m-2", at_ms=1)
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


def model(reason: str = "tools") -> CallStarted:
    return CallStarted(epoch=0, provider="p", model="a", reason=reason)  # type: ignore[arg-type]


def log_with(*items: LogItem) -> RunLog:
    log = RunLog()
    log.extend([STARTED, *items], 0)
    return log


def asks(*ids: str, text: str = "", arguments: str = "{}") -> ChatMessage:
    calls = tuple(ToolCall(id=each, name="search", arguments=arguments) for each in ids)
    return ChatMessage(role="assistant", content=text, tool_calls=calls)


def answers(call_id: str, output: str = "found") -> ChatMessage:
    return ChatMessage(role="tool", content=output, tool_call_id=call_id)


def says(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def called(call_id: str) -> ToolCalled:
    return ToolCalled(call_id=call_id, name="search", arguments="{}")


def result(call_id: str, output: str = "found") -> ToolResulted:
    return ToolResulted(call_id=call_id, output=output, is_error=False, elapsed_s=0.1)


TWO_ROUNDS: list[LogItem] = [
    model("first"),
    "Let me ",
    "look.",
    called("a"),
    called("b"),
    result("b", "2"),
    result("a", "1"),
    model(),
    called("c"),
    result("c", "3"),
    model(),
    "Here.",
]
TOLD = [asks("a", "b", text="Let me look."), answers("a", "1"), answers("b", "2"), asks("c"), answers("c", "3")]


def test_what_a_reply_has_found_out_is_told_before_what_it_says_now() -> None:
    """Calls and results in order; the text of the present call is no part of it."""
    assert messages_so_far(fold_reply(log_with(*TWO_ROUNDS)).stretches) == TOLD
    assert messages_so_far(fold_reply(log_with(model("first"), "Hel", model("retry"), "lo")).stretches) == []


def test_an_earlier_turn_is_told_as_it_was() -> None:
    """From the stored parts the model is told what it was told from the log, and the last text."""
    parts = msgspec.json.encode(fold_reply(log_with(*TWO_ROUNDS)).parts).decode()
    assert messages_of("assistant", parts) == [*TOLD, says("Here.")]
    assert messages_of("user", '[{"type":"text","text":"Why?"}]') == [user("Why?")]
    assert messages_of("assistant", '[{"type":"reasoning","text":"hm"}]') == []


@given(epochs_of_items())
def test_every_call_is_followed_by_its_result(epochs: list[tuple[int, list[LogItem]]]) -> None:
    """Servers refuse anything else, so a turn that was stopped in a round says that there is no result."""
    parts = msgspec.json.encode(fold_reply(log_of(epochs)).parts).decode()
    waiting: list[str] = []
    for message in messages_of("assistant", parts):
        if message.role == "tool":
            assert message.tool_call_id == waiting.pop(0)
        else:
            assert not waiting
            assert message.content or message.tool_calls
            waiting = [call.id for call in message.tool_calls]
    assert not waiting


def test_a_call_that_was_stopped_has_no_result() -> None:
    """The model is told so."""
    parts = msgspec.json.encode(fold_reply(log_with(model("first"), called("a"))).parts).decode()
    assert messages_of("assistant", parts) == [asks("a"), answers("a", NO_RESULT)]


async def test_turns_with_tools_are_dropped_whole() -> None:
    """A history never begins with a call, nor with a result whose call was dropped."""
    turns = [
        message
        for n in range(6)
        for message in (user(f"question {n}"), asks(f"a{n}"), answers(f"a{n}", "x" * 400), says(f"reply {n}"))
    ]
    for window in range(256, 1500, 20):
        provider = ScriptedProvider(context_window=window)
        messages, _ = await fit(provider, system="Be kind.", history=turns, question="Why?", max_tokens=64)
        kept = messages[1:-1]
        assert kept == turns[len(turns) - len(kept) :]
        assert not kept or kept[0].role == "user"
        assert len(kept) % 4 == 0
    assert len(kept) == len(turns)


async def test_ids_that_come_again_are_made_unlike() -> None:
    """Servers that count their calls from 0 use an id in every turn, and some refuse to see one twice."""
    history = [user("1"), asks("call_0"), answers("call_0", "x"), says("2"), user("3"), asks("call_0", "call_1")]
    history += [answers("call_0", "y"), answers("call_1", "z"), says("4")]
    so_far = [asks("call_0"), answers("call_0", "w")]
    messages, _ = await fit(ScriptedProvider(), system=None, history=history, question="5", max_tokens=9, so_far=so_far)
    ids = [call.id for message in messages for call in message.tool_calls]
    assert len(set(ids)) == 4
    assert [message.tool_call_id for message in messages if message.role == "tool"] == ids
    assert [message.content for message in messages if message.role == "tool"] == ["x", "y", "z", "w"]


def test_a_new_id_is_not_one_that_the_next_call_has() -> None:
    """Where `0` becomes `0_2`, a call of the same answer that is `0_2` already gets another; results go along."""
    messages = [asks("0"), answers("0", "x"), asks("0", "0_2"), answers("0", "y"), answers("0_2", "z")]
    told = with_ids_of_their_own(messages)
    ids = [call.id for message in told for call in message.tool_calls]
    assert ids == ["0", "0_2", "0_2_2"]
    assert [message.tool_call_id for message in told if message.role == "tool"] == ids


def test_many_calls_of_one_id_are_told_apart_at_once() -> None:
    """Twenty thousand rounds under one id, as an imported conversation may hold, keep the event loop no seconds."""
    messages = [message for _ in range(20_000) for message in (asks("0"), answers("0", "x"))]
    begun_s = time.process_time()
    told = with_ids_of_their_own(messages)
    assert time.process_time() - begun_s < 2.0
    assert len({call.id for message in told for call in message.tool_calls}) == 20_000


async def test_the_present_reply_stays_and_its_oldest_results_go() -> None:
    """Rather a result is left out than the reply fails; the calls stay, and the newest results longest."""
    provider = ScriptedProvider(context_window=600)
    so_far = [asks("a"), answers("a", "x" * 1200), asks("b"), answers("b", "y" * 1200), says("So")]
    messages, reply = await fit(
        provider, system=None, history=[user("old " * 200), says("old")], question="Why?", max_tokens=100, so_far=so_far
    )
    kept = [asks("a"), answers("a", LEFT_OUT), asks("b"), answers("b", "y" * 1200), says("So")]
    assert messages == [user("Why?"), *kept]
    assert 64 <= reply <= 100
    with pytest.raises(ContextExceeded):
        await fit(provider, system=None, history=[], question="x" * 2400, max_tokens=100, so_far=so_far)


async def test_definitions_take_their_place() -> None:
    """What a model may call is part of what it reads."""
    provider = ScriptedProvider(context_window=600)
    history = [user("x" * 700), says("y" * 700)]
    with_room, _ = await fit(provider, system=None, history=history, question="Why?", max_tokens=64)
    without, _ = await fit(provider, system=None, history=history, question="Why?", max_tokens=64, tools=[TOOL] * 12)
    assert (len(with_room), len(without)) == (3, 1)

"""What a model is given: the system prompt, the latest turns that fit, the present message."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.run_errors import ContextExceeded
from legato.providers.base import ChatMessage
from legato.providers.scripted import ScriptedProvider
from legato.runs.context import MESSAGE_TOKENS, estimate_tokens, fit, parts_text


def history_of(turns: int, size: int) -> list[ChatMessage]:
    """So many turns of two messages, each of about `size` characters and unlike any other."""
    return [
        ChatMessage(role=role, content=f"{role} {turn} ".ljust(size, "x"))
        for turn in range(turns)
        for role in ("user", "assistant")
    ]


def cost(message: ChatMessage) -> int:
    """Tokens as the scripted provider counts them."""
    return len(message.content) // 4 + 1 + MESSAGE_TOKENS


@given(
    st.integers(0, 12),
    st.integers(10, 600),
    st.integers(256, 4000),
    st.none() | st.just("Be kind."),
    st.integers(1, 300),
)
async def test_what_fits_is_kept_and_no_more(
    turns: int, size: int, window: int, system: str | None, max_tokens: int
) -> None:
    """Within the window, in order, whole turns, the latest ones, system prompt first and question last."""
    provider = ScriptedProvider(context_window=window)
    history = history_of(turns, size)
    try:
        messages, reply = await fit(provider, system=system, history=history, question="Why?", max_tokens=max_tokens)
    except ContextExceeded:
        assert window < 512
        return
    assert 1 <= reply <= max_tokens
    assert sum(map(cost, messages)) + reply <= window
    assert messages[-1] == ChatMessage(role="user", content="Why?")
    if system:
        assert messages.pop(0) == ChatMessage(role="system", content=system)
    kept = messages[:-1]
    assert kept == history[len(history) - len(kept) :]
    assert not kept or kept[0].role == "user"
    assert all(a.role != b.role for a, b in pairwise(messages))
    if len(kept) < len(history):
        turn = history[len(history) - len(kept) - 2 : len(history) - len(kept)]
        assert (
            sum(map(cost, [*messages, *turn]))
            + (cost(ChatMessage(role="system", content=system)) if system else 0)
            + (reply)
            > window
        ), "the turn before would not have fitted"


async def test_a_question_that_does_not_fit_is_refused() -> None:
    """It is never cut, and never dropped; the refusal names the sizes."""
    provider = ScriptedProvider("small", context_window=600)
    with pytest.raises(ContextExceeded, match=r"about \d+ tokens .* small takes 600"):
        await fit(provider, system=None, history=[], question="word " * 1000, max_tokens=100)
    with pytest.raises(ContextExceeded):
        await fit(provider, system="rule " * 1000, history=[], question="x", max_tokens=100)


async def test_a_reply_is_shortened_before_the_question_is_refused() -> None:
    """A long question leaves less room for the reply, and none for the history."""
    provider = ScriptedProvider(context_window=600)
    messages, reply = await fit(
        provider, system=None, history=history_of(3, 100), question="word " * 400, max_tokens=2000
    )
    assert len(messages) == 1
    assert 64 <= reply < 100


async def test_an_unknown_window_is_large() -> None:
    """A model whose window nobody told takes what was said so far."""
    provider = ScriptedProvider(context_window=None)
    messages, reply = await fit(provider, system=None, history=history_of(50, 300), question="x", max_tokens=2000)
    assert (len(messages), reply) == (101, 2000)


@given(st.text(max_size=300))
def test_an_estimate_is_rather_too_high(text: str) -> None:
    """About a token for three bytes, and never none."""
    assert estimate_tokens(text) >= max(1, len(text.encode()) // 4)


def test_only_text_is_read_from_parts() -> None:
    """Reasoning was never part of the reply."""
    assert (
        parts_text('[{"type":"reasoning","text":"hm"},{"type":"text","text":"a"},{"type":"text","text":"b"}]') == "ab"
    )
    assert parts_text("[]") == ""

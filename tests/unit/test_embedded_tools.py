"""The embedded model calls no tools: it says so once, and takes a context that other models' tools have left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from legato.core.run_errors import NoModel
from legato.providers.base import CallRequest, ChatMessage, Pausable
from legato.providers.embedded import EmbeddedProvider, without_tools
from legato.providers.tool_deltas import ToolCall

TOOL = {"type": "function", "function": {"name": "search"}}
CALL = (ToolCall(id="a", name="search", arguments="{}"),)


class Deaf:
    def opened(self, flow: Pausable | None) -> None: ...
    def text(self, delta: str) -> None: ...
    def reasoning(self, delta: str) -> None: ...


async def test_it_says_once_that_it_calls_no_tools(tmp_path: Path) -> None:
    """One line in the log, which says what to set; not one for each reply."""
    provider = EmbeddedProvider("embedded", weights=tmp_path / "none.gguf")
    assert not provider.takes_tools
    messages = [ChatMessage(role="user", content="Hi")]
    with capture_logs() as logs:
        for tools in ([], [TOOL], [TOOL]):
            request = CallRequest(run_id="r", messages=messages, temperature=None, max_tokens=9, tools=tools)
            with pytest.raises(NoModel):
                await provider.call(request, Deaf())
    await provider.close()
    said = [entry["event"] for entry in logs if "tools" in entry["event"]]
    assert len(said) == 1
    assert "calls no tools" in said[0]
    assert "OPENAI_API_KEY" in said[0]


def test_what_tools_found_is_told_in_words() -> None:
    """With the user's; a call without text is nothing to it, and roles go on taking turns."""
    context = [
        ChatMessage(role="system", content="Be kind."),
        ChatMessage(role="user", content="Why?"),
        ChatMessage(role="assistant", content="Let me look.", tool_calls=CALL),
        ChatMessage(role="tool", content="1", tool_call_id="a"),
        ChatMessage(role="assistant", content="", tool_calls=CALL),
        ChatMessage(role="tool", content="2", tool_call_id="a"),
        ChatMessage(role="assistant", content="Here."),
    ]
    assert without_tools(context) == [
        ("system", "Be kind."),
        ("user", "Why?"),
        ("assistant", "Let me look."),
        ("user", "[What a tool has found: 1]\n\n[What a tool has found: 2]"),
        ("assistant", "Here."),
    ]


@given(st.lists(st.sampled_from(["user", "assistant"]), max_size=8))
def test_a_context_without_tools_stays_as_it_is(roles: list[str]) -> None:
    """Message by message."""
    plain = [ChatMessage(role=role, content=f"{n}") for n, role in enumerate(roles)]  # type: ignore[arg-type]
    assert without_tools(plain) == [(message.role, message.content) for message in plain]

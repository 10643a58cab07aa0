"""The scripted model with tools: its words, and that what it does follows from what it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from legato.providers.base import CallRequest, ChatMessage, Pausable
from legato.providers.scripted import Script, ScriptedProvider, read_journal, reply
from legato.providers.tool_deltas import ToolCall

TOOLS = [{"type": "function", "function": {"name": "search"}}]


class Said:
    def __init__(self) -> None:
        self.words: list[str] = []

    def opened(self, flow: Pausable | None) -> None: ...

    def text(self, delta: str) -> None:
        self.words.append(delta)

    def reasoning(self, delta: str) -> None: ...


@pytest.mark.parametrize(
    ("words", "answer", "calls"),
    [
        ('tool=search:{"q":"a:b=c@d"}@1', 1, [("search", '{"q":"a:b=c@d"}')]),
        ('tool=search:{"q":1}@1', 2, []),
        ('tool=search:{"q":1}@*', 7, [("search", '{"q":1}')]),
        ("tool=now", 1, [("now", "{}")]),
        ('tool=search:{"mail":"a@b.c"}', 1, [("search", '{"mail":"a@b.c"}')]),
        ("tool=now@2 tool=search:[]@2", 2, [("now", "{}"), ("search", "[]")]),
        ('tool=search:{"q":@1', 1, [("search", '{"q":')]),
    ],
)
def test_words_are_calls(words: str, answer: int, calls: list[tuple[str, str]]) -> None:
    """Name, arguments as they stand, and in which answer."""
    script = Script.parse(f"script: {words}", Script())
    assert [(call.name, call.arguments) for call in script.tool_calls(answer)] == calls


async def test_answers_are_counted_by_what_is_shown(tmp_path: Path) -> None:
    """A call that was cut is made again as it was; the text goes on behind each round; the journal tells it all."""
    provider = ScriptedProvider(journal=tmp_path / "journal")
    question = ChatMessage(role="user", content="script: seed=4 tokens=6 upto=2@1 tool=search:{}@1")
    calls = (ToolCall(id="call_1_1", name="search", arguments="{}"),)
    shown = [question]

    async def say() -> tuple[str, tuple[ToolCall, ...]]:
        said = Said()
        request = CallRequest(run_id="r", messages=list(shown), temperature=None, max_tokens=99, tools=TOOLS)
        end = await provider.call(request, said)
        return "".join(said.words), end.tool_calls

    for _ in range(2):
        assert await say() == (reply(4, 2), calls)
    shown += [
        ChatMessage(role="assistant", content=reply(4, 2), tool_calls=calls),
        ChatMessage(role="tool", content="found", tool_call_id="call_1_1"),
    ]
    text, more = await say()
    assert (reply(4, 2) + text, more) == (reply(4, 6), ())
    journal = read_journal(tmp_path / "journal")
    assert [(call.call, call.answer, call.calls, call.results, call.offered) for call in journal] == [
        (1, 1, ["search"], [], 1),
        (2, 1, ["search"], [], 1),
        (3, 2, [], ["found"], 1),
    ]


async def test_without_tools_it_speaks() -> None:
    """A model that is offered none calls none."""
    said = Said()
    request = CallRequest(
        run_id="r",
        messages=[ChatMessage(role="user", content="script: seed=4 tokens=3 tool=search@*")],
        temperature=None,
        max_tokens=99,
    )
    end = await ScriptedProvider().call(request, said)
    assert ("".join(said.words), end.tool_calls) == (reply(4, 3), ())

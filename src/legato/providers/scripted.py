"""A deterministic model for tests and benches: its reply is a function of a seed, its faults are chosen.

Token i is a function of (seed, i), so that a reader can tell any lost, repeated or changed token. What it does is
said in the last user message, after `script:`, as `name=value` words:

    script: seed=7 tokens=40 delay_ms=5 usage=1 fail=429@1 cut=12@1 stall=5@2

`fail=CODE@N`, `cut=TOKEN@N`, `stall=TOKEN@N` and `garbage=1@N` happen in the Nth call of a run only. Calls are counted
in the journal, a file to which each call is appended before it says anything, so the count survives `kill -9`.

`tool=NAME:{"a":1}@N` (JSON without white space) calls a tool in the model's Nth answer to the message, `@*` in each;
several are called at once, in their order. Such an answer says no text, or with `upto=TOKEN@N` the tokens before that
one; the next answer goes on with the text. Answers are counted by what the model is shown, so that a call that was cut
is made again as it was. Without tools to call, the model speaks on instead.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from legato.core.run_errors import (
    UpstreamBroken,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from legato.core.usage import Usage
from legato.providers.base import CallEnd, CallRequest, ChatMessage, DeltaSink
from legato.providers.tool_deltas import ToolCall

_RESULT_CHARS = 200
_WORDS = (" note", " naïve", " 東京", " data: x", "\n- item", " 🎵", ' "quoted"', " \\slash", "\u2028line", " tail")


def token(seed: int, index: int) -> str:
    """Return token `index` of the reply of `seed`: unlike any other of it, and never only white space."""
    mixed = (seed * 2654435761 + index * 40503) & 0xFFFFFFFF
    word = _WORDS[(mixed >> 8) % len(_WORDS)]
    text = f"{word}{seed % 1000}.{index}" + ("\n\n" if word == " tail" else "")
    return text if index else text.lstrip()


def reply(seed: int, tokens: int) -> str:
    """Return the whole reply."""
    return "".join(token(seed, index) for index in range(tokens))


@dataclass(slots=True)
class Script:
    """What one reply is to be. A fault is (value, number of the call in which it happens).

    Attributes:
        tools: (number of the answer or `*`, name, arguments) of each tool call.
        upto: By number of an answer with tool calls, the token before which it stops speaking.
    """

    seed: int = 0
    tokens: int = 20
    delay_ms: float = 0.0
    usage: int = 1
    faults: dict[str, tuple[int, int]] = field(default_factory=dict)
    tools: list[tuple[str, str, str]] = field(default_factory=list)
    upto: dict[int, int] = field(default_factory=dict)

    @staticmethod
    def parse(text: str, default: Script) -> Script:
        """Return the script that stands in a message, or `default`."""
        _, found, words = text.partition("script:")
        script = replace(default, faults=dict(default.faults), tools=list(default.tools), upto=dict(default.upto))
        if not found:
            return script
        for word in words.split():
            name, _, value = word.partition("=")
            if name in ("seed", "tokens", "usage"):
                setattr(script, name, int(value))
            elif name == "delay_ms":
                script.delay_ms = float(value)
            elif name in ("fail", "cut", "stall", "garbage"):
                at, _, call = value.partition("@")
                script.faults[name] = (int(at), int(call or 1))
            elif name == "upto":
                at, _, answer = value.partition("@")
                script.upto[int(answer or 1)] = int(at)
            elif name == "tool":
                told, at_sign, answer = value.rpartition("@")
                if not at_sign or not (answer == "*" or answer.isdigit()):
                    told, answer = value, "1"
                tool, _, arguments = told.partition(":")
                script.tools.append((answer, tool, arguments))
        return script

    def tool_calls(self, answer: int) -> tuple[ToolCall, ...]:
        """Return the tools that the model calls in its answer of this number."""
        found = [(name, arguments) for at, name, arguments in self.tools if at in ("*", str(answer))]
        return tuple(
            ToolCall(id=f"call_{answer}_{place}", name=name, arguments=arguments or "{}")
            for place, (name, arguments) in enumerate(found, 1)
        )


class Call(msgspec.Struct):
    """One line of the journal.

    Attributes:
        answer: Which answer to the message it is, from 1: one more than the rounds of tools that it is shown.
        offered: Tools that it may call.
        calls: Names of the tools that it calls.
        results: What the tools have given for this message, oldest first, the beginning of each.
    """

    run: str
    call: int
    pid: int
    continues: bool
    prefix_chars: int
    at_ms: int
    messages: int
    answer: int = 1
    offered: int = 0
    calls: list[str] = []
    results: list[str] = []


class ScriptedProvider:
    """See the module. `journal` None keeps calls in memory alone, and what was asked too: in `requests`."""

    kind = "scripted"
    names_things = False
    takes_tools = True

    def __init__(
        self,
        name: str = "scripted",
        *,
        journal: Path | None = None,
        script: Script | None = None,
        prefill: bool = True,
        context_window: int | None = 100_000,
    ) -> None:
        self.name = name
        self.prefill = prefill
        self.context_window = context_window
        self.open_calls = 0
        self.requests: list[CallRequest] = []
        self._script = script or Script()
        self._journal = journal
        self._calls: list[Call] = []

    async def call(self, request: CallRequest, sink: DeltaSink) -> CallEnd:
        if self._journal is None:
            # A server that runs for long would keep them all.
            self.requests.append(request)
        shown = _Shown(request.messages)
        script = Script.parse(shown.question, self._script)
        calls = script.tool_calls(shown.answer) if request.tools else ()
        number = self._record(request, shown, calls)
        self.open_calls += 1
        try:
            return await self._speak(request, sink, script, number, shown, calls)
        finally:
            self.open_calls -= 1

    async def _speak(
        self,
        request: CallRequest,
        sink: DeltaSink,
        script: Script,
        number: int,
        shown: _Shown,
        calls: tuple[ToolCall, ...],
    ) -> CallEnd:
        faults = {name: at for name, (at, call) in script.faults.items() if call == number}
        if "fail" in faults:
            raise _failure(faults["fail"])
        if "garbage" in faults:
            raise UpstreamInvalid("the model's server answered with something that is no chat completion")
        sink.opened(None)
        said = 0
        position = 0
        prefix = shown.text
        upto = script.upto.get(shown.answer, 0) if calls else script.tokens
        for index in range(script.tokens):
            text = token(script.seed, index)
            position += len(text)
            if position <= len(prefix):
                continue
            if index >= upto:
                break
            if faults.get("cut") == index:
                raise UpstreamBroken("the model's stream was cut")
            if faults.get("stall") == index:
                await asyncio.sleep(3600)
            if script.delay_ms:
                await asyncio.sleep(script.delay_ms / 1000)
            if said >= request.max_tokens:
                return CallEnd(reason="length", usage=self._usage(script, request, said))
            sink.text(text[max(0, len(text) - (position - len(prefix))) :])
            said += 1
        if faults.get("cut") == script.tokens:
            raise UpstreamBroken("the model's stream was cut")
        return CallEnd(reason="stop", usage=self._usage(script, request, said), tool_calls=calls)

    def _usage(self, script: Script, request: CallRequest, said: int) -> Usage | None:
        if not script.usage:
            return None
        return Usage(input_tokens=sum(len(m.content) for m in request.messages) // 4 + 1, output_tokens=said)

    def _record(self, request: CallRequest, shown: _Shown, calls: tuple[ToolCall, ...]) -> int:
        earlier = read_journal(self._journal) if self._journal else self._calls
        call = Call(
            run=request.run_id,
            call=1 + sum(1 for each in earlier if each.run == request.run_id),
            pid=os.getpid(),
            continues=request.continues,
            prefix_chars=len(shown.text),
            at_ms=time.time_ns() // 1_000_000,
            messages=len(request.messages),
            answer=shown.answer,
            offered=len(request.tools),
            calls=[each.name for each in calls],
            results=shown.results,
        )
        if self._journal is None:
            self._calls.append(call)
        else:
            fd = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(fd, msgspec.json.encode(call) + b"\n")
            finally:
                os.close(fd)
        return call.call

    async def count_tokens(self, text: str) -> int | None:
        return len(text) // 4 + 1

    async def start(self) -> None:
        return None

    async def ready(self) -> None:
        return None

    async def close(self) -> None:
        return None


def read_journal(path: Path) -> list[Call]:
    """Return all calls of a journal, oldest first; a last line that was cut is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [msgspec.json.decode(line, type=Call) for line in lines[:-1]]


class _Shown:
    """What the model is shown.

    Attributes:
        question: The last message of the user that is a script, or the last one.
        text: What the reply to it has said so far.
        answer: Which answer to it this is, from 1.
        results: What tools have given for it.
    """

    def __init__(self, messages: Sequence[ChatMessage]) -> None:
        if len(messages) > 1 and messages[-1].content.startswith("Your previous message was cut off"):
            messages = messages[:-1]
        users = [place for place, message in enumerate(messages) if message.role == "user"]
        scripts = [place for place in users if "script:" in messages[place].content]
        self.question = messages[(scripts or users)[-1]].content if users else ""
        said = messages[users[-1] + 1 :] if users else messages
        self.text = "".join(message.content for message in said if message.role == "assistant")
        self.answer = 1 + sum(1 for message in said if message.tool_calls)
        self.results = [message.content[:_RESULT_CHARS] for message in said if message.role == "tool"]


def _failure(status: int) -> Exception:
    if status == 429:
        error = UpstreamRateLimited("the model's server answered 429: too many requests")
        error.retry_after_s = 0.05
        return error
    if status >= 500:
        return UpstreamUnavailable(f"the model's server answered {status}")
    return UpstreamRefused(f"the model's server refused the request ({status})")

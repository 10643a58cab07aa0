"""A deterministic model for tests and benches: its reply is a function of a seed, its faults are chosen.

Token i is a function of (seed, i), so that a reader can tell any lost, repeated or changed token. What it does is
said in the last user message, after `script:`, as `name=value` words:

    script: seed=7 tokens=40 delay_ms=5 usage=1 fail=429@1 cut=12@1 stall=5@2

`fail=CODE@N`, `cut=TOKEN@N`, `stall=TOKEN@N` and `garbage=1@N` happen in the Nth call of a run only. Calls are counted
in the journal, a file to which each call is appended before it says anything, so the count survives `kill -9`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from legato.core.errors import (
    UpstreamBroken,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from legato.core.usage import Usage
from legato.providers.base import CallEnd, CallRequest, ChatMessage, DeltaSink

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
    """What one reply is to be. A fault is (value, number of the call in which it happens)."""

    seed: int = 0
    tokens: int = 20
    delay_ms: float = 0.0
    usage: int = 1
    faults: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, default: Script) -> Script:
        """Return the script that stands in a message, or `default`."""
        _, found, words = text.partition("script:")
        script = cls(default.seed, default.tokens, default.delay_ms, default.usage, dict(default.faults))
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
        return script


class Call(msgspec.Struct):
    """One line of the journal."""

    run: str
    call: int
    pid: int
    continues: bool
    prefix_chars: int
    at_ms: int
    messages: int


class ScriptedProvider:
    """See the module. `journal` None keeps calls in memory alone."""

    kind = "scripted"
    names_things = False

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
        self.requests.append(request)
        question, prefix = _question(request.messages)
        script = Script.parse(question, self._script)
        number = self._record(request, prefix)
        self.open_calls += 1
        try:
            return await self._speak(request, sink, script, number, prefix)
        finally:
            self.open_calls -= 1

    async def _speak(self, request: CallRequest, sink: DeltaSink, script: Script, number: int, prefix: str) -> CallEnd:
        faults = {name: at for name, (at, call) in script.faults.items() if call == number}
        if "fail" in faults:
            raise _failure(faults["fail"])
        if "garbage" in faults:
            raise UpstreamInvalid("the model's server answered with something that is no chat completion")
        sink.opened(None)
        said = 0
        position = 0
        for index in range(script.tokens):
            text = token(script.seed, index)
            position += len(text)
            if position <= len(prefix):
                continue
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
        return CallEnd(reason="stop", usage=self._usage(script, request, said))

    def _usage(self, script: Script, request: CallRequest, said: int) -> Usage | None:
        if not script.usage:
            return None
        return Usage(input_tokens=sum(len(m.content) for m in request.messages) // 4 + 1, output_tokens=said)

    def _record(self, request: CallRequest, prefix: str) -> int:
        earlier = read_journal(self._journal) if self._journal else self._calls
        call = Call(
            run=request.run_id,
            call=1 + sum(1 for each in earlier if each.run == request.run_id),
            pid=os.getpid(),
            continues=request.continues,
            prefix_chars=len(prefix),
            at_ms=time.time_ns() // 1_000_000,
            messages=len(request.messages),
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


def _question(messages: Sequence[ChatMessage]) -> tuple[str, str]:
    """Return the last question that is a script (or the last one), and the visible text to go on from."""
    if len(messages) > 1 and messages[-1].content.startswith("Your previous message was cut off"):
        messages = messages[:-1]
    prefix = messages[-1].content if messages[-1].role == "assistant" else ""
    users = [m.content for m in messages if m.role == "user"]
    scripts = [text for text in users if "script:" in text]
    return (scripts or users or [""])[-1], prefix


def _failure(status: int) -> Exception:
    if status == 429:
        error = UpstreamRateLimited("the model's server answered 429: too many requests")
        error.retry_after_s = 0.05
        return error
    if status >= 500:
        return UpstreamUnavailable(f"the model's server answered {status}")
    return UpstreamRefused(f"the model's server refused the request ({status})")

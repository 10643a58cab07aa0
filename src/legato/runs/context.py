"""What a model is given: the system prompt, as many of the latest turns as fit, the present message, and what its reply
has said and found out so far.

The oldest turns are dropped whole, with their tool calls; the system prompt is kept; the present message is never
dropped. Every tool call is followed by its result, because servers refuse a context where one is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import msgspec

from legato.core.errors import StorageUnavailable
from legato.core.run_errors import ContextExceeded
from legato.core.stretch import Stretch
from legato.providers.base import ChatMessage, Provider
from legato.providers.tool_deltas import ToolCall
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.storage.messages import find_path

DEFAULT_MAX_TOKENS = 2000
UNKNOWN_WINDOW = 128_000
"""Taken for a model whose window nobody told."""
MESSAGE_TOKENS = 8
"""What a chat template adds to each message, at most, in the models that we know."""
AGAIN_S = 0.25
"""Between two looks at a database that is away."""
HISTORY_MESSAGES = 1000
"""Messages that are ever read back, whatever the window."""
CHARS_PER_TOKEN = 5
"""So much is read back for each token of the window; what turns out to be too much is dropped."""
SHORTEST_REPLY = 64
"""Tokens that must be left for a reply, where so many are asked for."""
NO_RESULT = "there is no result: the reply ended before the tool had answered"
"""What a model is told of a call of an earlier turn that was stopped."""
LEFT_OUT = "[left out: this result does not fit into the model's context any more]"


async def build_context(
    node: Node,
    run: LiveRun,
    provider: Provider,
    *,
    so_far: Sequence[ChatMessage] = (),
    tools: Sequence[Mapping[str, Any]] = (),
) -> tuple[list[ChatMessage], int]:
    """Return the messages for the next call of a reply, and the most tokens that it may have.

    Args:
        so_far: What the reply has said before its last tools, with calls and results.
        tools: Definitions that the model is given beside the messages.

    Raises:
        ContextExceeded: What must not be left out does not fit.
    """
    history: list[ChatMessage] = []
    question = ""
    if run.history:
        window = provider.context_window or UNKNOWN_WINDOW
        room = max(1, window - (run.request.max_tokens or DEFAULT_MAX_TOKENS))
        rows = await _read_path(node, run, HISTORY_MESSAGES, room * CHARS_PER_TOKEN)
        for row in rows:
            history += messages_of(row.role, row.parts)
        question = history.pop().content if history else ""
    elif run.question is not None:
        question = run.question
    else:
        rows = await _read_path(node, run, 1, 1)
        question = parts_text(rows[-1].parts) if rows else ""
    return await fit(
        provider,
        system=run.request.system_prompt or node.settings.system_prompt,
        history=history,
        question=question,
        max_tokens=run.request.max_tokens or DEFAULT_MAX_TOKENS,
        so_far=so_far,
        tools=tools if provider.takes_tools else (),
    )


async def _read_path(node: Node, run: LiveRun, messages: int, chars: int) -> list[Any]:
    """Return the last messages before a reply; a database that is away is waited for, as what is written waits."""
    while True:
        try:
            return await node.database.read(
                lambda tx: find_path(tx, run.conversation_key, run.user_message_id, messages, chars)
            )
        except StorageUnavailable:
            await asyncio.sleep(AGAIN_S)


async def fit(
    provider: Provider,
    *,
    system: str | None,
    history: Sequence[ChatMessage],
    question: str,
    max_tokens: int,
    so_far: Sequence[ChatMessage] = (),
    tools: Sequence[Mapping[str, Any]] = (),
) -> tuple[list[ChatMessage], int]:
    """Return as much of a context as fits, and the tokens that are left for the reply, `max_tokens` at most.

    Of `so_far` the oldest results are left out where it would not fit otherwise.

    Raises:
        ContextExceeded: The system prompt, the question and the rest of `so_far` do not fit even alone.
    """
    window = provider.context_window or UNKNOWN_WINDOW
    head = [ChatMessage(role="system", content=system)] if system else []
    asked = ChatMessage(role="user", content=question)
    definitions = _encode(tools).decode() if tools else ""
    # No tokenizer makes more tokens than bytes. What fits even so, as most does, need not be counted.
    most = sum(map(_most_tokens, (*head, *history, asked, *so_far))) + len(definitions.encode())
    if most + max_tokens <= window:
        return with_ids_of_their_own([*head, *history, asked, *so_far]), max_tokens
    used = await count_text(provider, definitions) if definitions else 0
    for message in (*head, asked, *so_far):
        used += await _tokens(provider, message)
    if used + min(max_tokens, SHORTEST_REPLY) > window:
        so_far, used = await _shortened(provider, so_far, used, window - min(max_tokens, SHORTEST_REPLY))
    # Room for an answer is part of fitting: a reply of no token is none.
    if used + min(max_tokens, SHORTEST_REPLY) > window:
        raise ContextExceeded(
            f"the message has about {used} tokens with the system prompt; "
            f"{provider.name} takes {window} with its reply: shorten it"
        )
    reply = min(max_tokens, window - used)
    kept: list[ChatMessage] = []
    left = window - used - reply
    for message in reversed(history):
        cost = await _tokens(provider, message)
        if cost > left:
            break
        left -= cost
        kept.append(message)
    # A history that begins with a reply, or with a tool's result, has lost the question to it.
    while kept and kept[-1].role != "user":
        kept.pop()
    return with_ids_of_their_own([*head, *reversed(kept), asked, *so_far]), reply


async def count_input(
    provider: Provider, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()
) -> int:
    """Return the tokens that a model is given with a context, as far as they can be told here."""
    used = await count_text(provider, _encode(tools).decode()) if tools and provider.takes_tools else 0
    for message in messages:
        used += await _tokens(provider, message)
    return used


def most_input(provider: Provider, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Return the most tokens that a model can be given with a context: no tokenizer makes more than there are bytes."""
    return sum(map(_most_tokens, messages)) + (len(_encode(tools)) if tools and provider.takes_tools else 0)


async def _shortened(
    provider: Provider, so_far: Sequence[ChatMessage], used: int, most: int
) -> tuple[list[ChatMessage], int]:
    """Leave out results, oldest first, until at most `most` tokens are used, or none is left to be left out."""
    kept = list(so_far)
    for place, message in enumerate(kept):
        if used <= most:
            break
        if message.role == "tool" and len(message.content) > len(LEFT_OUT):
            kept[place] = replace(message, content=LEFT_OUT)
            used += await _tokens(provider, kept[place]) - await _tokens(provider, message)
    return kept, used


def _most_tokens(message: ChatMessage) -> int:
    content = message.content
    size = (len(content) if content.isascii() else len(content.encode())) + MESSAGE_TOKENS
    for call in message.tool_calls:
        size += len(call.name) + len(call.arguments.encode()) + MESSAGE_TOKENS
    return size


async def _tokens(provider: Provider, message: ChatMessage) -> int:
    used = await count_text(provider, message.content) + MESSAGE_TOKENS
    for call in message.tool_calls:
        used += await count_text(provider, f"{call.name} {call.arguments}") + MESSAGE_TOKENS
    return used


async def count_text(provider: Provider, text: str) -> int:
    """Return the tokens of a text, by the model's own tokenizer where that is at hand."""
    counted = await provider.count_tokens(text)
    return counted if counted is not None else estimate_tokens(text)


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has where no tokenizer is known: rather too many than too few."""
    return len(text.encode()) // 3 + 1


class _Part(msgspec.Struct, rename="camel"):
    """A part of a message, as core.stretch.parts_of writes it."""

    type: str
    text: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str = ""


_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_encode = msgspec.json.Encoder().encode


def messages_of(role: Any, parts: str) -> list[ChatMessage]:
    """Return a stored message (JSON) as a model is told of it; none for one without text and tool calls."""
    told: list[ChatMessage] = []
    text, calls, outputs = "", list[ToolCall](), dict[str, str]()
    for part in _decode_parts(parts):
        # What follows a call and is none belongs to the next thing that the model said.
        if calls and (part.type == "text" or (part.type == "tool-call" and outputs)):
            told += _round(text, calls, outputs)
            text, calls, outputs = "", [], {}
        match part.type:
            case "text":
                text += part.text
            case "tool-call":
                calls.append(ToolCall(id=part.call_id, name=part.name, arguments=part.arguments))
            case "tool-result":
                outputs[part.call_id] = part.output
    if calls:
        return told + _round(text, calls, outputs)
    return [*told, ChatMessage(role=role, content=text)] if text else told


def messages_so_far(stretches: Sequence[Stretch]) -> list[ChatMessage]:
    """Return what a reply has said and been told up to its last tools; each call of them must have its result."""
    told: list[ChatMessage] = []
    for stretch in stretches:
        if stretch.calls:
            calls = [ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in stretch.calls]
            outputs = {call.id: call.result.output for call in stretch.calls if call.result is not None}
            told += _round(stretch.text, calls, outputs)
    return told


def with_ids_of_their_own(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Return a context in which no two tool calls share an id; servers that count from 0 use them anew in each turn."""
    used: dict[str, int] = {}  # each with the number that the next of this name is tried with
    names: dict[str, str] = {}
    for place, message in enumerate(messages):
        if message.tool_calls:
            names = {call.id: _unlike(call.id, used) for call in message.tool_calls}
            calls = tuple(replace(call, id=names[call.id]) for call in message.tool_calls)
            messages[place] = replace(message, tool_calls=calls)
        elif message.tool_call_id is not None:
            messages[place] = replace(message, tool_call_id=names.get(message.tool_call_id, message.tool_call_id))
    return messages


def _unlike(call_id: str, used: dict[str, int]) -> str:
    """Return an id that is not used yet, which is used from now on: another call may have it of itself."""
    name = call_id
    if call_id in used:
        # From where the search before ended: a thousand calls of one id are not tried with each other.
        number = next(n for n in count(used[call_id]) if f"{call_id}_{n}" not in used)
        used[call_id] = number + 1
        name = f"{call_id}_{number}"
    used[name] = 2
    return name


def _round(text: str, calls: Sequence[ToolCall], outputs: Mapping[str, str]) -> list[ChatMessage]:
    return [
        ChatMessage(role="assistant", content=text, tool_calls=tuple(calls)),
        *(ChatMessage(role="tool", content=outputs.get(call.id, NO_RESULT), tool_call_id=call.id) for call in calls),
    ]


def parts_text(parts: str) -> str:
    """Return the text of a message's parts (JSON)."""
    return "".join([part.text for part in _decode_parts(parts) if part.type == "text"])

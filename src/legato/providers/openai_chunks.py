"""Chunks of an OpenAI-compatible stream: bytes to typed values, whatever shape a server gives them.

Pure. `decode_chunk` takes the quick way (msgspec into typed structs) and, where a server's shape
does not fit the types, the tolerant one (json into the same structs), so that what is said about
a chunk elsewhere is said once.

Source:
    https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from legato.core.usage import MOST_TOKENS, Usage
from legato.providers.base import EndReason

_SURROGATE = re.compile("[\ud800-\udfff]")


class Delta(msgspec.Struct, gc=False):
    """What a chunk adds. Servers name reasoning in one of two ways, never both with different text.

    Tool calls are any JSON value: providers.tool_deltas reads them. `function_call` is their form from before there
    were several in one answer.
    """

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None


class Choice(msgspec.Struct, gc=False):
    """One choice; `message` stands in answers that are not streamed."""

    delta: Delta | None = None
    finish_reason: str | None = None
    message: Delta | None = None


class CachedTokens(msgspec.Struct, gc=False):
    """`prompt_tokens_details`."""

    cached_tokens: int | None = None


class ReasoningTokens(msgspec.Struct, gc=False):
    """`completion_tokens_details`."""

    reasoning_tokens: int | None = None


class ChunkUsage(msgspec.Struct, gc=False):
    """`usage`, as OpenAI names it; cached tokens are part of the prompt's."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for cached tokens."""
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: ReasoningTokens | None = None


class Chunk(msgspec.Struct, gc=False):
    """One chunk, or one whole answer that is not streamed. `error` is any JSON value."""

    choices: tuple[Choice, ...] | None = None
    usage: ChunkUsage | None = None
    error: Any = None


decode_typed = msgspec.json.Decoder(Chunk).decode
"""The quick half of decode_chunk, for where every chunk passes; it raises one of NOT_TYPED."""
NOT_TYPED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_REASONS: dict[str, EndReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
}
# With these the server says that it gave up, so the text is not whole.
BROKEN_REASONS = frozenset(("error", "network_error", "insufficient_system_resource"))


def end_reason(finish_reason: str) -> EndReason:
    """Return why an answer ended; `tool_calls` and unknown reasons are `stop`: whether there are calls is seen."""
    return _REASONS.get(finish_reason, "stop")


def decode_chunk(data: bytes) -> Chunk | None:
    """Return the chunk that `data`, one JSON text, holds; None where it is no JSON object.

    Every string in the chunk is valid Unicode: what is not becomes U+FFFD.
    """
    try:
        return decode_typed(data)
    except NOT_TYPED:
        return decode_tolerantly(data)


def decode_tolerantly(data: bytes) -> Chunk | None:
    """Return the chunk that `data` holds where its shape does not fit the types; as decode_chunk."""
    try:
        value = json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    return Chunk(
        choices=tuple(map(_choice, choices)) if isinstance(choices, list) else None,
        usage=_usage(value.get("usage")),
        error=value.get("error"),
    )


def _choice(value: object) -> Choice:
    if not isinstance(value, dict):
        return Choice()
    return Choice(
        delta=_delta(value.get("delta")),
        finish_reason=_text(value.get("finish_reason")),
        message=_delta(value.get("message")),
    )


def _delta(value: object) -> Delta | None:
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    delta = Delta(
        content=_text(content),
        reasoning_content=_text(value.get("reasoning_content")),
        reasoning=_text(value.get("reasoning")),
        refusal=_text(value.get("refusal")),
        tool_calls=value.get("tool_calls"),
        function_call=value.get("function_call"),
    )
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        delta.content = "".join(_part_text(part, "text") for part in parts)
        if not (delta.reasoning_content or delta.reasoning):
            delta.reasoning = "".join(_part_text(part, "thinking") for part in parts)
    return delta


def _part_text(part: dict[str, object], field: str) -> str:
    """Return the text of a content part; `thinking` holds a string or again a list of parts."""
    value = part.get(field)
    if isinstance(value, list):
        return "".join(_part_text(inner, "text") for inner in value if isinstance(inner, dict))
    return _text(value) or ""


def _text(value: object) -> str | None:
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def _usage(value: object) -> ChunkUsage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = (value.get(name) for name in ("prompt_tokens_details", "completion_tokens_details"))
    return ChunkUsage(
        prompt_tokens=_count(value.get("prompt_tokens")),
        completion_tokens=_count(value.get("completion_tokens")),
        total_tokens=_count(value.get("total_tokens")),
        prompt_cache_hit_tokens=_count(value.get("prompt_cache_hit_tokens")),
        prompt_tokens_details=CachedTokens(_count(prompt.get("cached_tokens"))) if isinstance(prompt, dict) else None,
        completion_tokens_details=ReasoningTokens(_count(completion.get("reasoning_tokens")))
        if isinstance(completion, dict)
        else None,
    )


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def usage_of(reported: ChunkUsage) -> Usage | None:
    """Return the counts that a server reported; None where it reported none, or what no call can have."""
    cached, thought = reported.prompt_tokens_details, reported.completion_tokens_details
    inputs, outputs = _known(reported.prompt_tokens), _known(reported.completion_tokens)
    reasoning = _known(thought.reasoning_tokens) if thought else None
    if inputs is not None and outputs is not None and reasoning:
        # OpenAI counts the reasoning in the output. Some servers count it beside it: their total says so.
        beside = reported.total_tokens == inputs + outputs + reasoning
        if beside or reasoning > outputs:
            outputs += reasoning
    cached_tokens = _known(cached.cached_tokens) if cached else None
    usage = Usage(
        input_tokens=inputs,
        output_tokens=outputs,
        cache_read_tokens=_known(reported.prompt_cache_hit_tokens) if cached_tokens is None else cached_tokens,
        reasoning_tokens=reasoning,
    )
    return None if usage == Usage() else usage


def _known(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= MOST_TOKENS else None

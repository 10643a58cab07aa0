"""The seam between a run and a model: messages in, deltas out, nothing else.

A provider pushes. It calls the sink from wherever its bytes arrive, and awaits nothing per delta; that is what keeps
a chunk at a few microseconds (docs/benchmarks.md). Closing is by cancellation: a cancelled `call` closes its
upstream connection at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from legato.core.usage import Usage
from legato.providers.tool_deltas import ToolCall

EndReason = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of the context, oldest first; at most one `system` message, and that first.

    Attributes:
        tool_calls: What an `assistant` asked for beside its text, which may be empty then. Each is followed by one
            message of role `tool` for each call, in the same order.
        tool_call_id: The call that a `tool` message answers; its content is the output.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One model call.

    Attributes:
        run_id: For logs and the provider's own request id.
        messages: The context. With `continues`, the last one is the assistant's visible text so far.
        continues: The reply goes on from the last message, which has the role `assistant`; only a provider with
            `prefill` is called so.
        temperature: 0 to 2, or None for the model's own default.
        max_tokens: Most output tokens, >= 1.
        tools: What the model may call, as entries of `tools` in an OpenAI-compatible request; a provider without
            `takes_tools` calls the model without them.
        schema: JSON Schema that the answer is to follow; None for plain text. What a server that takes none does with
            it is its own.
    """

    run_id: str
    messages: Sequence[ChatMessage]
    temperature: float | None
    max_tokens: int
    continues: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """How a call ended.

    Attributes:
        usage: None where the provider reported none.
        tool_calls: What the model asked for beside its text, in its order. With the reason `length` the last one may
            be cut.
    """

    reason: EndReason
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class Pausable(Protocol):
    """What a call gives its sink so that the sink can stop the flow while the database is away."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class DeltaSink(Protocol):
    """Where a call's deltas go, on the event loop's thread.

    An empty string says that the model is at work on something that is not shown, such as a tool call's arguments: it
    counts for time limits, and for nothing else.
    """

    def opened(self, flow: Pausable | None) -> None:
        """Say that the model's server has answered; `flow` pauses and resumes its stream if that is possible."""
        ...

    def text(self, delta: str) -> None: ...
    def reasoning(self, delta: str) -> None: ...


class Provider(Protocol):
    """One configured model.

    Attributes:
        name: The model's name in the settings and in the API.
        kind: What serves it: `openai`, `embedded`, `scripted`.
        prefill: Whether it goes on from an assistant message at the end of the context.
        names_things: Whether it is asked for a conversation's title: good enough, and cheap enough.
        takes_tools: Whether it can call tools. One that cannot is given their definitions all the same, and says in
            the log that it does without.
        context_window: Tokens that input and output may have together, or None if unknown.
    """

    name: str
    kind: str
    prefill: bool
    names_things: bool
    takes_tools: bool
    context_window: int | None

    async def call(self, request: CallRequest, sink: DeltaSink) -> CallEnd:
        """Run one model call to its end.

        Returns only when the model came to an end of its own; anything else is a RunError: UpstreamUnavailable,
        UpstreamRateLimited (with `retry_after_s` where the server named it), UpstreamRefused, UpstreamAuth,
        ContextExceeded, UpstreamInvalid and NoModel before the first delta or UpstreamBroken after it. Time limits are
        the caller's, by cancellation.
        """
        ...

    async def count_tokens(self, text: str) -> int | None:
        """Return the tokens of `text` by the model's own tokenizer, or None where there is none."""
        ...

    async def start(self) -> None:
        """Make ready (start a child process, open files); called once. Must not fail because a server is away."""
        ...

    async def ready(self) -> None:
        """Wait until a call would not wait for this machine (a model that is being loaded); never fails."""
        ...

    async def close(self) -> None:
        """Close connections and end child processes."""
        ...

"""What the server and the embedded engine's process say to each other: one JSON message a line."""

from __future__ import annotations

from typing import Literal

import msgspec


class Setup(msgspec.Struct, tag=True, frozen=True):
    """The first request. `context_window` is that of one slot, in tokens; `parallel` counts slots."""

    weights: str
    context_window: int
    parallel: int
    threads: int


class Generate(msgspec.Struct, tag=True, frozen=True):
    """Begin call `id`. `messages` are (role, content); with `continues` the last is the reply so far."""

    id: int
    messages: list[tuple[str, str]]
    continues: bool
    temperature: float | None
    max_tokens: int


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Nobody waits for call `id` any more; it gets no further reply."""

    id: int


class Count(msgspec.Struct, tag=True, frozen=True):
    """Count the tokens of `text`."""

    id: int
    text: str


Request = Setup | Generate | Cancel | Count


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The model is loaded."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The engine cannot run; the process ends. `why`: no library, no usable model file, or no folder
    for temporary files."""

    why: Literal["library", "model", "scratch"]


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The engine has taken call `id` on."""

    id: int


class Delta(msgspec.Struct, tag=True, frozen=True):
    """More of call `id`'s reply: valid text, never half a character."""

    id: int
    text: str = ""
    reasoning: str = ""


class Ended(msgspec.Struct, tag=True, frozen=True):
    """Call `id` came to an end of its own."""

    id: int
    reason: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None


class Fault(msgspec.Struct, tag=True, frozen=True):
    """Call or count `id` failed: too long, not to be rendered by the model's template, or otherwise."""

    id: int
    kind: Literal["context", "refused", "engine"]
    tokens: int | None = None


class Counted(msgspec.Struct, tag=True, frozen=True):
    """The answer to Count."""

    id: int
    tokens: int


Reply = Ready | Failed | Opened | Delta | Ended | Fault | Counted

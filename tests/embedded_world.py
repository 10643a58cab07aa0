"""Calls of the embedded model, as its tests make them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from legato.providers.base import CallEnd, CallRequest, ChatMessage, Pausable
from legato.providers.embedded import EmbeddedProvider, supported
from legato.providers.weights import default_weights, fetch_weights, weights_present
from legato.settings_models import default_models_dir

EMBEDDED = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(supported() is not None, reason=f"{supported()}"),
]
"""Marks of a file whose tests run the model; it is marked `alone` too, for the engine takes all processors."""
LONG = "Write a long story about a lighthouse and its keeper."


def its_weights() -> Path:
    """Return the default weights, fetched where they are not there yet."""
    folder = default_models_dir(os.environ)
    if weights_present(folder):
        return default_weights(folder)
    return fetch_weights(folder, lambda done, total: None)


class Recorder:
    """A sink that keeps what came, and can wait for the first of it."""

    def __init__(self) -> None:
        self.deltas: list[str] = []
        self.opened_with: Pausable | None = None
        self.first = asyncio.Event()

    def opened(self, flow: Pausable | None) -> None:
        self.opened_with = flow

    def text(self, delta: str) -> None:
        self.deltas.append(delta)
        self.first.set()

    def reasoning(self, delta: str) -> None:
        raise AssertionError("this model does not reason")

    def __str__(self) -> str:
        return "".join(self.deltas)


def ask(text: str, *, max_tokens: int = 40, so_far: str | None = None) -> CallRequest:
    messages = [ChatMessage(role="user", content=text)]
    if so_far is not None:
        messages.append(ChatMessage(role="assistant", content=so_far))
    return CallRequest(
        run_id="run-1",
        messages=messages,
        temperature=0.0,
        max_tokens=max_tokens,
        continues=so_far is not None,
    )


async def reply_to(provider: EmbeddedProvider, request: CallRequest) -> tuple[str, CallEnd]:
    sink = Recorder()
    end = await provider.call(request, sink)
    return str(sink), end


async def child_pid(provider: EmbeddedProvider) -> int:
    return (await provider._process()).pid

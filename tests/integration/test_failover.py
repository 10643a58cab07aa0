"""Retries, continuation, failover and the fallback reply, from a post to its last event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from legato.app import open_node
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.settings import Settings
from tests.asgi import call
from tests.client import parse_event

BROKEN = {"provider": "scripted", "script": {"faults": {"fail": (503, 1)}}}
SOUND = {"provider": "scripted"}


async def ask(tmp_path: Path, message: str, *, models: dict[str, Any], **more: Any) -> tuple[str, str, dict[str, Any]]:
    """Post to a server of these models; return the text, and name and data of the last event."""
    settings = Settings(models=models, model=list(models), data_dir=tmp_path, retry_base_s=0.01, **more)
    async with open_node(settings) as node:
        answer = await call(create_api(node), "POST", "/chat/stream", {"message": message})
    blocks = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    events = [parse_event(block) for block in blocks if not block.startswith(b":")]
    text = "".join(event.data["content"] for event in events if event.name == "chunk")
    return text, events[-1].name, events[-1].data


async def test_the_next_model_answers_when_the_first_cannot(tmp_path: Path) -> None:
    """The reply is whole and says who gave it."""
    text, name, end = await ask(tmp_path, "script: seed=3 tokens=6", models={"a": BROKEN, "b": SOUND}, call_attempts=1)
    assert (text, name, end["finishReason"]) == (reply(3, 6), "complete", "stop")
    assert (end["model"], end["failover"]) == ("b", {"from": "a", "to": "b"})


async def test_a_failed_call_is_tried_again_before_the_next_model(tmp_path: Path) -> None:
    """What can pass is tried again with the same model."""
    text, _, end = await ask(tmp_path, "script: seed=3 tokens=6", models={"a": BROKEN, "b": SOUND}, call_attempts=2)
    assert (text, end["model"], end["failover"]) == (reply(3, 6), "a", None)


@pytest.mark.parametrize("prefill", [True, False])
async def test_a_reply_that_breaks_goes_on_from_what_was_shown(tmp_path: Path, prefill: bool) -> None:
    """A break in mid-stream is neither lost nor repeated, whether or not the model takes a prefix."""
    model = SOUND | {"script": {"prefill": prefill}}
    text, name, end = await ask(tmp_path, "script: seed=5 tokens=12 cut=7@1", models={"a": model})
    assert (text, name, end["finishReason"]) == (reply(5, 12), "complete", "stop")


async def test_the_fallback_reply_is_the_last_resort(tmp_path: Path) -> None:
    """Every model failed: the configured words are the reply, and it says so."""
    text, name, end = await ask(
        tmp_path,
        "script: tokens=6",
        models={"a": BROKEN, "b": BROKEN},
        call_attempts=1,
        fallback_reply="Later, please.",
    )
    assert (text, name, end["finishReason"]) == ("Later, please.", "complete", "fallback")


async def test_without_a_fallback_the_error_is_told(tmp_path: Path) -> None:
    """Every model failed: the client learns that it may try again."""
    text, name, end = await ask(tmp_path, "script: tokens=6", models={"a": BROKEN, "b": BROKEN}, call_attempts=1)
    assert (text, name) == ("", "error")
    assert (end["code"], end["retryable"], end["partial"]) == ("upstream_unavailable", True, False)

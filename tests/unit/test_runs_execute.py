"""A run always ends, whenever it is interrupted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from legato.core.run_errors import InternalError
from legato.http.api import create_api
from legato.runs import start as starting
from legato.runs.execute import begin
from legato.runs.live import LiveRun
from legato.runs.node import Node
from tests.asgi import call

POST = {"message": "script: tokens=3", "conversationId": "c"}


@pytest.mark.parametrize(("how", "event"), [("stop", b"event: complete\n"), ("fail", b"event: error\n")])
async def test_a_run_that_is_interrupted_before_its_first_step_ends(
    node: Node, monkeypatch: pytest.MonkeyPatch, how: str, event: bytes
) -> None:
    """A stop may come between the moment a reply is begun and the moment its task first runs."""

    def begin_and_interrupt(node: Node, run: LiveRun, **more: Any) -> None:
        begin(node, run, **more)
        if how == "stop":
            run.stop("user")
        else:
            run.fail(InternalError("x"))

    monkeypatch.setattr(starting, "begin", begin_and_interrupt)
    async with asyncio.timeout(5):
        answer = await call(create_api(node), "POST", "/chat/stream", POST)
    assert answer.body.count(event) == 1
    assert b"event: chunk" not in answer.body
    assert not node.live
    monkeypatch.undo()
    after = await call(create_api(node), "POST", "/chat/stream", POST)
    assert b'"messageCount":4' in after.body

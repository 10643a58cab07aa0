"""What a client is told where no model can answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from legato.app import open_node
from legato.core.text import utf16_length
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.settings import Settings
from tests.asgi import call
from tests.client import parse_event

SCRIPTED = {"provider": "scripted"}


@asynccontextmanager
async def serving(folder: Path, *models: str) -> AsyncIterator[ASGIApp]:
    """A server without weights; `scripted` and `other` answer where they are named."""
    tables = {name: SCRIPTED for name in models if name != "embedded"}
    settings = Settings(
        data_dir=folder, models_dir=folder / "none", model=list(models), models=tables, durability="process"
    )
    async with open_node(settings) as node:
        yield create_api(node)


async def ask(app: ASGIApp, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Post a message; return name and data of the last event."""
    answer = await call(app, "POST", "/chat/stream", {"message": "script: seed=3 tokens=6"} | fields)
    assert answer.status == 200
    last = parse_event(answer.body.removesuffix(b"\n\n").split(b"\n\n")[-1])
    return last.name, last.data


async def test_weights_that_were_never_fetched_are_no_model(tmp_path: Path) -> None:
    """The reply fails at once with a code of its own, and says what to set; no path; the message is kept."""
    async with serving(tmp_path, "embedded") as app:
        name, data = await ask(app, conversationId="c")
        assert (name, data["code"], data["retryable"]) == ("error", "no_model", False)
        assert "`legato models fetch`" in data["error"]
        assert "OPENAI_API_KEY" in data["error"]
        assert str(tmp_path) not in data["error"]
        messages = (await call(app, "GET", "/conversations/c/messages")).json["messages"]
        assert [(each["role"], each["status"]) for each in messages] == [("user", "complete"), ("assistant", "failed")]


async def test_a_model_behind_one_without_weights_answers(tmp_path: Path) -> None:
    """As for any other model that cannot."""
    async with serving(tmp_path, "embedded", "scripted") as app:
        name, data = await ask(app)
    assert (name, data["responseLength"], data["model"]) == ("complete", utf16_length(reply(3, 6)), "scripted")
    assert data["failover"] == {"from": "embedded", "to": "scripted"}


async def test_a_conversation_whose_model_is_gone_has_none(tmp_path: Path) -> None:
    """Nobody refused anything: the error names the model and those that there are."""
    async with serving(tmp_path, "scripted", "other") as app:
        await call(app, "POST", "/conversations", {"id": "c", "model": "other"})
    async with serving(tmp_path, "scripted") as app:
        name, data = await ask(app, conversationId="c")
    assert (name, data["code"], data["retryable"]) == ("error", "no_model", False)
    assert "'other' is not configured; configured are scripted" in data["error"]

"""Which paths a bot's steps may take: none that the server answers itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Form, UploadFile

from legato import Context, Legato
from legato.core.errors import ConfigurationError
from legato.http.api import create_api
from legato.runs.node import Node


async def answer(ctx: Context) -> str:
    """Says something."""
    return "mine"


@pytest.mark.parametrize(
    ("method", "path", "owner"),
    [
        ("GET", "/", "GET /"),
        ("GET", "/openapi.json", "GET /openapi.json"),
        ("GET", "/chat/stream/mine", "GET /chat/stream/{run_id}"),
        ("POST", "/chat/stream/{run}/stop", "POST /chat/stream/{run_id}/stop"),
        ("GET", "/conversations", "GET /conversations"),
        ("PATCH", "/conversations/mine", "PATCH /conversations/{conversation_id}"),
        ("GET", "/conversations/{any}/messages", "GET /conversations/{conversation_id}/messages"),
        ("PUT", "/messages/{id}/feedback", "PUT /messages/{message_id}/feedback"),
        ("GET", "/runs/{id}", "GET /runs/{run_id}"),
        ("DELETE", "/runs/{id}", "GET /runs/{run_id}"),
        ("GET", "/runs/{id}/", "GET /runs/{run_id}"),
        ("POST", "/", "GET /"),
    ],
)
async def test_a_path_of_the_servers_is_refused(method: str, path: str, owner: str, node: Node) -> None:
    """A step there would never be asked, or would hide what clients count on."""
    app = Legato()
    app.http(method, path)(answer)
    with pytest.raises(ConfigurationError) as refused:
        create_api(node, app.registry())
    assert refused.value.message == f"step answer: {method} {path} is Legato's own ({owner}): take another path"


async def search(words: list[str], limit: int = 3) -> list[str]:
    """Finds something."""
    return words[:limit]


async def upload(words: Annotated[list[str], Form()], file: UploadFile | None = None) -> list[str]:
    """Takes something."""
    return words


@pytest.mark.parametrize(
    ("method", "function", "said"),
    [
        ("POST", search, None),
        ("GET", search, "step search: words would be the body of a GET, which has none: for the query write `words: "),
        ("POST", upload, "step upload: words, file would come in a form, and bodies are JSON alone"),
    ],
)
async def test_what_no_request_can_bring_is_refused(
    method: str, function: Callable[..., Any], said: str | None, node: Node
) -> None:
    """FastAPI takes a list for a body: what callers write into the query would never be seen."""
    app = Legato()
    app.http(method, "/found")(function)
    if said is None:
        create_api(node, app.registry())
        return
    with pytest.raises(ConfigurationError) as refused:
        create_api(node, app.registry())
    assert refused.value.message.startswith(said)


@pytest.mark.parametrize(("method", "path"), [("GET", "/chat"), ("GET", "/chat/streams/x"), ("GET", "/runs")])
async def test_a_path_beside_them_is_free(method: str, path: str, node: Node) -> None:
    """Another word is enough."""
    app = Legato()
    app.http(method, path)(answer)
    create_api(node, app.registry())

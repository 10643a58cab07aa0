"""GET /models: what may be named as `model`."""

from __future__ import annotations

from legato.http.api import create_api
from tests.asgi import call
from tests.conftest import OpenNode
from tests.guarded import Guarded


async def test_models_are_listed_as_they_are_asked(open_test_node: OpenNode) -> None:
    """The default first, those to fail over to behind it, then the rest by name; unknown windows are null."""
    async with open_test_node(model=["tiny", "scripted"]) as node:
        node.models.find("other").context_window = None
        answer = await call(create_api(node), "GET", "/models")
    assert answer.status == 200
    assert answer.json == {
        "models": [
            {"id": "tiny", "provider": "scripted", "default": True, "contextWindow": 600},
            {"id": "scripted", "provider": "scripted", "default": False, "contextWindow": 100_000},
            {"id": "other", "provider": "scripted", "default": False, "contextWindow": None},
        ],
        "default": "tiny",
    }


def test_models_are_for_those_with_a_key(guarded: Guarded) -> None:
    """As everything is."""
    assert guarded.client(None).ask("GET", "/models").status == 401
    assert guarded.client("ben").ask("GET", "/models").status == 200

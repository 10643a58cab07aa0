"""A database that is away for a moment: a reply that is about to be asked for waits, and a server says why it ends."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from legato.core.errors import ConfigurationError, StorageUnavailable
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.runs import context
from legato.steps.engine_database import unopened
from legato.storage.messages import find_path
from tests.asgi import call
from tests.conftest import OpenNode

QUEUE = "postgresql://ann:secret@db.example/legato"


@pytest.mark.parametrize("times", [1, 3])
async def test_a_context_is_read_when_the_database_is_back(
    open_test_node: OpenNode, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The turn is answered as if nothing had been, and its model is called once."""
    monkeypatch.setattr(context, "AGAIN_S", 0.01)
    async with open_test_node() as node:
        api = create_api(node)
        await call(api, "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": "c"})
        left = times

        def away(*arguments: Any) -> Any:
            nonlocal left
            if left:
                left -= 1
                raise StorageUnavailable("the database cannot be read at present: try again")
            return find_path(*arguments)

        monkeypatch.setattr(context, "find_path", away)
        answer = await call(api, "POST", "/chat/stream", {"message": "script: seed=3 tokens=9", "conversationId": "c"})
        assert left == 0
        assert b"event: complete" in answer.body
        assert b"event: error" not in answer.body
        messages = (await call(api, "GET", "/conversations/c/messages")).json["messages"]
        assert messages[-1]["parts"] == [{"type": "text", "text": reply(3, 9)}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.AdminShutdown("terminating connection due to administrator command"), StorageUnavailable),
        (psycopg.errors.CannotConnectNow("the database system is starting up"), StorageUnavailable),
        (psycopg.OperationalError("server closed the connection unexpectedly"), StorageUnavailable),
        (psycopg.errors.InsufficientPrivilege("permission denied for database"), ConfigurationError),
        (psycopg.errors.UndefinedTable("there is no such table"), ConfigurationError),
        (ValueError("odd"), ConfigurationError),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_a_queue_that_cannot_be_reached_is_no_mistake_of_the_settings(error: Exception, kind: type[Exception]) -> None:
    """Whoever starts servers is to try again, and for a mistake not; the password is in neither."""
    wrapped = sa.exc.OperationalError("SELECT 1", None, error) if isinstance(error, psycopg.Error) else error
    found = unopened(QUEUE, wrapped)
    assert type(found) is kind
    assert str(error) in found.message
    assert "secret" not in found.message

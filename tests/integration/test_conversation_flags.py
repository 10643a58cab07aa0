"""Archived, pinned and temporary conversations, and which of them a list has."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from legato.core.principal import Principal
from legato.http.api import create_api
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from tests.asgi import call
from tests.client import Client
from tests.statements import execute

LOCAL = Principal(id="local", role="admin")


async def make(node: Node) -> None:
    """One conversation of each kind, in this order."""
    conversations = Conversations(node, LOCAL)
    for name in ("plain", "pinned", "archived", "both", "temporary"):
        await conversations.create(name, temporary=name == "temporary", pinned=name in ("pinned", "both"))
        if name in ("archived", "both"):
            await conversations.change(name, archived=True)


LISTS = [
    ("", ["pinned", "plain"]),
    ("?archived=false", ["pinned", "plain"]),
    ("?archived=true", ["both", "archived"]),
    ("?pinned=true", ["pinned"]),
    ("?pinned=false", ["plain"]),
    ("?archived=true&pinned=true", ["both"]),
    ("?archived=true&pinned=false", ["archived"]),
]


@pytest.mark.parametrize(("query", "names"), LISTS, ids=[query or "default" for query, _ in LISTS])
async def test_a_list_has_the_kind_that_was_asked_for(node: Node, query: str, names: list[str]) -> None:
    """Those that are not archived by default; temporary ones never."""
    await make(node)
    api = create_api(node)
    whole = (await call(api, "GET", f"/conversations{query}")).json["conversations"]
    assert sorted(each["id"] for each in whole) == sorted(names)
    seen, cursor = [], ""
    while cursor is not None:
        more = f"{query}{'&' if query else '?'}limit=1" + (f"&cursor={cursor}" if cursor else "")
        page = (await call(api, "GET", f"/conversations{more}")).json
        seen += page["conversations"]
        cursor = page["nextCursor"]
    assert seen == whole


@pytest.mark.parametrize("value", [True, False])
def test_a_conversation_is_archived_and_taken_back(client: Client, value: bool) -> None:
    """By a change, which leaves the rest as it is; a turn does not change it."""
    name = f"c-{uuid.uuid4().hex}"
    before: dict[str, Any] = client.ask("POST", "/conversations", {"id": name, "pinned": True}).json
    client.ask("PATCH", f"/conversations/{name}", {"archived": not value})
    answer = client.ask("PATCH", f"/conversations/{name}", {"archived": value})
    assert (answer.status, answer.json) == (200, before | {"archived": value})
    client.say("script: tokens=1", conversationId=name)
    assert client.get(f"/conversations/{name}")["archived"] is value


def test_null_takes_a_conversation_out_of_the_archive(client: Client) -> None:
    """As null goes back to the default everywhere."""
    name = f"c-{uuid.uuid4().hex}"
    client.ask("POST", "/conversations", {"id": name})
    assert client.ask("PATCH", f"/conversations/{name}", {"archived": True}).json["archived"] is True
    assert client.ask("PATCH", f"/conversations/{name}", {"archived": None}).json["archived"] is False


def test_a_temporary_conversation_works_and_stays_temporary(client: Client) -> None:
    """By its id it is as any other; nothing can make it another kind."""
    name = f"c-{uuid.uuid4().hex}"
    assert client.ask("POST", "/conversations", {"id": name, "temporary": True}).json["temporary"] is True
    client.say("script: tokens=1", conversationId=name)
    assert len(client.get(f"/conversations/{name}/messages")["messages"]) == 2
    assert client.ask("PATCH", f"/conversations/{name}", {"temporary": False}).status == 422
    assert client.ask("DELETE", f"/conversations/{name}").status == 204


BAD = [
    ("POST", "/conversations", {"temporary": "yes"}, "temporary"),
    ("POST", "/conversations", {"temporary": 1}, "temporary"),
    ("POST", "/conversations", {"archived": True}, "archived"),
    ("PATCH", "/conversations/{name}", {"archived": "true"}, "archived"),
    ("GET", "/conversations?archived=maybe", None, "archived"),
    ("GET", "/conversations?pinned=2", None, "pinned"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), BAD)
def test_what_is_no_flag_is_refused(client: Client, method: str, path: str, body: object, field: str) -> None:
    """With the field's name."""
    name = f"c-{uuid.uuid4().hex}"
    client.ask("POST", "/conversations", {"id": name})
    answer = client.ask(method, path.format(name=name), body)
    assert answer.status == 422
    assert [each["field"] for each in answer.json["errors"]] == [field]


async def test_cleanup_takes_archived_and_temporary_ones_too(open_test_node: Any) -> None:
    """Both age as any other; a pinned one is kept."""
    async with open_test_node(conversation_idle_h=1) as node:
        await make(node)
        await node.committer.write(lambda tx: execute(tx, "UPDATE conversation SET last_message_at_ms = 1"))
        assert await Conversations(node, LOCAL).expire() == 3
        assert set(await Conversations(node, LOCAL).ids()) == {"pinned", "both"}

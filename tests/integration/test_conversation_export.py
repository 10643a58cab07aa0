"""Conversations out of the server as documents, and into it: nothing is lost, and nothing wrong comes in."""

from __future__ import annotations

import asyncio
import copy
import json
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from starlette.types import ASGIApp

from legato.core.principal import Principal
from legato.http import transfer
from legato.http.api import create_api
from legato.runs.conversations import Conversations
from legato.runs.imports import ImportedConversation
from legato.runs.node import Node
from tests.asgi import AsgiAnswer, call
from tests.conftest import OpenNode
from tests.guarded import Guarded
from tests.statements import query

LOCAL = Principal(id="local", role="admin")
Document = dict[str, Any]


def document(*messages: Document, **conversation: Any) -> Document:
    return {
        "format": "legato.conversation",
        "version": 1,
        "conversation": conversation,
        "messages": list(messages),
    }


def said(number: int, parent: int | None, content: str = "x", **more: Any) -> Document:
    """A message: odd ones are the user's."""
    role = "user" if number % 2 else "assistant"
    parent_id = None if parent is None else str(parent)
    return {"id": str(number), "parentId": parent_id, "role": role, "content": content} | more


async def imported(api: ASGIApp, given: object) -> AsgiAnswer:
    return await call(api, "POST", "/conversations/import", given)


async def exported(api: ASGIApp, name: str) -> Document:
    answer = await call(api, "GET", f"/conversations/{name}/export")
    assert answer.status == 200
    found: Document = answer.json
    return found


def shape(given: Document) -> list[Any]:
    """What an export says, without what an import makes anew: ids become places."""
    place = {each["id"]: number for number, each in enumerate(given["messages"])}
    own = ("id", "runId", "parentId", "responseTimeMs", "firstTokenMs", "finishReason", "error")
    messages = [
        {name: value for name, value in each.items() if name not in own} | {"parent": place.get(each["parentId"])}
        for each in given["messages"]
    ]
    kept: tuple[str, ...] = (
        "title",
        "titleSource",
        "systemPrompt",
        "model",
        "temperature",
        "maxTokens",
        "metadata",
        "messageCount",
    )
    kept += ("createdAt", "retention", "pinned", "archived")
    conversation = {name: given["conversation"][name] for name in kept}
    return [messages, conversation, place.get(given["conversation"]["leafId"])]


async def talk(api: ASGIApp, name: str) -> None:
    """A conversation with a fork, a second reply, feedback and settings."""
    settings = {"id": name, "systemPrompt": "Sei nett.", "temperature": 0.5, "metadata": {"a": [1]}, "pinned": True}
    await call(api, "POST", "/conversations", settings)
    for number in range(3):
        await call(
            api, "POST", "/chat/stream", {"message": f"Frage {number}: script: tokens=3", "conversationId": name}
        )
    messages = (await call(api, "GET", f"/conversations/{name}/messages")).json["messages"]
    await call(api, "PUT", f"/messages/{messages[1]['id']}/feedback", {"thumb": "up", "reason": "gut"})
    await call(api, "POST", f"/messages/{messages[3]['id']}/regenerate", {})
    edited = {"message": "Anders: script: tokens=2", "conversationId": name, "parentId": messages[1]["id"]}
    await call(api, "POST", "/chat/stream", edited | {"metadata": {"edited": True}})
    await call(
        api, "PATCH", f"/conversations/{name}", {"leafId": messages[5]["id"], "title": "Übung", "archived": True}
    )


async def test_what_comes_out_goes_in_again(node: Node) -> None:
    """All branches, texts, times, feedback, usage and settings; only ids are new, and no run is made."""
    api = create_api(node)
    await talk(api, "c")
    first = await exported(api, "c")
    assert (first["format"], first["version"]) == ("legato.conversation", 1)
    assert len(first["messages"]) == 9
    answer = await imported(api, first)
    assert answer.status == 201
    name = answer.json["id"]
    second = await exported(api, name)
    assert shape(second) == shape(first)
    assert {each["id"] for each in first["messages"]}.isdisjoint({each["id"] for each in second["messages"]})
    assert all(each["runId"] is None for each in second["messages"])
    sql = "SELECT count(*) FROM run WHERE conversation_key = (SELECT key FROM conversation WHERE id = ?)"
    ((runs,),) = await node.database.read(lambda tx: query(tx, sql, name))
    assert runs == 0


async def test_a_conversation_goes_on_behind_its_import(node: Node) -> None:
    """Turns, siblings, other branches, deletes: as if it had been said here."""
    api = create_api(node)
    await talk(api, "c")
    name = (await imported(api, await exported(api, "c"))).json["id"]
    old = (await call(api, "GET", f"/conversations/{name}/messages")).json["messages"]
    assert [len(each["siblings"]) for each in old] == [1, 1, 2, 2, 1, 1]
    answer = await call(api, "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": name})
    assert b"event: complete" in answer.body
    assert b'"messageCount":11' in answer.body
    new = (await call(api, "GET", f"/conversations/{name}/messages")).json["messages"]
    assert new[:6] == old
    assert len(new) == 8
    other = next(each for each in old[2]["siblings"] if each != old[2]["id"])
    reply = next(each for each in (await exported(api, name))["messages"] if each["parentId"] == other)
    await call(api, "PATCH", f"/conversations/{name}", {"leafId": reply["id"]})
    again = (await call(api, "POST", f"/messages/{old[3]['id']}/regenerate", {})).body
    assert b"event: complete" in again
    assert (await call(api, "DELETE", f"/conversations/{name}")).status == 204


async def test_an_import_is_new_whatever_its_age(open_test_node: OpenNode) -> None:
    """Its messages keep their times, those to come become now; the next cleanup leaves it alone."""
    async with open_test_node(conversation_idle_h=1) as node:
        api = create_api(node)
        late = 253_402_300_799_999
        given = document(said(1, None, timestamp=5), said(2, 1, timestamp=late), createdAt=4, title="alt")
        made = (await imported(api, given)).json
        assert made["createdAt"] == 4
        assert abs(made["lastMessageAt"] - node.clock.now_ms()) < 60_000
        times = [each["timestamp"] for each in (await exported(api, made["id"]))["messages"]]
        assert times[0] == 5
        assert times[1] <= node.clock.now_ms()
        assert await Conversations(node, LOCAL).expire() == 0


async def test_a_thousand_messages_go_out_and_in(node: Node) -> None:
    """In pieces; every one once, oldest first."""
    api = create_api(node)
    given = document(*(said(number, number - 1 if number > 1 else None, f"wort {number}") for number in range(1, 1001)))
    made = (await imported(api, given)).json
    assert made["messageCount"] == 1000
    answer = await call(api, "GET", f"/conversations/{made['id']}/export")
    assert len([piece for piece in answer.pieces if piece]) > 2
    assert [each["content"] for each in answer.json["messages"]] == [f"wort {number}" for number in range(1, 1001)]
    read = await call(api, "GET", f"/conversations/{made['id']}/export?as=markdown")
    assert read.body.count(b"## You") == 500
    page = (await call(api, "GET", f"/conversations/{made['id']}/messages?cursor=998")).json
    assert [each["content"] for each in page["messages"]] == ["wort 999", "wort 1000"]


async def test_markdown_is_the_active_branch(node: Node) -> None:
    """As it reads: title, who spoke, what was said; tool calls by name, nothing of what a model thought."""
    api = create_api(node)
    parts = [
        {"type": "reasoning", "text": "geheim"},
        {"type": "tool-call", "callId": "1", "name": "wetter", "arguments": "{}"},
        {"type": "tool-result", "callId": "1", "name": "wetter", "output": "20", "isError": False, "elapsedMs": 3},
        {"type": "text", "text": "Es sind **20** Grad."},
    ]
    given = document(
        said(1, None, "Wie warm?"),
        said(2, 1, "nichts", model="m-1"),
        said(4, 1, parts=parts, model="m-2"),
        said(3, 4, "Danke"),
        said(6, 3, "", status="failed"),
        title="Das\nWetter",
    )
    name = (await imported(api, given)).json["id"]
    answer = await call(api, "GET", f"/conversations/{name}/export?as=markdown")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''Das%0AWetter.md"
    assert answer.body.decode() == (
        "# Das Wetter\n\n## You\n\nWie warm?\n\n## m-2\n\n*Tool: wetter*\n\nEs sind **20** Grad.\n\n"
        "## You\n\nDanke\n\n## Assistant\n\n*(failed)*\n\n"
    )
    assert (await exported(api, name))["messages"][2]["parts"] == parts


async def test_a_reply_that_is_being_made_goes_out_as_far_as_it_goes(node: Node) -> None:
    """And comes in as stopped."""
    api = create_api(node)
    task = asyncio.create_task(
        call(api, "POST", "/chat/stream", {"message": "script: tokens=9 stall=3", "conversationId": "c"})
    )
    while not node.live or len(next(iter(node.live.values())).tail.log) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first = await exported(api, "c")
    assert first["messages"][1]["status"] == "running"
    assert first["messages"][1]["content"]
    name = (await imported(api, first)).json["id"]
    copied = (await exported(api, name))["messages"][1]
    assert (copied["status"], copied["content"]) == ("stopped", first["messages"][1]["content"])
    await call(api, "POST", f"/chat/stream/{next(iter(node.live))}/stop")
    await task


async def test_empty_ones_and_a_foreign_model(node: Node) -> None:
    """No message at all; a model that is not configured here is left out; no title: the first words."""
    api = create_api(node)
    await call(api, "POST", "/conversations", {"id": "empty"})
    name = (await imported(api, await exported(api, "empty"))).json["id"]
    assert (await exported(api, name))["messages"] == []
    made = (await imported(api, document(said(1, None, "Guten Tag"), said(2, 1), model="gone"))).json
    assert (made["model"], made["title"], made["titleSource"]) == (None, "Guten Tag", "words")
    assert (await imported(api, document(model="other"))).json["model"] == "other"


GOOD = document(said(1, None), said(2, 1), said(3, 2), said(4, 3), title="T")
BAD: list[tuple[str, list[Any], object, str]] = [
    ("another format", ["format"], "chatgpt", "format"),
    ("another version", ["version"], 2, "version"),
    ("an unknown field", ["extra"], 1, "extra"),
    ("an unknown field of a message", ["messages", 0, "extra"], 1, "messages.0.extra"),
    ("no messages", ["messages"], None, "messages"),
    ("no object", ["messages", 1], "x", "messages.1"),
    ("an id twice", ["messages", 2, "id"], "1", "messages.2.id"),
    ("an id that is none", ["messages", 0, "id"], "", "messages.0.id"),
    ("a parent that is unknown", ["messages", 2, "parentId"], "zz", "messages.2.parentId"),
    ("a parent that comes later", ["messages", 0, "parentId"], "2", "messages.0.parentId"),
    ("its own parent", ["messages", 1, "parentId"], "2", "messages.1.parentId"),
    ("a reply to a reply", ["messages", 3, "parentId"], "2", "messages.3.parentId"),
    ("a reply to nothing", ["messages", 1, "parentId"], None, "messages.1.parentId"),
    ("a question to a question", ["messages", 2, "parentId"], "1", "messages.2.parentId"),
    ("a role that is none", ["messages", 0, "role"], "system", "messages.0.role"),
    ("a blank question", ["messages", 0, "content"], "  ", "messages.0"),
    ("a question that failed", ["messages", 0, "status"], "failed", "messages.0.status"),
    ("feedback on a question", ["messages", 0, "feedback"], {"thumb": "up", "at": 1}, "messages.0.feedback"),
    ("a NUL", ["messages", 1, "content"], "a\x00b", "messages.1.content"),
    ("a part that is none", ["messages", 1, "parts"], [{"type": "image"}], "messages.1.parts.0"),
    ("a part too much", ["messages", 1, "parts"], [{"type": "text", "text": "x"}] * 1001, "messages.1.parts"),
    (
        "a result without its call",
        ["messages", 1, "parts"],
        [{"type": "tool-result", "callId": "1", "name": "n", "output": "", "isError": False, "elapsedMs": 1}],
        "messages.1",
    ),
    (
        "two calls with one id",
        ["messages", 1, "parts"],
        [{"type": "tool-call", "callId": "1", "name": "n", "arguments": "{}"}] * 2,
        "messages.1",
    ),
    (
        "a tool call of the user",
        ["messages", 0, "parts"],
        [{"type": "text", "text": "x"}, {"type": "tool-call", "callId": "1", "name": "n", "arguments": "{}"}],
        "messages.0",
    ),
    ("a time before all times", ["messages", 1, "timestamp"], -1, "messages.1.timestamp"),
    ("a time after all times", ["messages", 1, "timestamp"], 2**60, "messages.1.timestamp"),
    ("tokens less than none", ["messages", 1, "usage"], {"inputTokens": -1}, "messages.1.usage.inputTokens"),
    ("a leaf that is unknown", ["conversation", "leafId"], "zz", "conversation.leafId"),
    ("a leaf that is a question", ["conversation", "leafId"], "3", "conversation.leafId"),
    ("a title too long", ["conversation", "title"], "x" * 501, "conversation.title"),
    (
        "metadata too deep",
        ["conversation", "metadata"],
        json.loads('{"a":' * 40 + "1" + "}" * 40),
        "conversation.metadata",
    ),
    ("a temperature of no sense", ["conversation", "temperature"], 3, "conversation.temperature"),
]


@pytest.mark.parametrize(("path", "value", "field"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
async def test_what_is_wrong_is_named_and_nothing_is_kept(
    node: Node, path: list[Any], value: object, field: str
) -> None:
    """Each fault by its field; not even the conversation is made."""
    given: Any = copy.deepcopy(GOOD)
    place = given
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    answer = await imported(create_api(node), given)
    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    named = [each["field"] for each in answer.json["errors"]]
    assert any(each == field or each.startswith(f"{field}.") for each in named), named
    await nothing_is_kept(node)


async def nothing_is_kept(node: Node) -> None:
    with closing(sqlite3.connect(node.settings.database_path)) as database:
        assert database.execute("SELECT count(*) FROM conversation").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM message").fetchone() == (0,)


async def test_questions_alone_are_no_conversation(node: Node) -> None:
    """A branch ends in a reply."""
    answer = await imported(create_api(node), document(said(1, None)))
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "messages"
    await nothing_is_kept(node)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff", {}, 400),
        (b"[]", {}, 422),
        (b"[" * 100_000, {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 415),
    ],
)
async def test_what_is_no_document_is_refused(node: Node, body: bytes, headers: dict[str, str], status: int) -> None:
    """As every other body is."""
    answer = await call(create_api(node), "POST", "/conversations/import", body, headers)
    assert answer.status == status


async def test_a_document_has_its_bounds(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the usual body, so that long conversations fit; past the bound 413, past the count 422."""
    api = create_api(node)
    long = document(said(1, None, "x" * 900_000), said(2, 1, "y" * 900_000))
    assert (await imported(api, long)).status == 201
    monkeypatch.setattr(transfer, "MAX_IMPORT_BYTES", 1_500_000)
    answer = await imported(api, long)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    many = document(*({"id": str(number), "role": "user", "content": "x"} for number in range(10_001)))
    answer = await imported(api, many)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "messages")
    faults = document(*(said(2, None) for _ in range(500)))
    assert len((await imported(api, faults)).json["errors"]) == 20


async def test_a_document_is_bounded_in_all_its_parts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any is looked at: sixteen megabytes of tiny ones would take gigabytes."""
    monkeypatch.setattr("legato.http.transfer_bodies.MAX_ALL_PARTS", 4)
    api = create_api(node)
    for count, status in ((2, 201), (3, 422)):
        parts = [{"type": "text", "text": "x"}] * count
        messages: list[dict[str, Any]] = [
            {"id": "1", "role": "user", "parts": parts},
            {"id": "2", "role": "assistant", "parentId": "1", "parts": [{"type": "text", "text": "y"}] * 2},
        ]
        document = {"format": "legato.conversation", "version": 1, "conversation": {}, "messages": messages}
        answer = await call(api, "POST", "/conversations/import", document)
        assert answer.status == status
    assert "5 parts" in answer.json["errors"][0]["message"]


async def test_documents_are_read_one_after_the_other(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come at once: each takes many times its size while it is read."""
    at_once, most = 0, 0

    def counting(data: bytes, kind: str) -> ImportedConversation:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.02)
        at_once -= 1
        return read(data, kind)

    read = transfer._read
    monkeypatch.setattr(transfer, "_read", counting)
    api = create_api(node)
    document = {"format": "legato.conversation", "version": 1, "conversation": {}, "messages": []}
    answers = await asyncio.gather(*[call(api, "POST", "/conversations/import", document) for _ in range(4)])
    assert ([answer.status for answer in answers], most) == ([201] * 4, 1)


async def test_what_an_export_is_asked_for_badly(node: Node) -> None:
    """A form that is none; a conversation that is none."""
    api = create_api(node)
    await call(api, "POST", "/conversations", {"id": "c"})
    assert (await call(api, "GET", "/conversations/c/export?as=pdf")).status == 422
    assert (await call(api, "GET", "/conversations/none/export")).status == 404
    assert (await call(api, "GET", "/conversations/none/export?as=markdown")).status == 404


def test_an_import_belongs_to_whoever_brings_it(guarded: Guarded) -> None:
    """And to nobody else; without a key nothing is taken."""
    name = guarded.client("ann").ask("POST", "/conversations/import", GOOD).json["id"]
    assert guarded.client("ann").ask("GET", f"/conversations/{name}").status == 200
    assert guarded.client("ben").ask("GET", f"/conversations/{name}").status == 404
    assert guarded.client("ben").ask("GET", f"/conversations/{name}/export").status == 404
    assert guarded.client(None).ask("POST", "/conversations/import", GOOD).status == 401

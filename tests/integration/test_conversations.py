"""Conversations over HTTP: making, listing, reading, changing, deleting them."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest

from legato.providers.scripted import reply
from tests.client import Client, text_of


def new_id() -> str:
    return f"c-{uuid.uuid4().hex}"


def pages(client: Client, path: str, name: str, limit: int) -> list[list[dict[str, Any]]]:
    """All pages of a list."""
    found = []
    query = f"?limit={limit}"
    while True:
        page = client.get(path + query)
        found.append(page[name])
        if page["nextCursor"] is None:
            return found
        query = f"?limit={limit}&cursor={page['nextCursor']}"


def test_a_conversation_is_made_with_its_settings(client: Client) -> None:
    """Every field that is given comes back; those that are not are null."""
    name = new_id()
    body = {
        "id": name,
        "title": "Ein Titel",
        "systemPrompt": "Be kind.",
        "model": "other",
        "temperature": 0.2,
        "maxTokens": 7,
        "metadata": {"a": [1, {"b": None}], "data: ": "\u0000"},
    }
    answer = client.ask("POST", "/conversations", body)
    assert answer.status == 201
    made = answer.json
    assert body.items() <= made.items()
    assert made | {"createdAt": 0, "lastMessageAt": 0} == body | {
        "titleSource": "user",
        "messageCount": 0,
        "leafId": None,
        "activeRunId": None,
        "createdAt": 0,
        "lastMessageAt": 0,
        "retention": "default",
        "pinned": False,
        "archived": False,
        "temporary": False,
    }
    assert client.get(f"/conversations/{name}") == made


@pytest.mark.parametrize("body", [None, {}, b""])
def test_a_conversation_needs_no_body(client: Client, body: object) -> None:
    """The server makes the id; two are two."""
    one, two = (client.ask("POST", "/conversations", body).json for _ in range(2))
    assert one["id"] != two["id"]
    assert (one["title"], one["titleSource"], one["metadata"]) == ("", "words", None)


def test_an_id_is_taken_once(client: Client) -> None:
    """A second conversation with the id is 409, and the first stays as it is."""
    name = new_id()
    first = client.ask("POST", "/conversations", {"id": name, "title": "first"}).json
    second = client.ask("POST", "/conversations", {"id": name, "title": "second"})
    assert (second.status, second.code) == (409, "conflict")
    assert client.get(f"/conversations/{name}") == first


@pytest.mark.parametrize("name", ["a/b", "a/messages", "ü ?#&", "%2F", "100%", "..", "🎵"])
def test_any_id_has_its_address(client: Client, name: str) -> None:
    """Whatever an id holds, percent-encoded it is a part of the path; a slash in it ends no part."""
    name = f"{name}-{uuid.uuid4().hex}/messages" if "/" in name else f"{name} {uuid.uuid4().hex}"
    client.say("script: tokens=1", conversationId=name)
    path = f"/conversations/{quote(name, safe='')}"
    assert client.get(path)["id"] == name
    assert len(client.get(f"{path}/messages")["messages"]) == 2
    assert client.ask("PATCH", path, {"title": "x"}).json["id"] == name
    assert client.ask("DELETE", path).status == 204
    assert client.ask("GET", path).status == 404


def test_a_title_is_the_first_words_at_once(client: Client) -> None:
    """While the first reply is still being made; later messages change nothing."""
    name = new_id()
    stream = client.post("Hello   there,\nold friend! script: tokens=2 stall=1", conversationId=name)
    stream.take(1)
    found = client.get(f"/conversations/{name}")
    assert (found["title"], found["titleSource"]) == ("Hello there, old friend! script: tokens=2 stall=1", "words")
    assert found["activeRunId"] == stream.run_id
    client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    stream.rest()
    client.say("Another. script: tokens=1", conversationId=name)
    after = client.get(f"/conversations/{name}")
    assert (after["title"], after["activeRunId"]) == (found["title"], None)


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("word " * 40, "word word word word word word word word word word word…"),
        ("x" * 300, "x" * 59 + "…"),
        ("日本" * 100, "日本" * 29 + "日…"),
        ("\n\n  padded \t words \n", "padded words"),
    ],
)
def test_a_long_title_is_cut_at_a_word(client: Client, message: str, title: str) -> None:
    """At most 60 characters, whole words where there are some."""
    name = new_id()
    client.say(message, conversationId=name, maxTokens=1)
    assert client.get(f"/conversations/{name}")["title"] == title
    assert len(title) <= 60


def test_an_empty_conversation_is_named_by_its_first_message(client: Client) -> None:
    """One that was made without a title gets it from the first words; a title of the user's stays."""
    bare, named = new_id(), new_id()
    client.ask("POST", "/conversations", {"id": bare})
    client.ask("POST", "/conversations", {"id": named, "title": "Mine"})
    for name in (bare, named):
        client.say("Good day", conversationId=name)
    assert client.get(f"/conversations/{bare}")["title"] == "Good day"
    assert client.get(f"/conversations/{named}")["title"] == "Mine"


def test_a_change_touches_what_it_names(client: Client) -> None:
    """Absent fields stay, null goes back to the default."""
    name = new_id()
    client.say("First words", conversationId=name)
    before = client.get(f"/conversations/{name}")
    path = f"/conversations/{name}"
    assert client.ask("PATCH", path, {}).json == before
    changed = client.ask("PATCH", path, {"title": "T", "temperature": 1, "metadata": {"k": 1}}).json
    assert changed == before | {"title": "T", "titleSource": "user", "temperature": 1, "metadata": {"k": 1}}
    again = client.ask("PATCH", path, {"temperature": None, "maxTokens": 5}).json
    assert again == changed | {"temperature": None, "maxTokens": 5}
    plain = client.ask("PATCH", path, {"title": None, "metadata": None, "maxTokens": None}).json
    assert plain == before, "a title of null is the first words again"


def test_conversations_are_listed_latest_first(client: Client) -> None:
    """By their latest message; one that is made counts as of its making."""
    names = [new_id() for _ in range(3)]
    for name in names:
        client.say("script: tokens=1", conversationId=name)
    client.say("script: tokens=1", conversationId=names[0])
    made = client.ask("POST", "/conversations").json["id"]
    listed = [each["id"] for each in client.get("/conversations?limit=4")["conversations"]]
    assert listed[0] == made or listed[0] == names[0]
    assert set(listed) == {made, *names}
    assert listed.index(names[0]) < listed.index(names[2]) < listed.index(names[1])


@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_paging_conversations_loses_and_repeats_none(client: Client, limit: int) -> None:
    """Every conversation once, whatever the page's size, though new ones are made meanwhile."""
    names = [client.ask("POST", "/conversations").json["id"] for _ in range(15)]
    found: list[str] = []
    query = f"?limit={limit}"
    for _ in range(15 // limit + 1):
        page = client.get(f"/conversations{query}")
        assert len(page["conversations"]) <= limit
        found += [each["id"] for each in page["conversations"]]
        client.ask("POST", "/conversations")
        if page["nextCursor"] is None:
            break
        query = f"?limit={limit}&cursor={page['nextCursor']}"
    assert len(found) == len(set(found))
    assert [name for name in found if name in names] == names[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 12, 200])
def test_paging_messages_loses_and_repeats_none(client: Client, limit: int) -> None:
    """Oldest first, each once, and a last page without a cursor."""
    name = f"c-paged-{limit}-{uuid.uuid4().hex}"
    for seed in range(6):
        client.say(f"script: seed={seed} tokens=2", conversationId=name)
    found = pages(client, f"/conversations/{name}/messages", "messages", limit)
    assert all(len(page) == limit for page in found[:-1])
    assert 0 < len(found[-1]) <= limit
    messages = [message for page in found for message in page]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 6
    assert [message["content"] for message in messages[1::2]] == [reply(seed, 2) for seed in range(6)]
    assert [message["parentId"] for message in messages] == [None, *(message["id"] for message in messages[:-1])]


def test_a_message_has_role_content_and_timestamp(client: Client) -> None:
    """And what else is known of it."""
    name = new_id()
    stream = client.post("script: seed=2 tokens=3", conversationId=name, metadata={"k": "data: v"})
    stream.rest()
    asked, answered = client.get(f"/conversations/{name}/messages")["messages"]
    assert (asked["role"], asked["content"], asked["metadata"]) == (
        "user",
        "script: seed=2 tokens=3",
        {"k": "data: v"},
    )
    assert asked["parts"] == [{"type": "text", "text": asked["content"]}]
    assert (asked["status"], asked["runId"], asked["model"], asked["usage"]) == ("complete", None, None, None)
    assert (answered["id"], answered["runId"]) == (stream["x-message-id"], stream.run_id)
    assert (answered["role"], answered["content"]) == ("assistant", reply(2, 3))
    assert (answered["model"], answered["status"], answered["feedback"]) == ("scripted", "complete", None)
    assert answered["usage"]["outputTokens"] == 3
    assert isinstance(asked["timestamp"], int)
    assert asked["timestamp"] <= answered["timestamp"]


def test_a_reply_that_is_being_made_is_listed(client: Client) -> None:
    """With what it said so far, and one that waits as queued."""
    name = new_id()
    first = client.post("script: seed=2 tokens=9 stall=3", conversationId=name)
    shown = first.take(3)
    second = client.post("script: tokens=1", conversationId=name)
    second.take(1)
    messages = client.get(f"/conversations/{name}/messages")["messages"]
    assert [message["status"] for message in messages] == ["complete", "running", "complete", "queued"]
    assert messages[1]["content"] == text_of(shown)
    assert messages[3]["content"] == ""
    client.ask("POST", f"/chat/stream/{first.run_id}/stop")
    second.rest()


@pytest.mark.parametrize("fault", ["fail=400", "cut=3@1 fail=400@2"])
def test_a_failed_reply_keeps_what_it_said(client: Client, fault: str) -> None:
    """It is in the transcript with its partial text, and its run says why."""
    name = new_id()
    stream = client.post(f"script: seed=4 tokens=9 {fault}", conversationId=name)
    events = stream.rest()
    message = client.get(f"/conversations/{name}/messages")["messages"][1]
    assert (message["status"], message["content"]) == ("failed", text_of(events))
    run = client.get(f"/runs/{stream.run_id}")
    assert (run["state"], run["finishReason"]) == ("failed", None)
    assert run["error"] == {
        "code": "upstream_refused",
        "message": "the model's server refused the request (400)",
        "retryable": False,
    }


def test_a_run_tells_where_it_stands(client: Client) -> None:
    """All its ids, times, calls and usage."""
    stream = client.post("script: tokens=3 fail=503@1", sessionId="s-7")
    end = stream.rest()[-1]
    run = client.get(f"/runs/{stream.run_id}")
    assert run["id"] == stream.run_id
    assert (run["conversationId"], run["sessionId"]) == (stream["x-conversation-id"], "s-7")
    assert run["messageId"] == stream["x-message-id"]
    assert (run["state"], run["finishReason"], run["error"], run["turn"]) == ("finished", "stop", None, 1)
    assert (run["calls"], run["takeovers"], run["model"]) == (2, 0, "scripted")
    assert run["usage"] == end.data["usage"]
    assert run["createdAt"] <= run["startedAt"] <= run["firstTokenAt"] <= run["endedAt"]


def test_a_deleted_conversation_is_gone_with_all_its_parts(client: Client) -> None:
    """Its messages, runs and logs too; a second delete is 404; the id may be used anew."""
    name = new_id()
    stream = client.post("script: tokens=1", conversationId=name)
    stream.rest()
    assert client.ask("DELETE", f"/conversations/{name}").status == 204
    for path in (
        f"/conversations/{name}",
        f"/conversations/{name}/messages",
        f"/runs/{stream.run_id}",
        f"/chat/stream/{stream.run_id}",
    ):
        assert client.ask("GET", path).status == 404
    assert client.ask("PUT", f"/messages/{stream['x-message-id']}/feedback", {"thumb": "up"}).status == 404
    assert client.ask("DELETE", f"/conversations/{name}").status == 404
    assert client.say("script: tokens=1", conversationId=name)[-1].data["messageCount"] == 2


def test_a_delete_ends_the_reply_that_is_being_made(client: Client) -> None:
    """Its readers are cut without an end, those that wait too, and the id is free at once."""
    name = new_id()
    running = client.post("script: tokens=9 stall=2", conversationId=name)
    running.take(2)
    waiting = client.post("script: tokens=9", conversationId=name)
    waiting.take(1)
    assert client.ask("DELETE", f"/conversations/{name}").status == 204
    for stream in (running, waiting):
        with pytest.raises(ConnectionError):
            stream.rest()
        assert client.ask("GET", f"/chat/stream/{stream.run_id}").status == 404
    events = client.say("script: seed=8 tokens=2", conversationId=name)
    assert (text_of(events), events[-1].data["messageCount"]) == (reply(8, 2), 2)


def test_answers_are_not_cached(client: Client) -> None:
    """What a person wrote stays out of caches; JSON is UTF-8 and camelCase."""
    answer = client.ask("GET", "/conversations?limit=1")
    assert (answer.head["cache-control"], answer.head["content-type"]) == ("no-store", "application/json")
    assert all("_" not in key for key in json.loads(answer.body)["conversations"][0])

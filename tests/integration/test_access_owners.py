"""Owners never see each other: what is another's is, in every answer, as if it were not there."""

from __future__ import annotations

import uuid

from tests.client import Headers, wire_of
from tests.guarded import Guarded

HELD = "script: seed=1 tokens=9 stall=1"


def new_id(prefix: str = "c") -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def test_anothers_everything_is_not_found(guarded: Guarded) -> None:
    """Whatever is Ann's is, for Ben, exactly as if it were not there: the same status and the same bytes."""
    ann, ben = guarded.client("ann"), guarded.client("ben")
    name = new_id()
    stream = ann.post("script: tokens=2", conversationId=name)
    events = stream.rest()
    leaf = stream["x-message-id"]
    question = ann.get(f"/conversations/{name}/messages")["messages"][0]["id"]

    def routes(name: str, run_id: str, leaf: str, question: str) -> list[tuple[str, str, object, Headers]]:
        return [
            ("GET", f"/conversations/{name}", None, {}),
            ("GET", f"/conversations/{name}/messages", None, {}),
            ("GET", f"/conversations/{name}/export", None, {}),
            ("GET", f"/conversations/{name}/export?as=markdown", None, {}),
            ("GET", f"/conversations/{name}/messages?leafId={leaf}", None, {}),
            ("PATCH", f"/conversations/{name}", {"title": "x"}, {}),
            ("PATCH", f"/conversations/{name}", {"leafId": leaf}, {}),
            ("DELETE", f"/conversations/{name}", None, {}),
            ("POST", f"/conversations/{name}/fork", {}, {}),
            ("POST", f"/conversations/{name}/fork", {"messageId": leaf}, {}),
            ("POST", f"/messages/{leaf}/regenerate", {}, {}),
            ("POST", f"/messages/{question}/regenerate", {}, {}),
            ("PUT", f"/messages/{leaf}/feedback", {"thumb": "up"}, {}),
            ("PUT", f"/messages/{question}/feedback", {"thumb": "up"}, {}),
            ("GET", f"/runs/{run_id}", None, {}),
            ("GET", f"/chat/stream/{run_id}", None, {}),
            ("GET", f"/chat/stream/{run_id}?after=1", None, {}),
            ("GET", f"/chat/stream/{run_id}?after=999", None, {}),
            ("GET", f"/chat/stream/{run_id}", None, {"Last-Event-ID": f"{run_id}.0.3"}),
            ("GET", f"/chat/stream/{run_id}", None, {"Last-Event-ID": f"{run_id}.9.3"}),
            ("POST", f"/chat/stream/{run_id}/stop", None, {}),
        ]

    absent = routes(new_id(), "r-absent", "m-absent", "m-absent2")
    for theirs, none in zip(routes(name, stream.run_id, leaf, question), absent, strict=True):
        method, path, body, headers = theirs
        refused = ben.ask(method, path, body, headers)
        assert (refused.status, refused.code) == (404, "not_found"), theirs
        assert refused.body == ben.ask(*none).body, theirs
    assert wire_of(ann.follow(stream.run_id).rest()) == wire_of(events)
    assert ann.get(f"/conversations/{name}")["title"] == "script: tokens=2"


def test_a_live_run_of_anothers_is_not_found(guarded: Guarded) -> None:
    """Also while it is being made; nor can it be stopped."""
    ann, ben = guarded.client("ann"), guarded.client("ben")
    stream = ann.post(HELD)
    stream.take(1)
    assert ben.ask("GET", f"/chat/stream/{stream.run_id}").status == 404
    assert ben.ask("POST", f"/chat/stream/{stream.run_id}/stop").status == 404
    assert ann.get(f"/runs/{stream.run_id}")["state"] == "running"
    ann.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    assert stream.rest()[-1].data["finishReason"] == "stopped"


def test_conversations_with_the_same_id_stay_apart(guarded: Guarded) -> None:
    """Ids are each owner's own."""
    name = new_id()
    found = {}
    for seed, owner in enumerate(("ann", "ben")):
        client = guarded.client(owner)
        events = client.say(f"script: seed={seed} tokens=1", conversationId=name)
        assert events[-1].data["messageCount"] == 2
        client.ask("PATCH", f"/conversations/{name}", {"title": owner})
        found[owner] = client
    assert [client.get(f"/conversations/{name}")["title"] for client in found.values()] == ["ann", "ben"]
    assert found["ann"].ask("DELETE", f"/conversations/{name}").status == 204
    assert found["ben"].get(f"/conversations/{name}")["messageCount"] == 2


def test_a_parent_of_anothers_is_no_parent(guarded: Guarded) -> None:
    """A message cannot be hung under somebody else's, even in a conversation of the same id."""
    name = new_id()
    reply_id = guarded.client("ann").say("script: tokens=1", conversationId=name)[-1].data["messageId"]
    ben = guarded.client("ben")
    ben.say("script: tokens=1", conversationId=name)
    answer = ben.ask("POST", "/chat/stream", {"message": "x", "conversationId": name, "parentId": reply_id})
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_keys_of_requests_are_each_owners_own(guarded: Guarded) -> None:
    """The same Idempotency-Key of two people is two runs, with whatever body."""
    key = {"Idempotency-Key": new_id("k")}
    one = guarded.client("ann").post("script: tokens=1", key)
    two = guarded.client("ben").post("script: tokens=2", key)
    assert one.run_id != two.run_id
    assert [len(stream.rest()) for stream in (one, two)] == [2, 3]


def test_lists_hold_ones_own(guarded: Guarded) -> None:
    """Nobody's conversations but the caller's, with any cursor."""
    ann, eve = guarded.client("ann"), guarded.client("eve")
    for _ in range(3):
        ann.ask("POST", "/conversations")
    made = eve.ask("POST", "/conversations").json["id"]
    cursor = ann.get("/conversations?limit=1")["nextCursor"]
    assert [each["id"] for each in eve.get("/conversations")["conversations"]] == [made]
    listed = eve.get(f"/conversations?cursor={cursor}")["conversations"]
    assert {each["id"] for each in listed} <= {made}

"""protocols.md section 1: turns of one conversation run in order, and a repeated key makes no second one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest

from legato.providers.scripted import reply
from tests.client import Answer, Client, Stream, text_of, wire_of
from tests.conftest import StartServer
from tests.server import ServerProcess

STALLED = "script: seed=1 tokens=9 stall=2"


def new_id(prefix: str = "c") -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def stop(client: Client, stream: Stream) -> None:
    assert client.ask("POST", f"/chat/stream/{stream.run_id}/stop").status == 202


@pytest.fixture
def busy(client: Client) -> Iterator[tuple[str, Stream]]:
    """A conversation whose first reply stalls behind two chunks, and that reply."""
    name = new_id()
    stream = client.post(STALLED, conversationId=name)
    stream.take(2)
    yield name, stream
    client.ask("DELETE", f"/conversations/{name}")


def test_posts_to_one_conversation_run_in_order(client: Client, busy: tuple[str, Stream]) -> None:
    """Each waits for the reply before it, and the transcript has them in the order in which they came."""
    name, first = busy
    waiting = [client.post(f"script: seed={seed} tokens=4", conversationId=name) for seed in (2, 3, 4)]
    queued = [stream.take(1)[0] for stream in waiting]
    assert [event.name for event in queued] == ["queued"] * 3
    assert [event.data for event in queued] == [{"conversationId": name, "ahead": ahead} for ahead in (1, 2, 3)]
    assert [event.id for event in queued] == [f"{stream.run_id}.0.0" for stream in waiting]
    states = [client.get(f"/runs/{stream.run_id}")["state"] for stream in (first, *waiting)]
    assert states == ["running", "queued", "queued", "queued"]
    stop(client, first)
    ends = [stream.rest() for stream in waiting]
    assert [text_of(events) for events in ends] == [reply(seed, 4) for seed in (2, 3, 4)]
    assert [events[-1].data["messageCount"] for events in ends] == [4, 6, 8]
    messages = client.get(f"/conversations/{name}/messages")["messages"]
    assert [message["content"] for message in messages[1::2]][1:] == [reply(seed, 4) for seed in (2, 3, 4)]
    begun = [client.get(f"/runs/{stream.run_id}") for stream in waiting]
    for before, after in pairwise(begun):
        assert before["endedAt"] <= after["startedAt"]


def test_index_of_a_reply_that_waited_begins_at_1(client: Client, busy: tuple[str, Stream]) -> None:
    """`queued` is no chunk."""
    name, first = busy
    second = client.post("script: tokens=3", conversationId=name)
    stop(client, first)
    events = second.rest()
    assert [event.name for event in events] == ["queued", "chunk", "chunk", "chunk", "complete"]
    assert [event.data["index"] for event in events[1:4]] == [1, 2, 3]
    assert wire_of(client.follow(second.run_id).rest()) == wire_of(events)


def test_conversations_do_not_wait_for_each_other(client: Client, busy: tuple[str, Stream]) -> None:
    """Runs of different conversations never wait."""
    events = client.say("script: tokens=2")
    assert [event.name for event in events] == ["chunk", "chunk", "complete"]


def test_a_waiting_turn_can_be_stopped(client: Client, busy: tuple[str, Stream]) -> None:
    """It ends at once, without a call, and those behind it go on when their time comes."""
    name, first = busy
    second, third = (client.post(f"script: seed={seed} tokens=3", conversationId=name) for seed in (2, 3))
    stop(client, second)
    events = second.rest()
    assert [event.name for event in events] == ["queued", "complete"]
    assert (events[-1].data["finishReason"], events[-1].data["responseLength"]) == ("stopped", 0)
    assert client.get(f"/runs/{third.run_id}")["state"] == "queued"
    stop(client, first)
    assert text_of(third.rest()) == reply(3, 3)
    assert client.get(f"/runs/{second.run_id}")["calls"] == 0


@pytest.mark.parametrize("accept", ["*/*", "application/problem+json"])
def test_at_most_16_turns_wait(client: Client, busy: tuple[str, Stream], accept: str) -> None:
    """The 17th is refused with 429 `conversation_busy` and Retry-After, and is not kept."""
    name, first = busy
    waiting = [client.post("script: tokens=1", conversationId=name) for _ in range(16)]
    refused = client.ask(
        "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": name}, {"Accept": accept}
    )
    assert (refused.status, refused.code) == (429, "conversation_busy")
    assert int(refused.head["retry-after"]) >= 1
    stop(client, first)
    assert [stream.rest()[-1].name for stream in waiting] == ["complete"] * 16
    assert client.get(f"/conversations/{name}")["messageCount"] == 34
    assert client.say("script: tokens=1", conversationId=name)[-1].data["messageCount"] == 36


# Idempotency


def post_with_key(client: Client, key: str, message: str = "script: tokens=3", **fields: object) -> Answer:
    return client.ask(
        "POST", "/chat/stream", {"message": message} | fields, {"Idempotency-Key": key, "Accept": "application/json"}
    )


@pytest.mark.parametrize("way", ["header", "field", "both"])
def test_a_repeated_key_attaches_to_the_same_run(client: Client, way: str) -> None:
    """The same bytes, one user message, one model call."""
    name, key = new_id(), new_id("key data: ")
    headers = {"Idempotency-Key": key} if way != "field" else {}
    fields = {"requestId": key} if way != "header" else {}
    first = client.post("script: seed=6 tokens=5", headers, conversationId=name, **fields)
    events = first.rest()
    for _ in range(2):
        again = client.post("script: seed=6 tokens=5", headers, conversationId=name, **fields)
        assert again.run_id == first.run_id
        assert wire_of(again.rest()) == wire_of(events)
    assert client.get(f"/conversations/{name}")["messageCount"] == 2
    assert client.get(f"/runs/{first.run_id}")["calls"] == 1


def test_a_repeated_key_attaches_while_the_first_is_running(client: Client) -> None:
    """A repeat replays what was said, then follows."""
    key = new_id("k")
    first = client.post(STALLED, {"Idempotency-Key": key})
    shown = first.take(2)
    again = client.post(STALLED, {"Idempotency-Key": key})
    assert again.run_id == first.run_id
    assert wire_of(again.take(2)) == wire_of(shown)
    stop(client, first)
    assert wire_of(again.rest()) == wire_of(first.rest())


def test_a_repeated_key_is_one_turn_without_ids_too(client: Client) -> None:
    """Where the server made the ids, the repeat is told the same ones."""
    key = new_id("k")
    first = client.post("script: tokens=1", {"Idempotency-Key": key})
    again = client.post("script: tokens=1", {"Idempotency-Key": key})
    for header in ("x-session-id", "x-conversation-id", "x-run-id", "x-message-id"):
        assert again[header] == first[header]


def test_spelling_does_not_tell_bodies_apart(client: Client) -> None:
    """Order of fields, white space and escapes are no other body."""
    key, name = {"Idempotency-Key": new_id("k")}, new_id()
    one = client.open("POST", "/chat/stream", f'{{"message":"é","conversationId":"{name}"}}'.encode(), key)
    two = client.open("POST", "/chat/stream", f'{{ "conversationId": "{name}",\n"message":"\\u00e9" }}'.encode(), key)
    assert two.run_id == one.run_id


def test_how_a_key_is_given_does_not_tell_bodies_apart(client: Client) -> None:
    """Once as the header and once as the field is the same key, and the field is no part of the message."""
    key = new_id("k")
    one = client.post("script: tokens=1", {"Idempotency-Key": key}, conversationId=(name := new_id()))
    two = client.post("script: tokens=1", conversationId=name, requestId=key)
    assert two.run_id == one.run_id


@pytest.mark.parametrize(
    "other",
    [
        {"message": "script: tokens=4"},
        {"conversationId": "c-other"},
        {"temperature": 0.1},
        {"parentId": None},
        {"metadata": {"a": 1}},
    ],
)
def test_a_key_with_another_body_is_refused(client: Client, other: dict[str, object]) -> None:
    """422 `idempotency_key_reused`, whichever field differs; nothing is stored."""
    key, name = new_id("k"), new_id()
    fields: dict[str, object] = {"message": "script: tokens=3", "conversationId": name}
    client.open("POST", "/chat/stream", fields, {"Idempotency-Key": key}).rest()
    refused = post_with_key(client, key, **(fields | other))  # type: ignore[arg-type]
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert client.get(f"/conversations/{name}")["messageCount"] == 2


def test_header_and_field_must_agree(client: Client) -> None:
    """Two different keys in one request are a mistake, and are told so."""
    refused = post_with_key(client, new_id("k"), requestId=new_id("k"))
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["k" * 201, "a\tb", "\xad"])
def test_a_key_is_an_id(client: Client, key: str) -> None:
    """1 to 200 printable characters, in the header as in the field."""
    refused = post_with_key(client, key)
    assert (refused.status, refused.code) == (422, "invalid_request")
    assert [error["field"] for error in refused.json["errors"]] == ["Idempotency-Key"]


def test_without_a_key_two_posts_are_two_turns(client: Client) -> None:
    """The same words twice are two messages."""
    name = new_id()
    first, second = (client.say("script: tokens=1", conversationId=name) for _ in range(2))
    assert first[-1].data["runId"] != second[-1].data["runId"]
    assert second[-1].data["messageCount"] == 4


def test_a_key_whose_run_was_deleted_is_gone(client: Client) -> None:
    """410, and never a second reply by surprise."""
    key, name = new_id("k"), new_id()
    client.open(
        "POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": name}, {"Idempotency-Key": key}
    ).rest()
    assert client.ask("DELETE", f"/conversations/{name}").status == 204
    gone = post_with_key(client, key, "script: tokens=1", conversationId=name)
    assert (gone.status, gone.code) == (410, "run_gone")
    assert client.ask("GET", f"/conversations/{name}").status == 404


def test_a_refused_message_uses_no_key_up(client: Client, busy: tuple[str, Stream]) -> None:
    """What was not carried out can be sent again under its key."""
    name, first = busy
    waiting = [client.post("script: tokens=1", conversationId=name) for _ in range(16)]
    key = new_id("k")
    assert post_with_key(client, key, conversationId=name).status == 429
    stop(client, first)
    for stream in waiting:
        stream.rest()
    assert post_with_key(client, key, conversationId=name).status == 200


@pytest.mark.slow
def test_a_repeated_key_is_answered_before_limits(start_server: StartServer) -> None:
    """A repeat attaches where a new message is refused, and after a restart too."""
    server: ServerProcess = start_server(max_active_runs=1)
    with Client(server.port) as client:
        first = client.post(STALLED, {"Idempotency-Key": "k"}, conversationId="c-1")
        shown = first.take(2)
        refused = client.ask("POST", "/chat/stream", {"message": "x"}, {"Accept": "application/json"})
        assert (refused.status, refused.code) == (503, "overloaded")
        assert int(refused.head["retry-after"]) >= 1
        again = client.post(STALLED, {"Idempotency-Key": "k"}, conversationId="c-1")
        assert wire_of(again.take(2)) == wire_of(shown)
        stop(client, first)
        events = first.rest()
    server.restart()
    with Client(server.port) as client:
        again = client.post(STALLED, {"Idempotency-Key": "k"}, conversationId="c-1")
        assert again.run_id == first.run_id
        assert wire_of(again.rest()) == wire_of([*shown, *events])
        assert client.get("/conversations/c-1")["messageCount"] == 2

"""protocols.md section 1: what a reply looks like on the wire, on raw bytes from a real server."""

from __future__ import annotations

import re
import uuid

import pytest

from legato.providers.scripted import reply, token
from tests.client import Client, Event, text_of
from tests.naive import NaiveClient

SOME = "script: seed=7 tokens=40"
"""Forty tokens that hold `data: `, blank lines, U+2028, quotes, emoji and CJK."""
CHUNK = re.compile(
    rb'event: chunk\nid: (r-[0-9a-f]{32})\.0\.([0-9]+)\ndata: \{"content":"[^\n]+","index":([0-9]+),'
    rb'"conversationId":"[^\n]+"\}\n\n'
)


def new_id() -> str:
    return f"c-{uuid.uuid4().hex}"


def test_a_reply_is_chunks_then_one_complete(client: Client) -> None:
    """A message in, `chunk` events out, and exactly one `complete` as the last."""
    events = client.say(SOME)
    assert [event.name for event in events] == ["chunk"] * 40 + ["complete"]
    assert text_of(events) == reply(7, 40)


def test_the_lines_of_an_event_stand_in_order(client: Client) -> None:
    """`event:` first, `id:` between, `data:` last and on one line, then one blank line: byte by byte."""
    stream = client.post(SOME)
    events = stream.rest()
    blocks = [block + b"\n\n" for block in stream.raw.split(b"\n\n")[:-1] if not block.startswith(b":")]
    assert len(blocks) == 41
    for number, block in enumerate(blocks[:-1], 1):
        match = CHUNK.fullmatch(block)
        assert match is not None, block
        assert match[1].decode() == stream.run_id
        assert int(match[3]) == number
    assert re.fullmatch(rb"event: complete\nid: r-[0-9a-f]{32}\.0\.[0-9]+\ndata: \{[^\n]+\}\n\n", blocks[-1])
    assert [event.id for event in events] == [f"{stream.run_id}.0.{seq}" for seq in (*range(2, 42), 43)]


def test_lines_end_with_lf_alone(client: Client) -> None:
    """No CR anywhere in the body, and nothing else that some language takes for the end of a line."""
    stream = client.post(SOME)
    stream.rest()
    assert b"\r" not in stream.raw
    text = stream.raw.decode()
    assert text.splitlines() == text.removesuffix("\n").split("\n")


def test_a_body_begins_with_no_byte_order_mark(client: Client) -> None:
    """A BOM costs some clients the first event."""
    stream = client.post(SOME)
    stream.rest()
    assert stream.raw.startswith(b": ok\n\n")


def test_a_comment_comes_at_once(client: Client) -> None:
    """Before the model has said anything, a comment carries the headers through proxies."""
    stream = client.post("script: tokens=3 stall=0")
    assert next(stream.blocks()) == b": ok"
    client.ask("POST", f"/chat/stream/{stream.run_id}/stop")


def test_silence_is_filled_with_comments_in_blocks_of_their_own(client: Client) -> None:
    """About every heartbeat (1 s here) of silence a comment block comes, and never inside an event's block."""
    first = client.post("script: tokens=3 stall=1")
    first.take(1)
    # Who comes now has the chunk at once, however long it took: no silence is before it.
    stream = client.follow(first.run_id)
    blocks = stream.blocks()
    found = [next(blocks) for _ in range(4)]
    assert [block.split(b"\n")[0] for block in found] == [b": ok", b"event: chunk", b": ping", b": ping"]
    client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    assert [event.name for event in stream.events()][-1] == "complete"


@pytest.mark.parametrize("field", ["conversationId", "sessionId"])
def test_data_colon_never_stands_inside_the_json(client: Client, field: str) -> None:
    """The characters `data: ` are written with \\u0020, in the text and in ids alike."""
    name = f"data: {uuid.uuid4().hex} data: "
    stream = client.open("POST", "/chat/stream", {"message": SOME, field: name})
    events = stream.rest()
    assert "data: " in text_of(events)
    assert stream.raw.count(b"data: ") == 41
    assert stream.raw.count(b"\ndata: ") == 41
    if field == "conversationId":
        assert all(event.data["conversationId"] == name for event in events)


def test_a_naive_client_reads_the_whole_text(client: Client) -> None:
    """A client that splits on blank lines and takes what follows the first `data: ` gets every character."""
    naive = NaiveClient(client.port, session="s-1", conversation=f"data: {new_id()}")
    naive.send(SOME)
    assert "".join(naive.chunks) == reply(7, 40)
    assert naive.errors == []
    assert naive.completed == 1


def test_a_naive_client_learns_of_a_failed_reply(client: Client) -> None:
    """A reply that fails calls the error callback, not the completion's."""
    naive = NaiveClient(client.port, session="s-1", conversation=new_id())
    naive.send("script: tokens=5 fail=400")
    assert naive.errors == ["the model's server refused the request (400)"]
    assert (naive.chunks, naive.completed) == ([], 0)


def test_index_counts_chunks_from_1(client: Client) -> None:
    """`index` counts text chunks alone: calls, retries and usage leave no gap."""
    events = client.say("script: seed=3 tokens=12 cut=5@1 fail=503@2")
    chunks = [event for event in events if event.name == "chunk"]
    assert [event.data["index"] for event in chunks] == list(range(1, len(chunks) + 1))
    assert text_of(events) == reply(3, 12)
    assert all(set(event.data) == {"content", "index", "conversationId"} for event in chunks)
    assert all(event.data["content"] for event in chunks)


def test_response_length_is_in_utf16_units(client: Client) -> None:
    """What JavaScript's `.length` gives: an emoji counts two."""
    events = client.say(SOME)
    text = reply(7, 40)
    assert len(text.encode("utf-16-le")) // 2 > len(text)
    assert events[-1].data["responseLength"] == len(text.encode("utf-16-le")) // 2


def test_complete_holds_all_its_fields(client: Client) -> None:
    """`complete` says conversation, counts, message, run, model, usage, cost, reason, time and failover."""
    name = new_id()
    stream = client.post(SOME, conversationId=name)
    data = stream.rest()[-1].data
    assert data == {
        "conversationId": name,
        "messageCount": 2,
        "responseLength": len(reply(7, 40).encode("utf-16-le")) // 2,
        "messageId": stream["x-message-id"],
        "runId": stream.run_id,
        "model": "scripted",
        "usage": {
            "inputTokens": len(SOME) // 4 + 1,
            "outputTokens": 40,
            "cacheReadTokens": None,
            "reasoningTokens": None,
        },
        "cost": None,
        "finishReason": "stop",
        "responseTimeMs": data["responseTimeMs"],
        "failover": None,
    }
    assert 0 <= data["responseTimeMs"] < 20_000
    again = client.say("script: tokens=2 usage=0", conversationId=name)[-1].data
    assert again["messageCount"] == 4
    assert again["usage"]["counted"] is True, "what the model's server has not told is counted, and marked"
    assert again["usage"]["outputTokens"] == len(reply(0, 2)) // 4 + 1
    assert again["cost"] is None, "unknown is null, never 0"


def test_a_longest_reply_ends_with_length(client: Client) -> None:
    """`maxTokens` bounds a reply, which says so."""
    events = client.say("script: seed=7 tokens=40", maxTokens=5)
    assert (len(events), events[-1].data["finishReason"]) == (6, "length")
    assert text_of(events) == reply(7, 5)


def test_error_holds_all_its_fields(client: Client) -> None:
    """A reply that breaks ends with `error`, which says what, whether to retry, and that a part was shown."""
    name = new_id()
    message = "script: seed=2 tokens=9 cut=4@1 fail=400@2"
    stream = client.post(message, conversationId=name)
    events = stream.rest()
    data = events[-1].data
    assert [event.name for event in events] == ["chunk"] * 4 + ["error"]
    assert data == {
        "error": "the model's server refused the request (400)",
        "conversationId": name,
        "code": "upstream_refused",
        "retryable": False,
        "partial": True,
        "messageCount": 2,
        "responseLength": len(reply(2, 4).encode("utf-16-le")) // 2,
        "responseTimeMs": data["responseTimeMs"],
        "messageId": stream["x-message-id"],
        "runId": stream.run_id,
        "model": "scripted",
        # Of the call that was cut: what it was given, and what came. The one that was refused has used nothing.
        "usage": {
            "inputTokens": len(message) // 4 + 1 + 8,
            "outputTokens": len(text_of(events)) // 4 + 1,
            "cacheReadTokens": None,
            "reasoningTokens": None,
            "counted": True,
        },
        "cost": None,
    }


def test_an_error_without_a_chunk_is_not_partial(client: Client) -> None:
    """`partial` tells whether there is text to keep."""
    (event,) = client.say("script: fail=401")
    assert (event.name, event.data["partial"], event.data["responseLength"]) == ("error", False, 0)


def test_a_stopped_reply_ends_with_complete(client: Client) -> None:
    """Stop is no failure: `complete` with `finishReason: "stopped"`, the partial text kept."""
    name = new_id()
    stream = client.post("script: seed=5 tokens=9 stall=3", conversationId=name)
    shown = stream.take(3)
    answer = client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    assert (answer.status, answer.json["runId"]) == (202, stream.run_id)
    (last,) = stream.rest()
    assert (last.name, last.data["finishReason"], last.data["stoppedBy"]) == ("complete", "stopped", "user")
    assert last.data["messageCount"] == 2
    messages = client.get(f"/conversations/{name}/messages")["messages"]
    assert (messages[-1]["content"], messages[-1]["status"]) == (text_of(shown), "stopped")


def test_a_stop_of_an_ended_reply_changes_nothing(client: Client) -> None:
    """Stopping twice, or too late, is no error and leaves the end as it was."""
    stream = client.post("script: tokens=2")
    events = stream.rest()
    for _ in range(2):
        answer = client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
        assert (answer.status, answer.json["state"]) == (202, "finished")
    assert [event.raw for event in client.follow(stream.run_id).events()] == [event.raw for event in events]


@pytest.mark.parametrize(
    "name",
    ["x", "7", "a b", "ü/ß?&%#+", "data: x", "日本語", "🎵" * 200, "'; DROP TABLE run; --", "..%2F..", "{run_id}"],
)
def test_any_printable_string_of_200_is_an_id(client: Client, name: str) -> None:
    """Ids of 1 to 200 printable characters are taken as they are, an unknown one makes the conversation."""
    name = name if len(name) == 200 else f"{name} {uuid.uuid4().hex}"
    first = client.say("script: tokens=1", conversationId=name, sessionId=name)
    second = client.say("script: tokens=1", conversationId=name, sessionId=name)
    assert {event.data["conversationId"] for event in first + second} == {name}
    assert [events[-1].data["messageCount"] for events in (first, second)] == [2, 4]


def test_ids_are_made_where_none_are_given(client: Client) -> None:
    """Both ids are optional: the server makes them and says so, in the headers and in every event."""
    one, two = client.post("script: tokens=1"), client.post("script: tokens=1")
    assert one["x-conversation-id"] != two["x-conversation-id"]
    assert one["x-session-id"] != two["x-session-id"]
    assert {event.data["conversationId"] for event in one.rest()} == {one["x-conversation-id"]}


def test_headers_tell_all_ids_before_the_first_byte(client: Client) -> None:
    """Session, conversation, run and message are named in the head, ids as a header can carry them."""
    stream = client.post("script: tokens=1 stall=0", sessionId="s é", conversationId=(name := f"50% {new_id()}"))
    assert stream["x-session-id"] == "s%20%C3%A9"
    assert stream["x-conversation-id"] == name.replace("%", "%25").replace(" ", "%20")
    assert re.fullmatch("r-[0-9a-f]{32}", stream.run_id)
    assert re.fullmatch("m-[0-9a-f]{32}", stream["x-message-id"])
    client.ask("POST", f"/chat/stream/{stream.run_id}/stop")
    assert stream.rest()[-1].data["messageId"] == stream["x-message-id"]


def test_headers_suit_a_stream(client: Client) -> None:
    """No caching, no transforming, no buffering, no compression, and no `Connection:` of our making."""
    stream = client.post("script: tokens=1", headers={"Accept-Encoding": "gzip, br, zstd"})
    assert stream["content-type"] == "text/event-stream; charset=utf-8"
    assert stream["cache-control"] == "no-cache, no-transform"
    assert stream["x-accel-buffering"] == "no"
    for name in ("connection", "content-encoding", "content-length", "keep-alive", "server"):
        assert name not in stream.head
    stream.rest()


def test_headers_are_exposed_to_a_page_of_this_server(client: Client) -> None:
    """A browser's script may read the ids and Retry-After."""
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Host": f"127.0.0.1:{client.port}"}
    stream = client.post("script: tokens=1", headers=own)
    exposed = {name.strip() for name in stream["access-control-expose-headers"].split(",")}
    assert {"X-Session-Id", "X-Conversation-Id", "X-Run-Id", "X-Message-Id", "Retry-After"} <= exposed
    assert stream["access-control-allow-origin"] == own["Origin"]


def test_a_reply_that_changed_models_says_so(client: Client) -> None:
    """`model` is the one that answered; without a change `failover` is null."""
    (chunk, end) = client.say("script: tokens=1", model="other")
    assert (end.data["model"], end.data["failover"]) == ("other", None)
    assert chunk.data["content"] == token(0, 0)


def test_a_dropped_connection_does_not_stop_a_run(client: Client) -> None:
    """The reply goes on without a reader, and is there whole for the next one."""
    stream = client.post("script: seed=9 tokens=30 delay_ms=5")
    shown = stream.take(2)
    stream.close()
    events = client.follow(stream.run_id).rest()
    assert [event.raw for event in events[:2]] == [event.raw for event in shown]
    assert text_of(events) == reply(9, 30)
    assert events[-1].data["finishReason"] == "stop"


def test_events_of_one_stream_all_name_the_conversation(client: Client) -> None:
    """Every event's data has `conversationId`, whatever the event."""
    name = new_id()

    def names(events: list[Event]) -> set[str]:
        return {event.data["conversationId"] for event in events}

    assert names(client.say("script: tokens=2", conversationId=name)) == {name}
    assert names(client.say("script: fail=400", conversationId=name)) == {name}

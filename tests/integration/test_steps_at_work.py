"""A bot with steps of every kind, on a real server: requests, events, times, and what goes from one to the other."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field

from legato import ChatMessageCompleted, Context, Event, Legato, QueueEvent, append, increment
from legato.core.errors import Conflict
from legato.testing import TestServer, serving
from tests.postgres import Postgres

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}

app = Legato()
closed: list[str] = []


class Summary(BaseModel):
    """A request's body."""

    text: str = Field(min_length=1)
    words: int = 5


class Lead(BaseModel):
    """A response's body, and a payload."""

    name: str
    score: float = 0.5


@app.http("GET", "/leads/{session_id}")
async def leads(session_id: str, ctx: Context, least: int = 0) -> list[Lead]:
    """Lists leads."""
    page = await ctx.state.list(f"leads-{session_id}")
    return [Lead(**entry.value) for entry in page.entries][least:]


@app.http("POST", "/leads/{session_id}", enqueues=["crm.lead.found"])
async def add_lead(session_id: str, lead: Lead, ctx: Context) -> dict[str, str]:
    """Takes a lead."""
    if lead.name == "twice":
        raise Conflict("this lead is known")
    if lead.name == "broken":
        raise RuntimeError("secret words of the inside")
    if lead.name == "typo":
        await ctx.enqueue("crm.lead.fund", {})
    event_id = await ctx.enqueue("crm.lead.found", lead)
    return {"eventId": event_id, "traceId": ctx.trace_id, "owner": ctx.owner}


@app.http("GET", "/never", condition=lambda given, ctx: False)
async def never(ctx: Context) -> str:
    """Is never there."""
    return "here"


@app.http("POST", "/summaries")
async def summarise(request: Summary, ctx: Context) -> AsyncIterator[Event]:
    """Streams a text, word by word."""
    try:
        if request.text == "slow":
            await asyncio.sleep(60)
        for number, word in enumerate(request.text.split()[: request.words]):
            if word == "refused":
                raise Conflict("not this word")
            if word == "broken":
                raise RuntimeError("secret words of the inside")
            yield Event("word", {"word": word, "number": number})
        if request.text.startswith("own"):
            yield Event("complete", {"words": request.words})
        if request.text == "own and more":
            yield Event("word", {"word": "too late"})
        if request.text == "cancelled inside":
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task
    finally:
        closed.append(request.text)
        if request.text == "bad end":
            raise RuntimeError("secret words of the inside")


@app.queue("crm.lead.found", enqueues=["crm.lead.scored"])
async def score(lead: Lead, ctx: Context) -> None:
    """Scores a lead; it may be tried again, and counts once."""
    await ctx.enqueue("crm.lead.scored", {"name": lead.name, "score": lead.score * 2, "trace": ctx.trace_id})
    if lead.name == "twice tried" and ctx.attempt == 1:
        raise RuntimeError("first attempt")


@app.queue("crm.lead.scored")
async def keep(event: dict[str, Any], ctx: Context) -> None:
    """Keeps what was scored."""
    await ctx.state.update("scored", event["name"], append("events", [ctx.event_id, ctx.trace_id, event["trace"]]))


@app.queue("chat.message.completed", condition=lambda event, ctx: event.session_id != "s-quiet")
async def note_reply(event: ChatMessageCompleted, ctx: Context) -> None:
    """Notes replies, but for one session's."""
    note = {"session": event.session_id, "trace": ctx.trace_id, "chunks": event.chunk_count, "owner": ctx.owner}
    await ctx.state.set("replies", event.conversation_id, note | {"length": event.response_length})


@app.queue("chat.message.completed", name="batches", batch=100)
async def count_batch(events: list[QueueEvent], ctx: Context) -> None:
    """Counts for each owner."""
    for event in events:
        await ctx.acting_for(event.owner).state.update("batches", "all", increment("count"))


@app.cron("* * * * * *")
async def beat(ctx: Context) -> None:
    """Beats each second, for all."""
    await ctx.shared.update("beats", "all", increment("count"))


@app.http("GET", "/state/{group}/{key}")
async def state_of(group: str, key: str, ctx: Context) -> Any:
    """Shows state, for the tests."""
    return await (ctx.shared if group == "beats" else ctx.state).get(group, key)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    closed.clear()
    settings: dict[str, Any] = {}
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        settings["database_url"] = postgres.make_database()
    with serving(app, heartbeat_s=0.2, **settings) as running:
        yield running


def _send(server: TestServer, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} if data else {}
    try:
        connection.request(method, path, data, given | (headers or {}))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_an_http_step_takes_its_parameters_and_acts_for_its_caller(server: TestServer) -> None:
    """Path, query, body and Context; the answer is checked JSON, with the trace of the request."""
    response, data = _send(server, "POST", "/leads/s-1", {"name": "Ann", "score": 0.25}, TRACEPARENT)
    assert response.status == 200
    assert response.headers["x-trace-id"] == TRACE
    answer = json.loads(data)
    assert answer["traceId"] == TRACE
    assert answer["owner"] == "local"
    assert server.get("/leads/s-1?least=3") == []


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code", "said"),
    [
        ("POST", "/leads/s-1", {"score": 1}, {}, 422, "invalid_request", "name"),
        ("POST", "/leads/s-1", {"name": 5}, {}, 422, "invalid_request", "name"),
        ("GET", "/leads/s-1?least=x", None, {}, 422, "invalid_request", "least"),
        ("POST", "/leads/s-1", b"", {}, 422, "invalid_request", '"field": "body"'),
        ("POST", "/leads/s-1", b"{", {}, 400, "invalid_json", "not JSON"),
        ("POST", "/leads/s-1", b"name=x", {"Content-Type": "text/plain"}, 415, "unsupported_media_type", "json"),
        ("POST", "/leads/s-1", b'{"name": "' + b"x" * 2_000_000 + b'"}', {}, 413, "body_too_large", "bytes"),
        ("POST", "/leads/s-1", {"name": "twice"}, {}, 409, "conflict", "this lead is known"),
        ("POST", "/leads/s-1", {"name": "broken"}, {}, 500, "internal", "its log says more"),
        ("POST", "/leads/s-1", {"name": "typo"}, {}, 500, "undeclared_topic", ""),
        ("GET", "/never", None, {}, 404, "not_found", "nothing at this address"),
        ("DELETE", "/leads/s-1", None, {}, 405, "method_not_allowed", ""),
    ],
)
def test_what_an_http_step_cannot_take_is_refused_as_everywhere(
    server: TestServer, method: str, path: str, body: Any, headers: dict[str, str], status: int, code: str, said: str
) -> None:
    """problem+json with the code and the wrong field, and nothing of the inside."""
    response, data = _send(server, method, path, body, headers)
    problem = json.loads(data)
    assert (response.status, problem["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert said in json.dumps(problem)
    assert b"secret words" not in data


def _blocks(data: bytes) -> list[str]:
    return [block for block in data.decode().split("\n\n") if block and not block.startswith(":")]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("a b", "event: complete\nid: 2\ndata: {}"),
        ("own end", 'event: complete\nid: 2\ndata: {"words":5}'),
        ("own and more", 'event: complete\nid: 3\ndata: {"words":5}'),
        ("a refused b", 'event: error\nid: 1\ndata: {"error":"not this word","code":"conflict","retryable":false}'),
    ],
)
def test_a_step_that_yields_streams_events_with_ids_and_a_clean_end(server: TestServer, text: str, last: str) -> None:
    """Each has its number; the last one is `complete` or `error`, whatever the function did."""
    response, data = _send(server, "POST", "/summaries", {"text": text})
    blocks = _blocks(data)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert data.startswith(b": ok\n\n")
    first = text.split()[0]
    assert blocks[0] == f'event: word\nid: 0\ndata: {{"word":"{first}","number":0}}'
    assert blocks[-1] == last
    assert server.wait_for(lambda: text in closed)


@pytest.mark.parametrize(("text", "number"), [("a broken b", 1), ("cancelled inside", 2), ("bad end", 2)])
def test_a_fault_in_a_streaming_step_tells_nothing_of_the_inside(server: TestServer, text: str, number: int) -> None:
    """`internal`, and what was said before it stays."""
    _, data = _send(server, "POST", "/summaries", {"text": text})
    name, said = _blocks(data)[-1].split("\ndata: ")
    assert name == f"event: error\nid: {number}"
    assert json.loads(said)["code"] == "internal"
    assert b"secret" not in data


def test_a_silent_stream_beats_and_a_reader_that_goes_closes_the_step(server: TestServer) -> None:
    """Comments in silence; the function's `finally` runs at once when nobody reads any more."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/summaries", b'{"text": "slow"}', {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.read(len(b": ok\n\n: beat\n\n: beat\n\n")).endswith(b": beat\n\n: beat\n\n")
    assert "slow" not in closed
    response.close()
    connection.close()
    assert server.wait_for(lambda: "slow" in closed, 5)


def test_a_trace_goes_from_the_request_through_every_queue(server: TestServer) -> None:
    """An event, the event that comes of it, and its step all carry the id of the first request."""
    _send(server, "POST", "/leads/s-2", {"name": "Traced"}, TRACEPARENT)
    assert server.wait_for(lambda: server.get("/state/scored/Traced") is not None)
    ((_, trace, of_payload),) = server.get("/state/scored/Traced")["events"]
    assert trace == of_payload == TRACE


def test_a_repeated_attempt_enqueues_the_same_event(server: TestServer) -> None:
    """What comes of an event has an id that is made of it: the second attempt adds nothing."""
    _send(server, "POST", "/leads/s-3", {"name": "twice tried"})
    assert server.wait_for(lambda: server.get("/state/scored/twice tried".replace(" ", "%20")) is not None)
    # The second attempt is a second later; had it another id, it would have come by now.
    assert not server.wait_for(
        lambda: len({event[0] for event in server.get("/state/scored/twice%20tried")["events"]}) > 1, 2.5
    )


def test_a_reply_sets_off_the_steps_that_listen(server: TestServer) -> None:
    """Typed, for the owner, with the trace of the message; a condition lets others pass."""
    reply_to = {"message": "Hello!", "sessionId": "s-loud", "conversationId": "c-loud"}
    response, data = _send(server, "POST", "/chat/stream", reply_to, TRACEPARENT)
    complete = json.loads(_blocks(data)[-1].partition("\ndata: ")[2])
    server.chat("Psst!", session_id="s-quiet", conversation_id="c-quiet")
    assert server.wait_for(lambda: server.get("/state/replies/c-loud") is not None)
    note = server.get("/state/replies/c-loud")
    assert response.headers["x-trace-id"] == TRACE
    assert note == {
        "session": "s-loud",
        "trace": TRACE,
        "chunks": len(_blocks(data)) - 1,
        "owner": "local",
        "length": complete["responseLength"],
    }
    assert server.wait_for(lambda: (server.get("/state/batches/all") or {}).get("count", 0) >= 2)
    assert server.get("/state/replies/c-quiet") is None


def test_the_built_in_analytics_counts_replies(server: TestServer) -> None:
    """The figures of a session, as a step and as state, and those of the day."""
    replies = [server.chat("Hello!", session_id="s-counted", conversation_id=f"c-{n}") for n in range(3)]
    assert server.wait_for(lambda: server.send("GET", "/session-stats/s-counted")[1].get("totalMessages") == 3)
    stats = server.get("/session-stats/s-counted")
    used = [events.events[-1][1]["usage"] for events in replies]
    assert stats["totalTokens"] == sum(each["inputTokens"] + each["outputTokens"] for each in used)
    assert stats["conversationCount"] == 3
    assert set(stats["conversations"]) == {"c-0", "c-1", "c-2"}
    times = [events.events[-1][1]["responseTimeMs"] for events in replies]
    assert stats["averageResponseTime"] == pytest.approx(sum(times) / 3)
    assert server.get("/state/session-stats/s-counted") == stats
    rows = server.get("/analytics?by=session")["rows"]
    assert [row["messages"] for row in rows if row["key"] == "s-counted"] == [3]
    assert server.send("GET", "/session-stats/nobody")[0] == 404


def test_the_conversation_view_shows_messages_as_steps_know_them(server: TestServer) -> None:
    """State group `conversations`: role, content, timestamp; and it cannot be written."""
    reply = server.chat("What is new?", conversation_id="c-view")
    shown = server.get("/state/conversations/c-view")
    assert [(each["role"], each["content"]) for each in shown["messages"]] == [
        ("user", "What is new?"),
        ("assistant", reply.text),
    ]
    assert all(isinstance(each["timestamp"], int) for each in shown["messages"])
    assert server.get("/state/conversations/nobody") is None


def test_messages_are_found_by_session_and_time(server: TestServer) -> None:
    """The message log: any conversation, oldest first."""
    server.chat("First", session_id="s-log", conversation_id="c-log-1")
    server.chat("Second", session_id="s-log", conversation_id="c-log-2")
    found = server.get("/messages?sessionId=s-log")["messages"]
    assert [each["content"] for each in found if each["role"] == "user"] == ["First", "Second"]
    later = server.get(f"/messages?sessionId=s-log&from={found[1]['timestamp'] + 1}")["messages"]
    assert all(each["timestamp"] > found[1]["timestamp"] for each in later)
    assert {each["conversationId"] for each in found} == {"c-log-1", "c-log-2"}
    of_one = server.get("/messages?conversationId=c-log-2")["messages"]
    assert of_one == [each for each in found if each["conversationId"] == "c-log-2"]
    assert len(of_one) == 2
    for at_ms in sorted({each["timestamp"] for each in found}):
        before = server.get(f"/messages?sessionId=s-log&to={at_ms}")["messages"]
        assert before == [each for each in found if each["timestamp"] < at_ms]


def test_messages_come_page_by_page(server: TestServer) -> None:
    """One at a time, each once, in order; behind the last there is no cursor."""
    for number in range(2):
        server.chat(f"Number {number}", session_id="s-pages", conversation_id=f"c-pages-{number}")
    whole = server.get("/messages?sessionId=s-pages")
    assert (len(whole["messages"]), whole["nextCursor"]) == (4, None)
    seen: list[Any] = []
    cursor = ""
    for _ in whole["messages"]:
        page = server.get(f"/messages?sessionId=s-pages&limit=1{cursor}")
        seen += page["messages"]
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == whole["messages"]
    assert page["nextCursor"] is None


def test_a_cron_step_runs_at_its_times(server: TestServer) -> None:
    """Six fields: every second, for the app itself."""
    assert server.wait_for(lambda: ((server.get("/state/beats/all") or {}).get("count") or 0) >= 2)


def test_every_step_is_described(server: TestServer) -> None:
    """OpenAPI lists the bot's routes with the server's, their parameters without the Context."""
    paths = server.get("/openapi.json")["paths"]
    operation = paths["/leads/{session_id}"]["get"]
    assert operation["summary"] == "Lists leads."
    assert [each["name"] for each in operation["parameters"]] == ["session_id", "least"]
    assert "/session-stats/{session_id}" in paths
    assert "/analytics" in paths

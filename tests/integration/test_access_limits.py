"""Bounded: each limit holds exactly where it is, says so with 429 or 503 and Retry-After, and is free again after."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from legato.providers.scripted import reply
from tests.client import Answer, Client, Stream, text_of
from tests.integration.held_models import WAITING_BOT
from tests.server import ServerProcess

HELD = "script: seed=1 tokens=9 stall=1"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that can do little at once."""
    process = ServerProcess(
        tmp_path_factory.mktemp("small"),
        {"max_active_runs": 4, "max_readers": 6, "max_waiting_turns": 2, "max_body_bytes": 2000},
    )
    yield process.start()
    process.kill()


@pytest.fixture
def client(small: ServerProcess) -> Iterator[Client]:
    with Client(small.port) as found:
        yield found


def held(client: Client, **fields: object) -> Stream:
    stream = client.post(HELD, **fields)  # type: ignore[arg-type]
    stream.take(1)
    return stream


def end(client: Client, *streams: Stream) -> None:
    for stream in streams:
        assert client.ask("POST", f"/chat/stream/{stream.run_id}/stop").status == 202
        stream.rest()


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code)
    assert int(answer.head["retry-after"]) >= 1


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_active_runs_are_limited(client: Client, accept: str) -> None:
    """Four replies at once and not five; when one ends the next may begin."""
    streams = [held(client) for _ in range(4)]
    answer = client.ask("POST", "/chat/stream", {"message": "x", "conversationId": "c-refused"}, {"Accept": accept})
    refused(answer, 503, "overloaded")
    assert client.ask("GET", "/conversations/c-refused").status == 404, "what was refused is not stored"
    end(client, streams.pop())
    streams.append(held(client))
    end(client, *streams)
    assert client.say("script: tokens=1")[-1].name == "complete"


def test_waiting_turns_are_limited(client: Client) -> None:
    """One runs, two wait, the next is refused."""
    first = held(client, conversationId="c-waiting")
    waiting = [client.post("script: tokens=1", conversationId="c-waiting") for _ in range(2)]
    for stream in waiting:
        assert stream.take(1)[0].name == "queued"
    body = {"message": "x", "conversationId": "c-waiting"}
    refused(client.ask("POST", "/chat/stream", body), 429, "conversation_busy")
    end(client, first)
    for stream in waiting:
        assert stream.rest()[-1].name == "complete"
    assert client.say("script: tokens=1", conversationId="c-waiting")[-1].data["messageCount"] == 8


def test_readers_are_limited(client: Client) -> None:
    """Six open streams and not seven, on every route that opens one; a closed one makes room."""
    first = held(client)
    others = [client.follow(first.run_id) for _ in range(5)]
    for stream in others:
        stream.take(1)
    refused(client.ask("GET", f"/chat/stream/{first.run_id}"), 503, "overloaded")
    refused(client.ask("POST", "/chat/stream", {"message": "x"}), 503, "overloaded")
    assert client.get(f"/runs/{first.run_id}")["state"] == "running", "what opens no stream is answered"
    end(client, first)
    for stream in others:
        stream.rest()
    assert client.follow(first.run_id).rest()[-1].name == "complete"


def test_bodies_are_limited(client: Client) -> None:
    """2,000 bytes are taken and 2,001 are not."""
    bare = b'{"message":"script: tokens=1 %b"}'
    room = 2000 - len(bare % b"")
    answer = client.ask("POST", "/chat/stream", bare % (b"x" * (room + 1)))
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert client.open("POST", "/chat/stream", bare % (b"x" * room)).rest()[-1].name == "complete"


@pytest.mark.slow
def test_a_server_that_shuts_down_begins_nothing(tmp_path: Path) -> None:
    """503 `draining` with Retry-After in both forms, while what runs goes on to its end and can be followed."""
    server = ServerProcess(tmp_path / "server", {"drain_s": 20}, command=("-m", "legato", "serve", "bot.py"))
    (server.folder / "bot.py").write_text(WAITING_BOT)
    server.start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        client = stack.enter_context(Client(server.port))
        stream = client.post("script: seed=1 tokens=60 upto=2@1 tool=wait@1")
        stream.take(1)
        os.kill(server.pid, signal.SIGTERM)
        body = {"message": "script: tokens=1"}
        while (answer := client.ask("POST", "/chat/stream", body)).status == 200:
            pass
        refused(answer, 503, "draining")
        assert answer.head["content-type"].startswith("text/event-stream")
        refused(client.ask("POST", "/chat/stream", body, {"Accept": "application/json"}), 503, "draining")
        again = client.follow(stream.run_id)
        (server.folder / "go").touch()
        assert stream.rest()[-1].name == "complete"
        assert text_of(again.rest()) == reply(1, 60)
        assert server.wait() == 0

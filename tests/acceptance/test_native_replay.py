"""protocols.md section 1: following a run from anywhere, from any place, at any time, to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from legato.providers.scripted import reply
from tests.client import Client, Event, Stream, text_of, wire_of
from tests.conftest import StartServer
from tests.server import ServerProcess

SOME = "script: seed=11 tokens=30"


@pytest.fixture(scope="module")
def ended(server: ServerProcess) -> tuple[str, list[Event]]:
    """A run that has ended, as its first reader saw it."""
    with Client(server.port) as client:
        stream = client.post(SOME)
        return stream.run_id, stream.rest()


@pytest.fixture
def going(client: Client) -> Iterator[tuple[Stream, list[Event]]]:
    """A run that stalls behind five chunks, and those."""
    stream = client.post("script: seed=12 tokens=9 stall=5")
    yield stream, stream.take(5)
    client.ask("POST", f"/chat/stream/{stream.run_id}/stop")


def place(event: Event) -> int:
    assert event.id is not None
    return int(event.id.rpartition(".")[2])


def test_a_replay_gives_the_same_bytes(client: Client, ended: tuple[str, list[Event]]) -> None:
    """From the start, an ended run reads as it did the first time, and ends as a response does."""
    run_id, events = ended
    stream = client.follow(run_id)
    assert wire_of(stream.rest()) == wire_of(events)
    assert stream.comments[:1] == [b": ok"]
    assert stream["x-run-id"] == run_id


def test_a_replay_has_the_headers_of_the_first_time(client: Client) -> None:
    """Session, conversation, run and message are told to every reader."""
    first = client.post("script: tokens=1", sessionId="sess")
    first.rest()
    again = client.follow(first.run_id)
    for name in ("x-session-id", "x-conversation-id", "x-run-id", "x-message-id", "cache-control", "content-type"):
        assert again[name] == first[name]


@pytest.mark.parametrize("taken", [1, 7, 29, 30])
@pytest.mark.parametrize("way", ["header", "query"])
def test_a_replay_goes_on_behind_any_cursor(
    client: Client, ended: tuple[str, list[Event]], taken: int, way: str
) -> None:
    """Exclusive: what the cursor names is not sent again, what follows it comes whole."""
    run_id, events = ended
    last = events[taken - 1]
    if way == "header":
        stream = client.follow(run_id, headers={"Last-Event-ID": str(last.id)})
    else:
        stream = client.follow(run_id, f"?after={place(last)}")
    assert wire_of(stream.rest()) == wire_of(events[taken:])


def test_the_header_wins_over_the_query(client: Client, ended: tuple[str, list[Event]]) -> None:
    """EventSource sends Last-Event-ID to the address that it was first given, `?after=` and all."""
    run_id, events = ended
    stream = client.follow(run_id, "?after=3", headers={"Last-Event-ID": str(events[19].id)})
    assert wire_of(stream.rest()) == wire_of(events[20:])


@pytest.mark.parametrize("query", ["?after=-1", ""])
def test_a_replay_without_a_cursor_begins_at_the_start(
    client: Client, ended: tuple[str, list[Event]], query: str
) -> None:
    """-1 and an empty Last-Event-ID stand for nothing received."""
    run_id, events = ended
    assert wire_of(client.follow(run_id, query, {"Last-Event-ID": ""}).rest()) == wire_of(events)


def test_a_replay_follows_live(client: Client, going: tuple[Stream, list[Event]]) -> None:
    """A second reader gets what was said, then what is being said, byte for byte as the first."""
    first, shown = going
    second = client.follow(first.run_id)
    assert [event.raw for event in second.take(5)] == [event.raw for event in shown]
    behind = client.follow(first.run_id, f"?after={place(shown[2])}")
    assert [event.raw for event in behind.take(2)] == [event.raw for event in shown[3:]]
    client.ask("POST", f"/chat/stream/{first.run_id}/stop")
    assert wire_of(first.rest()) == wire_of(second.rest()) == wire_of(behind.rest())


def test_many_readers_of_one_run_see_the_same(client: Client) -> None:
    """Readers that come at any time see one log."""
    first = client.post("script: seed=13 tokens=60 delay_ms=2")
    others = []
    for _ in range(8):
        first.take(5)
        others.append(client.follow(first.run_id))
    first.rest()
    whole = wire_of(client.follow(first.run_id).rest())
    assert [wire_of(other.rest()) for other in others] == [whole] * 8
    assert whole.count(b"event: chunk\n") == 60


def test_204_at_the_last_event(client: Client, ended: tuple[str, list[Event]]) -> None:
    """A browser's EventSource reconnects after a clean close; 204 stops it."""
    run_id, events = ended
    for query, headers in (
        (f"?after={place(events[-1])}", {}),
        ("", {"Last-Event-ID": str(events[-1].id)}),
    ):
        answer = client.ask("GET", f"/chat/stream/{run_id}{query}", headers=headers)
        assert (answer.status, answer.body) == (204, b"")
        assert "content-length" not in answer.head


def test_no_204_while_the_run_goes_on(client: Client, going: tuple[Stream, list[Event]]) -> None:
    """A reader that has everything so far waits for what is next."""
    first, shown = going
    stream = client.follow(first.run_id, f"?after={place(shown[-1])}")
    assert next(stream.blocks()) == b": ok"
    client.ask("POST", f"/chat/stream/{first.run_id}/stop")
    assert [event.name for event in stream.rest()] == ["complete"]


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        ("?after=999", None),
        ("", "{run}.0.999"),
        ("", "{run}.0.34"),
        ("", "{run}.1.5"),
        ("", "{run}.7.32"),
        ("", "r-000000000000ffffffffffffffffffff.0.3"),
        ("?after=3", "r-other.0.3"),
    ],
)
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_cursor_that_is_not_of_this_log_diverges(
    client: Client, ended: tuple[str, list[Event]], query: str, cursor: str | None, accept: str
) -> None:
    """409 for another run, for another epoch's prefix, and for what lies past the log's head."""
    run_id, _ = ended
    headers = {"Accept": accept} | ({"Last-Event-ID": cursor.format(run=run_id)} if cursor else {})
    answer = client.ask("GET", f"/chat/stream/{run_id}{query}", headers=headers)
    assert (answer.status, answer.code) == (409, "cursor_diverged")


def test_a_cursor_of_the_future_diverges_while_the_run_goes_on(
    client: Client, going: tuple[Stream, list[Event]]
) -> None:
    """What has not been written yet cannot have been read."""
    first, shown = going
    answer = client.ask("GET", f"/chat/stream/{first.run_id}?after={place(shown[-1]) + 1}")
    assert (answer.status, answer.code) == (409, "cursor_diverged")


@pytest.mark.parametrize(
    ("query", "cursor", "field"),
    [
        ("?after=x", None, "after"),
        ("?after=-2", None, "after"),
        ("?after=1e3", None, "after"),
        ("?after=99999999999999999999", None, "after"),
        ("", "5", "Last-Event-ID"),
        ("", "x.y.z", "Last-Event-ID"),
        ("", "{run}.0", "Last-Event-ID"),
        ("", "{run}.00.1", "Last-Event-ID"),
        ("", "{run}.0.-1", "Last-Event-ID"),
        ("", "{run}.0.1 ; x", "Last-Event-ID"),
        ("", "{run}.0.99999999999999999999", "Last-Event-ID"),
        ("", "A" * 10_000, "Last-Event-ID"),
        ("", "\xe9.0.1", "Last-Event-ID"),
    ],
)
def test_a_malformed_cursor_is_named(
    client: Client, ended: tuple[str, list[Event]], query: str, cursor: str | None, field: str
) -> None:
    """422, with the name of the parameter or header that is wrong."""
    run_id, _ = ended
    headers = {"Accept": "application/json"} | ({"Last-Event-ID": cursor.format(run=run_id)} if cursor else {})
    answer = client.ask("GET", f"/chat/stream/{run_id}{query}", headers=headers)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize("run_id", ["r-unknown", "x", "%00", "%ff", "a" * 5000, "%F0%9F%8E%B5", "a%2Fb"])
def test_an_unknown_run_is_not_found(client: Client, run_id: str) -> None:
    """404 for any id that names no run, on each route that takes one."""
    for method, path in (("GET", ""), ("POST", "/stop")):
        answer = client.ask(method, f"/chat/stream/{run_id}{path}")
        assert (answer.status, answer.code) == (404, "not_found")
    assert client.ask("GET", f"/runs/{run_id}").status == 404


@pytest.mark.slow
def test_replays_are_the_same_after_a_restart(start_server: StartServer) -> None:
    """An ended run, and the part of a cut one that was shown, read as before after `kill -9`; so do their cursors."""
    server = start_server(first_token_timeout_s=60)
    with Client(server.port) as client:
        whole = client.post(SOME)
        events = whole.rest()
        cut = client.post("script: seed=14 tokens=20 stall=8@1")
        shown = cut.take(8)
    server.restart()
    with Client(server.port) as client:
        assert wire_of(client.follow(whole.run_id).rest()) == wire_of(events)
        assert wire_of(client.follow(whole.run_id, f"?after={place(events[9])}").rest()) == wire_of(events[10:])
        assert client.ask("GET", f"/chat/stream/{whole.run_id}?after={place(events[-1])}").status == 204
        again = client.follow(cut.run_id).rest()
        assert wire_of(again[:8]) == wire_of(shown)
        assert text_of(again) == reply(14, 20)
        assert [event.data["index"] for event in again[:-1]] == list(range(1, len(again)))
        on = client.follow(cut.run_id, headers={"Last-Event-ID": str(shown[-1].id)}).rest()
        assert wire_of(on) == wire_of(again[8:])
        first_of_new = again[8]
        assert str(first_of_new.id).split(".")[1] == "1"
        # The same place, under the epoch that never wrote it.
        gone = f"{cut.run_id}.0.{place(first_of_new)}"
        answer = client.ask("GET", f"/chat/stream/{cut.run_id}", headers={"Last-Event-ID": gone})
        assert (answer.status, answer.code) == (409, "cursor_diverged")

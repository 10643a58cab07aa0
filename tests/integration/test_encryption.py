"""Encryption at rest as servers do it: what lies on the disk, which keys they take, what is told where one is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client
from tests.postgres import PostgresServer
from tests.server import ServerFailed, ServerProcess

ONE = "one:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
TWO = "two:YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
OTHER_ONE = "one:YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
BOT = Path(__file__).parents[1] / "sealed_bot.py"
WORDS = (
    "zqmessage",
    "zqtitle",
    "zqprompt",
    "zqmetadata",
    "zqreason",
    "zqtoolinput",
    "zqtooloutput",
    "zqstate",
    "zqnote",
    "zqjoberror",
    "zqsearched",
    "zqoldreply",
)
"""Planted; no other text has them."""

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts the bot's server on the test's folder; called again it stops the one before."""
    started: list[ServerProcess] = []

    def start(keys: str | None = ONE, **settings: Any) -> ServerProcess:
        for each in started:
            each.kill()
        own = {"encryption_keys": keys} if keys else {}
        server = ServerProcess(
            tmp_path / "server",
            own | {"titles": "words"} | settings,
            command=("-m", "legato", "serve", str(BOT)),
        )
        started.append(server)
        return server.start()

    yield start
    for each in started:
        each.kill()


def speak(server: ServerProcess) -> str:
    """Plant all words; return the id of the run that called a tool."""
    with Client(server.port) as client:
        made = client.ask(
            "POST",
            "/conversations",
            {"id": "c1", "systemPrompt": "zqprompt", "metadata": {"m": "zqmetadata"}, "title": "zqtitle"},
        )
        assert made.status == 201, made.body
        call = 'tool=look_up:{"key":"zqtoolinput"}@1'
        stream = client.post(f"script: tokens=3 {call} zqmessage zqsearched", conversationId="c1")
        run_id = stream.run_id
        assert stream.rest()[-1].name == "complete"
        client.say("script: tokens=2 text=zqoldreply", conversationId="c2", systemPrompt="zqprompt two")
        messages = client.get("/conversations/c1/messages")["messages"]
        given = client.ask("PUT", f"/messages/{messages[-1]['id']}/feedback", {"thumb": "down", "reason": "zqreason"})
        assert given.status == 200, given.body
        assert client.ask("POST", "/notes", {"text": "zqnote"}).status == 200
        found = client.get("/search?q=zqsearched")
        assert len(found["results"]) == 1, found
        until(lambda: client.ask("GET", "/admin/dead-letters").status == 200)
        until(lambda: client.get("/admin/dead-letters")["deadLetters"])
        listed = client.get("/admin/dead-letters")["deadLetters"][0]
        letter = client.get(f"/admin/dead-letters/{listed['id']}")
        assert letter["error"] == "zqjoberror zqnote"
        assert letter["events"][0]["payload"] == {"text": "zqnote"}
        replay = client.follow(run_id)
        replay.rest()
        assert b"zqtoolinput" in replay.raw
    return run_id


def until(found: Callable[[], Any]) -> None:
    """Wait until there is something."""
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)


def planted(folder: Path) -> set[str]:
    """Return the planted words that stand anywhere in the files of a folder, in UTF-8 or UTF-16."""
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {word for word in WORDS if word.encode() in data or word.encode("utf-16-le") in data}
    return found


@pytest.mark.slow
def test_nothing_that_was_said_lies_in_the_files_of_sqlite(serve: Serve) -> None:
    """Neither in the database, its write-ahead log, the queue's, nor in the server's own log; and all is read again."""
    server = serve()
    run_id = speak(server)
    assert planted(server.folder / "data") == set()
    server.kill()
    assert planted(server.folder / "data") == set()
    with Client(serve().port) as client:
        assert client.get("/conversations/c1")["title"] == "zqtitle"
        assert client.follow(run_id).rest()[-1].name == "complete"
        assert len(client.get("/search?q=zqsearched")["results"]) == 1
        # Whole words alone are found.
        assert client.get("/search?q=zqsearch")["results"] == []
        assert client.ask("GET", "/notes").status in (404, 405)
    assert not any(word in server.log for word in WORDS)


def test_without_encryption_they_lie_there(serve: Serve) -> None:
    """The test above would see them."""
    server = serve(None)
    speak(server)
    assert planted(server.folder / "data") == set(WORDS)


@pytest.mark.slow
def test_nothing_that_was_said_lies_in_the_files_of_postgresql(serve: Serve) -> None:
    """Neither in tables, indexes, the write-ahead log nor the server's log."""
    with closing(PostgresServer().start()) as postgres:
        server = serve(database_url=postgres.make_database())
        speak(server)
        server.kill()
        postgres.stop("fast")
        assert planted(postgres.folder) == set()
        postgres.start()
        with Client(serve(database_url=server.settings["database_url"]).port) as client:
            assert client.get("/conversations/c1")["title"] == "zqtitle"


def test_a_server_without_keys_does_not_start_on_an_encrypted_database(serve: Serve) -> None:
    """It says which key it wants."""
    serve().kill()
    with pytest.raises(ServerFailed, match="the server ended with 78") as failed:
        serve(None)
    said = "is encrypted (encryption keys: one): set LEGATO_ENCRYPTION_KEYS"
    assert said in " ".join(str(failed.value).split())

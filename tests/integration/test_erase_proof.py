"""Erasing a principal leaves nothing: planted words and ids are looked for in every table and every byte of every file.

A real server with its queue. What is planted is found before, so that the search is known to find it; another
principal's words are there afterwards.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from legato import Context, Legato
from legato.runs import erase
from legato.settings import load_settings
from legato.storage.database import open_database
from legato.storage.keys import create_key
from legato.testing import TestServer, serving
from tests.postgres import Postgres

OWNER = "zelda-quixotewind"
"""An id that is a word of its own."""
MARK = "wyvernquartz"
"""Begins every planted word, so that one search finds all that is left; each has an end of its own."""
KEPT = "basiliskamber"
"""The same of another principal, who stays."""
CONVERSATIONS, OTHERS = 6, 2
"""Hers, and those of the one who stays."""
ALLOWED = {"audit_entry"}
"""Tables in which the id of the principal may stand afterwards; never a word."""

pytestmark = pytest.mark.slow
bot = Legato()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other server that could take a key for good which is gone here."""
    monkeypatch.setattr(erase, "GRACE_MS", 500)


@bot.http("POST", "/plant", enqueues=["planted", "slow"])
async def plant(request: dict[str, Any], ctx: Context) -> dict[str, bool]:
    """Plants a word wherever steps can."""
    word, conversation = request["word"], request["conversation"]
    await ctx.state.set("notes", word, {"said": word})
    await ctx.state.set(f"conversation:{conversation}", "k", {"said": word})
    await ctx.enqueue("planted", {"said": word, "conversationId": conversation, "fails": request["fails"]})
    return {"done": True}


@bot.queue("planted", attempts=1, backoff_s=0.0, name="note-planted")
async def note(event: dict[str, Any], ctx: Context) -> None:
    """Is done, or becomes a dead letter that repeats the word."""
    if event["fails"]:
        raise RuntimeError(f"could not take {event['said']}")


@bot.queue("planted", attempts=1, name="note-batches", batch=50)
async def note_all(events: list[Any], ctx: Context) -> None:
    """Takes events of several owners in one job, and becomes a dead letter with all of them."""
    raise RuntimeError(repr(events))


class Site:
    """A server, and who may come in."""

    def __init__(self, server: TestServer, keys: dict[str, str]) -> None:
        self.port = server.port
        self.keys = keys

    def call(
        self, who: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request and return status and body, however long they take to come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Authorization": f"Bearer {self.keys[who]}"} | (headers or {})
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, sent | ({"Content-Type": "application/json"} if data else {}))
        response = connection.getresponse()
        found = response.status, response.read()
        connection.close()
        return found

    def json(self, *given: Any, **more: Any) -> Any:
        status, body = self.call(*given, **more)
        assert status < 300, (given, status, body)
        return json.loads(body)


@contextmanager
def site_of(settings: dict[str, Any]) -> Iterator[Site]:
    database = open_database(load_settings(**settings))
    keys = {}
    for name, role in ((OWNER, "member"), ("root", "admin"), ("ben", "member")):
        word = f"{MARK}keyname" if name == OWNER else name

        def make(tx: Any, name: str = name, role: Any = role, word: str = word) -> str:
            return create_key(tx, owner=name, role=role, name=word, now_ms=int(time.time() * 1000))

        keys[name] = database.transact(make, writes=True)
    database.close()
    with serving(bot, auth="keys", rate_limit="off", script={"tokens": 3}, **settings) as server:
        yield Site(server, keys)


def plant_all(site: Site, owner: str, mark: str, conversations: int = CONVERSATIONS) -> None:
    """Have a principal leave words behind wherever a person can."""

    def ask(method: str, path: str, body: object, **headers: str) -> bytes:
        status, found = site.call(owner, method, path, body, headers)
        assert status < 300, (path, status, found)
        return found

    for number in range(conversations):
        conversation = f"{mark}-c{number}"
        words = {"title": f"{mark}title{number}", "systemPrompt": f"{mark}prompt{number}"}
        ask("POST", "/conversations", {"id": conversation, "metadata": {"m": f"{mark}meta{number}"}, **words})
        for turn in range(3):
            said = " ".join(f"{mark}word{number}x{turn}x{place}" for place in range(100))
            body = {
                "message": f"script: tokens=40 delay_ms=0 {said}",
                "conversationId": conversation,
                "sessionId": f"{mark}-session",
                "metadata": {"n": f"{mark}note"},
            }
            key = {"Idempotency-Key": f"{mark}-{number}-{turn}"}
            assert b"event: complete" in ask("POST", "/chat/stream", body, **key)
        page = json.loads(ask("GET", f"/conversations/{conversation}/messages", None))
        last = page["messages"][-1]["id"]
        ask("PUT", f"/messages/{last}/feedback", {"thumb": "down", "reason": f"{mark}reason"})
        ask("POST", "/plant", {"word": f"{mark}state{number}", "conversation": conversation, "fails": number % 2 == 0})
        # A branch beside it.
        ask("POST", f"/messages/{last}/regenerate", {})


def stream_on(site: Site, mark: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Begin a reply that is being made while its owner is erased."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    body = {"message": f"script: tokens=5000 delay_ms=20 {mark}live", "conversationId": f"{mark}-live"}
    headers = {"Authorization": f"Bearer {site.keys[OWNER]}", "Content-Type": "application/json"}
    connection.request("POST", "/chat/stream", json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200
    while not response.readline().startswith(b"event: "):
        pass
    return connection, response


def read_to_end(response: http.client.HTTPResponse) -> None:
    """Read until the reply ends; its log is gone, so the stream is cut."""
    with suppress(http.client.IncompleteRead):
        response.read()


def until(condition: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
    begun_s = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - begun_s < limit_s, what
        time.sleep(0.1)
    return found


def rows_of_sqlite(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give every value of every table, shadow tables and sequences too, of both files; decoded where it is packed."""
    for path in (folder / "legato.db", folder / "queue.db"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            # The full-text index itself gives no rows; what it is made of are tables.
            for table in (each for each in tables if each != "search_index"):
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    yield table, b"\0".join(_bytes(value) for value in row)


def counts_of_sqlite(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{folder / 'legato.db'}?mode=ro", uri=True, timeout=30)) as database:
        names = ("run", "run_log", "segment")
        return {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def rows_of_postgres(url: str) -> Iterator[tuple[str, bytes]]:
    """Give every row of every table of all schemas, what is packed decoded."""
    with psycopg.connect(url, autocommit=True) as database:
        tables = database.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            for row in database.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall():
                yield table, b"\0".join(_bytes(value) for value in row)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        try:
            return value + zlib.decompress(value[0:])
        except zlib.error:
            return value
    return str(value).encode("utf-8", "surrogatepass")


def tables_with(rows: Iterator[tuple[str, bytes]], *words: str) -> dict[str, int]:
    """Return in how many rows of which tables one of the words stands."""
    found: Counter[str] = Counter()
    for table, data in rows:
        if any(word.encode() in data for word in words):
            found[table] += 1
    return dict(found)


def files_with(folder: Path, word: str) -> dict[str, int]:
    """Return how often a word stands in the bytes of which files."""
    found = {str(path.relative_to(folder)): bytes_of(path).count(word.encode()) for path in files_of(folder)}
    return {name: count for name, count in found.items() if count}


def bytes_of(path: Path) -> bytes:
    # A log that the database has just deleted holds nothing.
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def total(site: Site) -> dict[str, Any]:
    """Return the figures of all replies."""
    found: dict[str, Any] = site.json("root", "GET", "/admin/figures")["total"]
    return found


def queue_is_still(site: Site) -> bool:
    """Whether every event has become a job that is done or a dead letter."""
    queues = site.json("root", "GET", "/admin/queue")["steps"]
    return all(each["waiting"] == 0 and each["taken"] == 0 for each in queues)


def test_nothing_of_an_erased_principal_is_left_on_sqlite(tmp_path: Path) -> None:
    """Not a word and not an id, in no table and in no byte of the data folder; but for the id in the audit log."""
    with site_of({"data_dir": tmp_path}) as site:
        plant_all(site, OWNER, MARK)
        plant_all(site, "ben", KEPT, OTHERS)
        until(
            lambda: tables_with(rows_of_sqlite(tmp_path), MARK).get("search_entry", 0) >= CONVERSATIONS * 4,
            "it is searchable",
        )
        until(lambda: total(site)["messages"] == (CONVERSATIONS + OTHERS) * 4, "all is counted")
        until(lambda: queue_is_still(site), "the queue is still")
        connection, live = stream_on(site, MARK)
        before = tables_with(rows_of_sqlite(tmp_path), MARK, OWNER)
        in_files = files_with(tmp_path, MARK)
        print("planted:", before, in_files)
        assert {"conversation", "message", "run", "state", "search_entry", "request_key", "api_key"} <= {*before}
        assert {"workflow_input", "workflow_output"} <= {*before}, "jobs and dead letters"
        assert "charge" in before
        assert in_files["legato.db"] + in_files.get("legato.db-wal", 0) > 1000
        kept = tables_with(rows_of_sqlite(tmp_path), KEPT)["message"]
        figures = total(site)

        answer = site.json(OWNER, "DELETE", f"/me?confirm={quote(OWNER)}")
        assert answer["owner"] == OWNER
        begun_s = time.monotonic()
        read_to_end(live)
        connection.close()
        until(lambda: not site.json("root", "GET", "/admin/erasures")["erasures"], "it is done")
        until(lambda: not files_with(tmp_path, MARK), f"no byte is left: {files_with(tmp_path, MARK)}")
        print("erased after", time.monotonic() - begun_s)

        assert tables_with(rows_of_sqlite(tmp_path), MARK) == {}
        assert set(tables_with(rows_of_sqlite(tmp_path), OWNER)) <= ALLOWED
        assert counts_of_sqlite(tmp_path) == {"run": OTHERS * 4, "run_log": OTHERS * 4, "segment": 0}, (
            "packed, so nothing is seen"
        )
        assert site.call(OWNER, "GET", "/me")[0] == 401
        after = total(site)
        assert (after["messages"], after["outputTokens"]) == (figures["messages"], figures["outputTokens"])
        assert tables_with(rows_of_sqlite(tmp_path), KEPT)["message"] == kept
        assert site.json("root", "GET", "/admin/audit/verify")["whole"]
    assert files_with(tmp_path, MARK) == {}
    assert tables_with(rows_of_sqlite(tmp_path), KEPT)["message"] == kept


def test_nothing_of_an_erased_principal_is_left_on_postgres(postgres: Postgres) -> None:
    """Not a word and not an id, in no table of any schema; but for the id in the audit log."""
    url = postgres.make_database()
    try:
        with site_of({"database_url": url}) as site:
            plant_all(site, OWNER, MARK)
            plant_all(site, "ben", KEPT, OTHERS)
            until(
                lambda: tables_with(rows_of_postgres(url), MARK).get("search_entry", 0) >= CONVERSATIONS * 4,
                "it is searchable",
            )
            until(lambda: queue_is_still(site), "the queue is still")
            connection, live = stream_on(site, MARK)
            before = tables_with(rows_of_postgres(url), MARK, OWNER)
            print("planted:", before)
            assert {"conversation", "message", "run", "state", "search_entry", "workflow_input"} <= {*before}
            kept = tables_with(rows_of_postgres(url), KEPT)["message"]
            site.json(OWNER, "DELETE", f"/me?confirm={quote(OWNER)}")
            read_to_end(live)
            connection.close()
            until(lambda: not site.json("root", "GET", "/admin/erasures")["erasures"], "it is done")
            assert tables_with(rows_of_postgres(url), MARK) == {}
            assert set(tables_with(rows_of_postgres(url), OWNER)) <= ALLOWED
            assert tables_with(rows_of_postgres(url), KEPT)["message"] == kept
    finally:
        postgres.drop_database(url)


def keys_of(folder: Path, owner: str) -> list[bytes]:
    """Return the wrapped data keys of a principal and of that one's conversations."""
    with closing(sqlite3.connect(f"file:{folder / 'legato.db'}?mode=ro", uri=True, timeout=30)) as database:
        of_conversations = "SELECT key FROM conversation WHERE owner = ?"
        wanted = f"SELECT wrapped FROM data_key WHERE owner = ? OR conversation_key IN ({of_conversations})"
        return [wrapped for (wrapped,) in database.execute(wanted, (owner, owner))]


def test_no_key_of_an_erased_principal_is_left(tmp_path: Path) -> None:
    """With encryption on: not in a byte of the data folder, so that no copy of what was sealed opens; nor a name."""
    keys = "one:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    with site_of({"data_dir": tmp_path, "encryption_keys": keys}) as site:
        plant_all(site, OWNER, MARK, OTHERS)
        plant_all(site, "ben", KEPT, 1)
        until(lambda: queue_is_still(site), "the queue is still")
        hers, his = keys_of(tmp_path, OWNER), keys_of(tmp_path, "ben")
        # One of each conversation, and one of what belongs to none.
        assert (len(hers), len(his)) == (OTHERS + 1, 2)
        files = b"".join(bytes_of(path) for path in files_of(tmp_path))
        assert all(each in files for each in hers)
        # Names stand there (of state's keys too), nothing that was said.
        assert f"{MARK}-c0".encode() in files
        said = ("word", "title", "prompt", "meta", "note", "reason")
        assert [each for each in said if f"{MARK}{each}".encode() in files] == []

        site.json(OWNER, "DELETE", f"/me?confirm={quote(OWNER)}")
        until(lambda: not site.json("root", "GET", "/admin/erasures")["erasures"], "it is done")
        until(lambda: not files_with(tmp_path, MARK), f"no byte is left: {files_with(tmp_path, MARK)}")
        assert set(tables_with(rows_of_sqlite(tmp_path), OWNER)) <= ALLOWED
        files = b"".join(bytes_of(path) for path in files_of(tmp_path))
        assert [each in files for each in hers] == [False] * len(hers)
        assert keys_of(tmp_path, OWNER) == []
        assert keys_of(tmp_path, "ben") == his
        assert site.json("ben", "GET", f"/conversations/{KEPT}-c0")["title"] == f"{KEPT}title0"

"""Who may: hosts, origins, keys, owners that never see each other, and limits tested where they are."""

from __future__ import annotations

import hmac
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from legato.core.principal import Role
from legato.storage.database import Database
from legato.storage.keys import create_key, find_principal, revoke_key
from legato.storage.migrate import migrate
from legato.storage.statement import Transaction
from tests.client import Client, Connection, Headers, request_bytes, wire_of
from tests.server import ServerFailed, ServerProcess

PAGE = "https://chat.example"
HELD = "script: seed=1 tokens=9 stall=1"


def new_id(prefix: str = "c") -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def make_keys(path: Path, owners: dict[str, Role]) -> dict[str, str]:
    """Make a key for each owner in a server's database; return them by owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    migrate(path)
    database = Database(path)
    connection = database.connect(writes=True)
    tx = Transaction(connection)
    made = {owner: create_key(tx, owner=owner, role=role, name=owner, now_ms=1) for owner, role in owners.items()}
    database.close()
    return made


class Guarded:
    """A server with keys, and clients that hold them."""

    def __init__(self, process: ServerProcess, keys: dict[str, str]) -> None:
        self.process = process
        self.keys = keys
        self._clients: list[Client] = []

    def client(self, owner: str | None, **headers: str) -> Client:
        fields = {"Authorization": f"Bearer {self.keys[owner]}"} if owner else {}
        client = Client(self.process.port, fields | headers)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.__exit__()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    process = ServerProcess(
        tmp_path_factory.mktemp("guarded"), {"auth": "keys", "allowed_origins": f"{PAGE},http://localhost:5173"}
    )
    made = make_keys(process.database, {"ann": "admin", "ben": "member", "eve": "member"})
    found = Guarded(process.start(), made)
    yield found
    found.close()
    process.kill()


# Without authentication: this machine, and its own pages


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "localhost:{port}", "[::1]:{port}"])
def test_loopback_names_are_served(client: Client, host: str) -> None:
    """However this machine calls itself."""
    assert client.ask("GET", "/conversations", headers={"Host": host.format(port=client.port)}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "localhost@evil.example",
        "evil.example:localhost",
        "localhost:1:2",
        "[::1",
        "::1",
        "0.0.0.0",
        "",
    ],
)
def test_another_host_name_is_refused(client: Client, host: str) -> None:
    """A name that somebody else's DNS points here is not served (DNS rebinding)."""
    answer = client.ask("GET", "/conversations", headers={"Host": host.format(port=client.port)})
    assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:1",
        "http://localhost.evil.example",
        "http://[",
        "http://[::1",
        "x",
        "://",
        "file://",
        "http://localhost@evil.example",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_another_origin_is_refused(client: Client, origin: str, method: str) -> None:
    """Pages of other sites may neither read nor post, whatever they call themselves; no CORS header helps them."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST" if method == "OPTIONS" else ""}
    answer = client.ask(method, "/conversations", {} if method == "POST" else None, headers)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert "access-control-allow-origin" not in answer.head


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_site_cannot_post(client: Client, kind: str) -> None:
    """What a browser sends without asking first is no JSON (CSRF), even where it hides its origin."""
    name = new_id()
    body = f'{{"message":"x","conversationId":"{name}"}}'.encode()
    assert client.ask("POST", "/chat/stream", body, {"Content-Type": kind}).status == 415
    assert client.ask("GET", f"/conversations/{name}").status == 404


def test_a_page_of_this_server_may_call(client: Client) -> None:
    """Same origin: host and port as the request names them."""
    for host in (f"localhost:{client.port}", f"[::1]:{client.port}"):
        answer = client.ask("GET", "/conversations", headers={"Origin": f"http://{host}", "Host": host})
        assert answer.status == 200
        assert answer.head["access-control-allow-origin"] == f"http://{host}"


def test_both_loopbacks_are_listened_on(server: ServerProcess) -> None:
    """IPv4 and IPv6, on one port."""
    for host in ("127.0.0.1", "::1"):
        connection = Connection(server.port, host=host)
        connection.send(request_bytes("GET", "/conversations?limit=1"))
        assert connection.read_head().status == 200
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_is_refused_without_keys(tmp_path: Path, host: str) -> None:
    """One clear sentence that says what to do, and the exit status of a wrong configuration."""
    process = ServerProcess(tmp_path, {"host": host})
    with pytest.raises(ServerFailed):
        process.start()
    assert process.wait() == 78
    lines = process.log.strip().splitlines()
    assert len(lines) == 1, lines
    assert "LEGATO_AUTH=keys" in lines[0]
    assert host in lines[0]


# With keys


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer lk_",
        "Bearer lk_000000000000_x",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer x{key}",
        "Bearer {id}_",
        "Bearer {id}_{other}",
        "Bearer {secret}",
        "Bearer \xff",
        "Bearer " + "k" * 10_000,
    ],
)
def test_a_wrong_key_is_refused(guarded: Guarded, header: str) -> None:
    """401 says how to do it right, in both forms, and the same for whatever is wrong."""
    key = guarded.keys["ann"]
    lead, key_id, secret = key.split("_", 2)
    other = guarded.keys["ben"].split("_", 2)[2]
    value = header.format(key=key, id=f"{lead}_{key_id}", secret=secret, other=other)
    for path, kind in (("/conversations", "application/problem+json"), ("/chat/stream/r-0", "text/event-stream")):
        answer = guarded.client(None).ask("GET", path, headers={"Authorization": value})
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert answer.head["www-authenticate"].startswith("Bearer")
        assert answer.head["content-type"].startswith(kind)
        assert secret.encode() not in answer.body


def test_a_key_opens_every_route(guarded: Guarded) -> None:
    """The scheme's name in any case."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        client = guarded.client(None, Authorization=f"{scheme} {guarded.keys['ben']}")
        assert client.say("script: tokens=1")[-1].name == "complete"


def test_nothing_is_open_without_a_key(guarded: Guarded) -> None:
    """No route answers, not even whether it exists."""
    for path in ("/", "/openapi.json", "/conversations", "/nothing", "/chat/stream/r-0", "/docs"):
        assert guarded.client(None).ask("GET", path).status == 401


def test_a_key_is_stored_as_a_hash(guarded: Guarded) -> None:
    """Who reads the database file cannot call."""
    for key in guarded.keys.values():
        secret = key.split("_", 2)[2].encode()
        for path in guarded.process.data_dir.iterdir():
            assert secret not in path.read_bytes()


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also for ids that do not exist: each look-up compares one digest, with hmac.compare_digest."""
    made = make_keys(tmp_path / "legato.db", {"ann": "admin"})["ann"]
    compared: list[tuple[int, int]] = []
    original = hmac.compare_digest

    def comparing(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return original(a, b)

    monkeypatch.setattr(hmac, "compare_digest", comparing)
    with closing(sqlite3.connect(tmp_path / "legato.db")) as connection:
        tx = Transaction(connection)
        found = find_principal(tx, made)
        assert found is not None
        assert (found.id, found.role) == ("ann", "admin")
        for wrong in ("", "lk_", "lk_zzz_x", made[:-1], made + "x", made.replace("lk_", ""), "lk_lk_" + made):
            assert find_principal(tx, wrong) is None
        assert compared == [(32, 32)] * 8
        assert revoke_key(tx, made.split("_")[1], 2)
        assert find_principal(tx, made) is None
        assert not revoke_key(tx, made.split("_")[1], 3), "it was revoked already"


def test_a_revoked_key_is_refused(guarded: Guarded) -> None:
    """At once where it was not used, within a few seconds where it was."""
    made = make_keys(guarded.process.database, {"old": "member"})["old"]
    with closing(sqlite3.connect(guarded.process.database)) as connection:
        revoke_key(Transaction(connection), made.split("_")[1], 2)
        connection.commit()
    client = guarded.client(None, Authorization=f"Bearer {made}")
    assert client.ask("GET", "/conversations").status == 401


@pytest.mark.slow
def test_a_key_that_is_in_use_is_revoked_within_seconds(guarded: Guarded) -> None:
    """A good key is remembered for five seconds and no longer."""
    made = make_keys(guarded.process.database, {"used": "member"})["used"]
    client = guarded.client(None, Authorization=f"Bearer {made}")
    assert client.ask("GET", "/conversations").status == 200
    with closing(sqlite3.connect(guarded.process.database)) as connection:
        revoke_key(Transaction(connection), made.split("_")[1], 2)
        connection.commit()
    until = time.monotonic() + 7
    while client.ask("GET", "/conversations").status == 200:
        assert time.monotonic() < until
        time.sleep(0.25)


# Owners


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


# Other origins


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:5173", "HTTPS://CHAT.EXAMPLE"])
def test_a_configured_origin_may_call(guarded: Guarded, origin: str) -> None:
    """Its preflight is answered without a key, its calls with one; what it needs to read is exposed."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = guarded.client(None).ask("OPTIONS", "/chat/stream", headers=asked)
    assert answer.status == 204
    assert answer.head["access-control-allow-origin"] == origin
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} == set(answer.head["access-control-allow-methods"].split(", "))
    allowed = answer.head["access-control-allow-headers"].lower()
    for name in ("content-type", "authorization", "idempotency-key", "last-event-id"):
        assert name in allowed
    assert "origin" in answer.head["vary"].lower()
    stream = guarded.client("ann").post("script: tokens=1", {"Origin": origin})
    assert stream["access-control-allow-origin"] == origin
    assert "X-Run-Id" in stream["access-control-expose-headers"]
    refused = guarded.client(None).ask("GET", "/conversations", headers={"Origin": origin})
    assert (refused.status, refused.head["access-control-allow-origin"]) == (401, origin)


@pytest.mark.parametrize(
    "origin", ["https://chat.example.evil", "http://chat.example", "https://chat.example:8443", "null"]
)
def test_any_other_origin_may_not(guarded: Guarded, origin: str) -> None:
    """Scheme, host and port all count; with a key too, and never a wildcard."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for owner, method in ((None, "OPTIONS"), ("ann", "GET")):
        answer = guarded.client(owner).ask(method, "/conversations", headers=asked)
        assert (answer.status, answer.code) == (403, "forbidden")
        assert not [name for name, _ in answer.head.headers if name.startswith("access-control")]

"""Who may: hosts, origins and keys."""

from __future__ import annotations

import hmac
import uuid
from pathlib import Path

import pytest

from legato.app import check_access
from legato.core.errors import ConfigurationError
from legato.http.credentials import KEY_CACHE_S
from legato.storage.keys import find_principal, revoke_key
from legato.storage.sqlite import SqliteDatabase
from legato.storage.statement import Transaction
from tests.client import Client, Connection, request_bytes
from tests.conftest import node_settings
from tests.guarded import PAGE, Guarded, make_keys
from tests.page_world import open_site
from tests.server import ServerFailed, ServerProcess


def new_id(prefix: str = "c") -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_is_refused_without_keys(tmp_path: Path, host: str) -> None:
    """The sentence says what to do."""
    with pytest.raises(ConfigurationError, match="LEGATO_AUTH=keys") as refused:
        check_access(node_settings(tmp_path, host=host))
    assert host in refused.value.message
    check_access(node_settings(tmp_path, host=host, auth="keys"))


@pytest.mark.slow
def test_a_server_that_may_not_start_says_so(tmp_path: Path) -> None:
    """In one line, with the exit status of a wrong configuration."""
    process = ServerProcess(tmp_path, {"host": "0.0.0.0"})
    with pytest.raises(ServerFailed):
        process.start()
    assert process.wait() == 78
    lines = process.log.strip().splitlines()
    assert len(lines) == 1, lines
    assert "LEGATO_AUTH=keys" in lines[0]
    assert "0.0.0.0" in lines[0]


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
    """Beside the page's own files no route answers, not even whether it exists."""
    for path in ("/openapi.json", "/me", "/admin/figures", "/conversations", "/nothing", "/chat/stream/r-0", "/docs"):
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

    def compare(tx: Transaction) -> None:
        found = find_principal(tx, made)
        assert found is not None
        assert (found.id, found.role) == ("ann", "admin")
        for wrong in ("", "lk_", "lk_zzz_x", made[:-1], made + "x", made.replace("lk_", ""), "lk_lk_" + made):
            assert find_principal(tx, wrong) is None
        assert compared == [(32, 32)] * 8
        assert revoke_key(tx, made.split("_")[1], 2)
        assert find_principal(tx, made) is None
        assert not revoke_key(tx, made.split("_")[1], 3), "it was revoked already"

    SqliteDatabase(tmp_path / "legato.db").transact(compare, writes=True)


def test_a_revoked_key_is_refused(guarded: Guarded) -> None:
    """At once where it was not used, within a few seconds where it was."""
    made = make_keys(guarded.process.database, {"old": "member"})["old"]
    database = SqliteDatabase(guarded.process.database)
    assert database.transact(lambda tx: revoke_key(tx, made.split("_")[1], 2), writes=True)
    client = guarded.client(None, Authorization=f"Bearer {made}")
    assert client.ask("GET", "/conversations").status == 401


async def test_a_key_that_is_in_use_is_revoked_within_seconds(tmp_path: Path) -> None:
    """A good key is remembered for five seconds and no longer, where another process revokes it."""
    async with open_site(tmp_path) as site:
        await site.make_keys(ben="member")
        key_id = site.keys["ben"].split("_")[1]
        statuses = []
        for shift_ms in (0, 0, int(KEY_CACHE_S * 1000)):
            site.clock.shift_ms += shift_ms
            statuses.append((await site.ask("GET", "/conversations", key=site.keys["ben"])).status)
            site.node.database.transact(lambda tx: revoke_key(tx, key_id, 2), writes=True)
    assert statuses == [200, 200, 401]
    assert KEY_CACHE_S == 5


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

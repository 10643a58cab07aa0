"""protocols.md section 1: every failure before the stream opens has its status, one code, and one body in two forms."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from legato.core.errors import LegatoError
from tests.client import Answer, Client, parse_event
from tests.conftest import described_server
from tests.naive import NaiveClient
from tests.server import ServerProcess

PLAIN: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A request to the stream's own routes, and how it is to fail."""

    status: int
    code: str
    method: str = "POST"
    path: str = "/chat/stream"
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


FAILURES = {
    "no body": Failing(status=400, code="invalid_json"),
    "an empty body": Failing(status=400, code="invalid_json", body=b""),
    "not JSON": Failing(status=400, code="invalid_json", body=b"hello"),
    "not UTF-8": Failing(status=400, code="invalid_json", body=b'{"message":"\xff"}'),
    "text/plain": Failing(
        status=415, code="unsupported_media_type", body={"message": "x"}, headers={"Content-Type": "text/plain"}
    ),
    "compressed": Failing(
        status=415, code="unsupported_media_type", body={"message": "x"}, headers={"Content-Encoding": "gzip"}
    ),
    "a wrong field": Failing(status=422, code="invalid_request", body={"message": 5}),
    "too large": Failing(status=413, code="body_too_large", body={"message": "x" * 2_000_000}),
    "no such run": Failing(status=404, code="not_found", method="GET", path="/chat/stream/r-0"),
    "another site's page": Failing(
        status=403, code="forbidden", body={"message": "x"}, headers={"Origin": "https://evil.example"}
    ),
    "another host's name": Failing(
        status=403, code="forbidden", body={"message": "x"}, headers={"Host": "evil.example"}
    ),
    "the wrong method": Failing(status=405, code="method_not_allowed", method="GET"),
    "a message beyond the window": Failing(
        status=413, code="message_too_long", body={"message": "word " * 5000, "model": "tiny"}
    ),
    "a model that is not configured": Failing(
        status=422, code="invalid_request", body={"message": "x", "model": "skripted"}
    ),
}


def ask(client: Client, failing: Failing, accept: str) -> Answer:
    return client.ask(failing.method, failing.path, failing.body, {**failing.headers, "Accept": accept})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of this module's own: what others have left going would change what is compared."""
    yield from described_server(tmp_path_factory.mktemp("failures"))


@pytest.fixture
def untouched(client: Client) -> Iterator[None]:
    """Nothing was stored by what the test did, and the server answers still."""
    before = client.get("/conversations?limit=1")
    yield
    assert client.get("/conversations?limit=1") == before
    assert client.say("script: tokens=1")[-1].name == "complete"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("accept", ["", "*/*", "text/event-stream", "text/html"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_an_error_event(client: Client, name: str, accept: str) -> None:
    """Whoever did not ask for JSON gets `event: error` with the right status, so that a naive client notices."""
    failing = FAILURES[name]
    answer = ask(client, failing, accept)
    assert answer.status == failing.status
    assert answer.head["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.body.endswith(b"\n\n")
    assert answer.body.count(b"\n\n") == 1
    event = parse_event(answer.body.removesuffix(b"\n\n"))
    assert (event.name, event.id) == ("error", None)
    data = event.data
    assert (data["code"], data["status"], data["partial"]) == (failing.code, failing.status, False)
    assert data["conversationId"] is None
    assert isinstance(data["retryable"], bool)
    assert data["error"]
    assert (b"errors" in answer.body) == (failing.status == 422)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("accept", ["application/json", "application/problem+json", "text/html, application/json;q=.9"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_a_problem_for_whoever_asks_for_json(client: Client, name: str, accept: str) -> None:
    """RFC 9457 problem details, with the same status and code."""
    failing = FAILURES[name]
    answer = ask(client, failing, accept)
    assert answer.status == failing.status
    assert answer.head["content-type"] == "application/problem+json"
    assert answer.head["cache-control"] == "no-store"
    data = answer.json
    assert (data["status"], data["code"], data["type"]) == (failing.status, failing.code, "about:blank")
    assert set(data) - {"errors"} == {"type", "title", "status", "code", "detail", "retryable"}
    assert ("errors" in data) == (failing.status == 422)


@pytest.mark.parametrize("name", [name for name, failing in FAILURES.items() if not failing.headers])
def test_both_forms_say_the_same(client: Client, name: str) -> None:
    """One error, two spellings."""
    failing = FAILURES[name]
    problem = ask(client, failing, "application/json").json
    event = parse_event(ask(client, failing, "*/*").body.removesuffix(b"\n\n")).data
    assert event["error"] == problem["detail"]
    for key in ("status", "code", "retryable"):
        assert event[key] == problem[key]
    assert event.get("errors") == problem.get("errors")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/conversations/c-none", 404),
        ("GET", "/conversations/c-none/messages", 404),
        ("PATCH", "/conversations/c-none", 404),
        ("DELETE", "/conversations/c-none", 404),
        ("POST", "/conversations/c-none/fork", 404),
        ("POST", "/messages/m-none/regenerate", 404),
        ("PUT", "/messages/m-none/feedback", 404),
        ("GET", "/runs/r-none", 404),
        ("POST", "/chat/stream/r-none/stop", 404),
        ("PUT", "/conversations", 405),
        ("DELETE", "/runs/r-none", 405),
        ("GET", "/conversations?limit=0", 422),
        ("GET", "/conversations?cursor=x", 422),
        ("GET", "/conversations/c/messages?cursor=-1", 422),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/json"])
def test_every_other_route_answers_with_a_problem(
    client: Client, method: str, path: str, status: int, accept: str
) -> None:
    """problem+json whatever was asked for, on every route but the stream's own."""
    body = {"thumb": "up"} if method == "PUT" else {} if method in ("PATCH", "POST") else None
    answer = client.ask(method, path, body, {"Accept": accept})
    assert (answer.status, answer.head["content-type"]) == (status, "application/problem+json")


def test_a_failure_names_the_conversation_once_it_is_known(client: Client) -> None:
    """After the body has been read, `conversationId` is the client's own."""
    name = f"c-{uuid.uuid4().hex}"
    body = {"message": "x", "conversationId": name, "parentId": "m-none"}
    answer = client.ask("POST", "/chat/stream", body)
    assert answer.status == 422
    assert parse_event(answer.body.removesuffix(b"\n\n")).data["conversationId"] == name
    assert client.ask("GET", f"/conversations/{name}").status == 404


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("mesage", "message"),
        ("conversationID", "conversationId"),
        ("conversation_id", "conversationId"),
        ("session_id", "sessionId"),
        ("max_tokens", "maxTokens"),
        ("systemprompt", "systemPrompt"),
        ("idempotencyKey", None),
        ("zzz", None),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(client: Client, field: str, nearest: str | None) -> None:
    """A typing error is told, and what was probably meant."""
    answer = client.ask("POST", "/chat/stream", {"message": "x", field: "y"}, {"Accept": "application/json"})
    (error,) = answer.json["errors"]
    assert (answer.status, error["field"], error["nearest"]) == (422, field, nearest)
    if nearest:
        assert f"did you mean {nearest}?" in error["message"]
    else:
        assert "conversationId" in error["message"], "without a near name, all are told"


def test_every_wrong_field_is_named(client: Client) -> None:
    """All at once, not one a try."""
    body = {"message": " ", "conversationId": "", "temperature": 9, "maxTokens": 0, "metadata": 3, "x": 1}
    answer = client.ask("POST", "/chat/stream", body, {"Accept": "application/json"})
    assert {error["field"] for error in answer.json["errors"]} == set(body)
    assert all(error["message"] for error in answer.json["errors"])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b'{"message": ""}', "application/json"),
        (b'{"message": "x"}', "text/plain"),
        (b'{"message": "x", "more": 1}', "application/json"),
        (json.dumps({"message": "y" * 2_000_000}).encode(), "application/json"),
    ],
)
def test_a_naive_client_learns_of_every_failure(client: Client, body: bytes, content_type: str) -> None:
    """It looks at no status: the body alone calls its error callback."""
    naive = NaiveClient(client.port, session="s", conversation="c")
    naive.send_bytes(body, content_type=content_type)
    assert (len(naive.errors), naive.chunks, naive.completed) == (1, [], 0)


def test_every_code_that_was_seen_is_in_the_tree() -> None:
    """Codes are part of the API: each has its place in the tree of core.errors."""

    def codes(cls: type[LegatoError]) -> set[str]:
        return {cls.code}.union(*(codes(each) for each in cls.__subclasses__()))

    assert {failing.code for failing in FAILURES.values()} <= codes(LegatoError)

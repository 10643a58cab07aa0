"""Bad input gets a clear error and harms nothing: every route that takes a body, every way in which it can be wrong."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any

import pytest

from legato.core.errors import LegatoError
from tests.client import Answer, Client, as_bytes, request_bytes
from tests.conftest import described_server
from tests.server import ServerProcess

DEPTH = 100_000


class Route:
    """One route, a body that it takes, and a place for text and for an id in it."""

    def __init__(self, method: str, path: str, body: dict[str, Any], *, text: str, name: str, optional: bool) -> None:
        self.method = method
        self.path = path
        self.body = body
        self.text = text
        self.name = name
        self.optional = optional


ROUTES = {
    "post a message": Route(
        "POST", "/chat/stream", {"message": "x"}, text="message", name="conversationId", optional=False
    ),
    "make a conversation": Route("POST", "/conversations", {}, text="systemPrompt", name="id", optional=True),
    "change a conversation": Route(
        "PATCH", "/conversations/c-bad", {}, text="systemPrompt", name="leafId", optional=False
    ),
    "fork": Route("POST", "/conversations/c-bad/fork", {}, text="title", name="messageId", optional=True),
    "regenerate": Route(
        "POST", "/messages/{reply}/regenerate", {}, text="systemPrompt", name="sessionId", optional=True
    ),
    "give feedback": Route(
        "PUT", "/messages/{reply}/feedback", {"thumb": "up"}, text="reason", name="reason", optional=False
    ),
}


def tree(cls: type[LegatoError]) -> set[str]:
    return {cls.code}.union(*(tree(each) for each in cls.__subclasses__()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of this module's own: what others have left going would change what is compared."""
    yield from described_server(tmp_path_factory.mktemp("bad-input"))


@pytest.fixture(scope="module")
def reply_id(server: ServerProcess) -> str:
    """A reply in the conversation c-bad, which no bad input may change."""
    with Client(server.port) as client:
        data = client.say("script: tokens=2", conversationId="c-bad")[-1].data
        return str(data["messageId"])


def rows(server: ServerProcess) -> list[tuple[Any, ...]]:
    """How much is stored for people, and the conversation that bad input is aimed at."""
    queries = [
        f"SELECT count(*), max(rowid) FROM {table}" for table in ("conversation", "message", "run", "request_key")
    ]
    queries += ["SELECT * FROM conversation WHERE id = 'c-bad'"]
    queries += ["SELECT * FROM message WHERE conversation_key = (SELECT key FROM conversation WHERE id = 'c-bad')"]
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as connection:
        return [row for query in queries for row in connection.execute(query)]


@pytest.fixture
def untouched(server: ServerProcess, client: Client, reply_id: str) -> Iterator[None]:
    """Nothing is stored by the test, and the server answers as before."""
    before = rows(server)
    yield
    assert rows(server) == before
    assert client.get("/conversations/c-bad")["messageCount"] == 2


def check(answer: Answer, statuses: set[int], *, problem: bool) -> Answer:
    """Hold an answer to what every refusal promises."""
    assert answer.status in statuses, (answer.status, answer.body[:500])
    assert answer.code in tree(LegatoError)
    kind = "application/problem+json" if problem else "text/event-stream; charset=utf-8"
    assert answer.head["content-type"] == kind
    assert len(answer.body) < 8000, "an answer does not echo what it refuses"
    for secret in (b"Traceback", b'File "', b"/legato/", b"sqlite"):
        assert secret not in answer.body
    return answer


def filled(route: Route, **fields: Any) -> bytes:
    return json.dumps(route.body | fields).encode()


def raw(route: Route, field: str, value: bytes) -> bytes:
    """The route's body with one field's JSON spelled as given."""
    rest = b"".join(
        b',"%b":%b' % (key.encode(), json.dumps(v).encode()) for key, v in route.body.items() if key != field
    )
    return b'{"%b":%b%b}' % (field.encode(), value, rest)


# What is wrong, for each route: the body, the statuses that are right, the field that is named.
Wrong = tuple[bytes | None, set[int], str | None]


@cache
def wrongs(route: Route) -> dict[str, Wrong]:
    text, name = route.text, route.name
    found: dict[str, Wrong] = {
        "not JSON": (b"message=hello", {400}, None),
        "half a JSON": (b'{"message": "x"', {400}, None),
        "two values": (b"{}{}", {400}, None),
        "a byte order mark": (b"\xef\xbb\xbf" + filled(route), {400}, None),
        "UTF-16": (filled(route).decode().encode("utf-16"), {400}, None),
        "an array": (b"[" + filled(route) + b"]", {422}, "body"),
        "a string": (b'"x"', {422}, "body"),
        "null": (b"null", {422}, "body"),
        "a number": (b"7", {422}, "body"),
        "invalid UTF-8": (raw(route, text, b'"\xff\xfe"'), {400}, None),
        "cut UTF-8": (raw(route, text, b'"\xe6\x9d"'), {400}, None),
        "an overlong NUL": (raw(route, text, b'"\xc0\x80"'), {400}, None),
        "a surrogate in UTF-8": (raw(route, text, b'"\xed\xa0\x80"'), {400}, None),
        "a high surrogate alone": (raw(route, text, b'"\\ud800"'), {400}, None),
        "a low surrogate alone": (raw(route, text, b'"\\udc00 x"'), {400}, None),
        "a control character": (raw(route, text, b'"a\x01b"'), {400}, None),
        "NUL": (filled(route, **{text: "a\x00b"}), {422}, text),
        "NaN": (raw(route, text, b"NaN"), {400}, None),
        "Infinity": (raw(route, text, b"-Infinity"), {400}, None),
        "a number for text": (filled(route, **{text: 5}), {422}, text),
        "a list for text": (filled(route, **{text: ["x"]}), {422}, text),
        "an object for text": (filled(route, **{text: {"a": 1}}), {422}, text),
        "true for text": (filled(route, **{text: True}), {422}, text),
        "a huge number for text": (raw(route, text, b"9" * 5000), {400, 422}, None),
        "a huge exponent": (raw(route, text, b"1e999999"), {400, 422}, None),
        "an unknown field": (filled(route, zzz=1), {422}, "zzz"),
        "a prototype's field": (filled(route, __proto__={"a": 1}), {422}, "__proto__"),
        "a field that is a path": (filled(route, **{"a.b\n": 1}), {422}, "'a.b\\n'"),
        "a field of 100,000 characters": (filled(route, **{"k" * DEPTH: 1}), {422}, f"'{'k' * 80}'"),
        "50,000 unknown fields": (filled(route, **{f"messag{i}": 1 for i in range(50_000)}), {422}, "messag0"),
        "a bomb of brackets": (b"[" * DEPTH, {400}, None),
        "a bomb of brackets inside": (raw(route, text, b"[" * DEPTH + b"]" * DEPTH), {400}, None),
        "a bomb of objects": (raw(route, text, b'{"a":' * DEPTH + b"1" + b"}" * DEPTH), {400}, None),
        "900 brackets": (raw(route, text, b"[" * 900 + b"]" * 900), {400, 422}, None),
        "5 MB": (filled(route, **{text: "x" * 5_000_000}), {413}, None),
    }
    if not route.optional:
        found["no body"] = (None, {400}, None)
        found["an empty body"] = (b"", {400}, None)
    if route.path == "/chat/stream":
        found |= {
            f"blank: {blank!r}": (filled(route, message=blank), {422}, "message")
            for blank in ("", " ", "\n\t \r", "\u3000", "\u2003\u00a0")
        } | {"null for a message": (filled(route, message=None), {422}, "message")}
    else:
        found["white space"] = (b"   ", {400}, None)
    if name != text:
        for what, value in {
            "empty": "",
            "of 201 characters": "x" * 201,
            "of 10,000 characters": "x" * 10_000,
            "with a line feed": "a\nb",
            "with a NUL": "a\x00b",
            "with an escape": "\x1b[31m",
            "with DEL": "a\x7f",
            "with a line separator": "a\u2028b",
            "with a direction mark": "a\u202eb",
            "with a private character": "\ue000",
        }.items():
            found[f"an id {what}"] = (filled(route, **{name: value}), {422}, name)
        for other in (5, ["x"], {"a": 1}, True, 1.5):
            found[f"{other!r} for an id"] = (filled(route, **{name: other}), {422}, name)
    return found


CASES = [pytest.param(key, what, id=f"{key}: {what}") for key, route in ROUTES.items() for what in wrongs(route)]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("key", "what"), CASES)
def test_a_bad_body_is_refused(client: Client, reply_id: str, key: str, what: str) -> None:
    """Never a 5xx: the right status, a code of the tree, the field by its name, nothing stored."""
    route = ROUTES[key]
    body, statuses, field = wrongs(route)[what]
    path = route.path.format(reply=reply_id)
    answer = check(client.ask(route.method, path, body, {"Accept": "application/json"}), statuses, problem=True)
    if field is not None:
        assert field in [error["field"] for error in answer.json["errors"]]
    stream = route.path == "/chat/stream"
    other = check(client.ask(route.method, path, body, {"Accept": "*/*"}), statuses, problem=not stream)
    assert other.code == answer.code


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("key", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/problem+json"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br"},
    ],
)
def test_only_plain_json_is_taken(client: Client, reply_id: str, key: str, headers: dict[str, str]) -> None:
    """415 for any other content type, none at all, and compression: a page of another site cannot send JSON."""
    route = ROUTES[key]
    body = filled(route)
    if "Content-Encoding" in headers:
        body = gzip.compress(body)
    answer = client.ask(route.method, route.path.format(reply=reply_id), body, headers)
    assert check(answer, {415}, problem=route.path != "/chat/stream").code == "unsupported_media_type"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("key", ROUTES)
def test_a_large_body_in_chunks_is_refused(client: Client, reply_id: str, key: str) -> None:
    """5 MB without a Content-Length: counted as it comes."""
    route = ROUTES[key]
    body = as_bytes(route.body | {route.text: "x" * 5_000_000}) or b""
    head = request_bytes(
        route.method,
        route.path.format(reply=reply_id),
        headers={"Content-Type": "application/json", "Transfer-Encoding": "chunked"},
    )
    connection = client.connect()
    pieces = [body[at : at + 60_000] for at in range(0, len(body), 60_000)]
    connection.send(head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
    found = connection.read_head()
    answer = Answer(found, connection.read_body(found))
    assert check(answer, {413}, problem=route.path != "/chat/stream").code == "body_too_large"
    connection.send(request_bytes("GET", "/conversations/c-bad"))
    assert connection.read_head().status == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "0.5"),
        ("temperature", True),
        ("temperature", 10**400),
        ("maxTokens", 0),
        ("maxTokens", -1),
        ("maxTokens", 1.5),
        ("maxTokens", "5"),
        ("maxTokens", 10**30),
        ("model", "x" * 10_000),
        ("model", "unknown"),
        ("model", ""),
    ],
)
@pytest.mark.parametrize("key", ["post a message", "make a conversation", "change a conversation", "regenerate"])
@pytest.mark.usefixtures("untouched")
def test_a_setting_out_of_range_is_named(client: Client, reply_id: str, key: str, field: str, value: object) -> None:
    """Numbers are numbers and within their bounds, models are configured ones."""
    route = ROUTES[key]
    answer = client.ask(
        route.method, route.path.format(reply=reply_id), filled(route, **{field: value}), {"Accept": "application/json"}
    )
    check(answer, {422}, problem=True)
    assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize(
    "metadata",
    [5, "x", [1], {"a": "x" * 20_000}, {"a": float("nan")}, {"a": float("inf")}],
)
@pytest.mark.parametrize("key", ["post a message", "make a conversation", "change a conversation"])
@pytest.mark.usefixtures("untouched")
def test_metadata_is_a_small_object(client: Client, key: str, metadata: object) -> None:
    """At most 16 KiB, and JSON."""
    route = ROUTES[key]
    answer = client.ask(route.method, route.path, filled(route, metadata=metadata), {"Accept": "application/json"})
    check(answer, {400, 422}, problem=True)


@pytest.mark.parametrize("depth", [33, 200, 500, 900, 990, 1000, 3000])
@pytest.mark.parametrize("key", ["post a message", "make a conversation", "change a conversation"])
@pytest.mark.usefixtures("untouched")
def test_metadata_is_not_deep(client: Client, key: str, depth: int) -> None:
    """Deep nesting is refused by a bound of its own, before anything walks it."""
    route = ROUTES[key]
    body = raw(route, "metadata", b'{"a":' * depth + b"1" + b"}" * depth)
    answer = client.ask(route.method, route.path, body, {"Accept": "application/json"})
    check(answer, {400, 422}, problem=True)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=1e2", "cursor=x", "cursor=1.2.3", "cursor=-1.5"]
)
@pytest.mark.parametrize("path", ["/conversations", "/conversations/c-bad/messages"])
@pytest.mark.usefixtures("untouched")
def test_a_wrong_parameter_is_named(client: Client, path: str, query: str) -> None:
    """Limits have bounds, cursors are the server's own."""
    answer = check(client.ask("GET", f"{path}?{query}"), {422}, problem=True)
    assert [error["field"] for error in answer.json["errors"]] == [query.split("=")[0]]


@pytest.mark.parametrize("cursor", ["9" * 39, "99999999999999999999.99999999999999999", "0.0"])
def test_a_cursor_from_nowhere_harms_nothing(client: Client, cursor: str) -> None:
    """Numbers beyond what the database holds are an error or an empty page, never a fault."""
    assert client.ask("GET", f"/conversations?cursor={cursor}").status in (200, 422)


def test_the_last_of_two_equal_fields_counts(client: Client) -> None:
    """Duplicate keys are read as JavaScript reads them."""
    events = client.open("POST", "/chat/stream", b'{"message":"","message":"script: tokens=1"}').rest()
    assert [event.name for event in events] == ["chunk", "complete"]


def test_content_type_parameters_are_taken(client: Client) -> None:
    """`application/json; charset=utf-8`, in any case."""
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        client.open("POST", "/chat/stream", {"message": "script: tokens=1"}, {"Content-Type": kind}).rest()


def test_nothing_went_wrong_inside(server: ServerProcess, client: Client) -> None:
    """Whatever this module sent, the server's log holds no stack."""
    assert client.say("script: tokens=1")[-1].name == "complete"
    assert "Traceback" not in server.log
    assert '"level": "error"' not in server.log.replace('":"', '": "')

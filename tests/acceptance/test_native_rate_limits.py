"""protocols.md section 1: posts beyond a limit are refused with 429 in both forms; every answer says what is left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.client import Answer, Client, Head, Stream, as_bytes, parse_event, request_bytes
from tests.guarded import PAGE, Guarded, make_keys
from tests.naive import NaiveClient
from tests.server import ServerProcess

FIELDS = ("ratelimit-policy", "ratelimit", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
SAY = {"message": "script: tokens=1"}
PEOPLE = ("form", "head", "many", "regen", "page", "key", "sess", "xff", "naive", "odd")


def guarded_server(folder_name: str, factory: pytest.TempPathFactory, **settings: object) -> Iterator[Guarded]:
    process = ServerProcess(factory.mktemp(folder_name), {"auth": "keys"} | settings)
    keys = make_keys(process.database, dict.fromkeys(PEOPLE, "member"))
    found = Guarded(process.start(), keys)
    yield found
    found.close()
    process.kill()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with keys as it comes, for ten people: 10 a minute for each, and 4 in a session."""
    yield from guarded_server("limited", tmp_path_factory, session_rate_limit="4/minute", allowed_origins=PAGE)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server behind a proxy, which is this machine."""
    yield from guarded_server("proxied", tmp_path_factory, rate_limit="3/minute", trusted_proxies="127.0.0.1, ::1")


def fields(head: Head) -> list[str]:
    """Return the five fields, each of which is there once."""
    names = [name for name, _ in head.headers]
    assert [names.count(name) for name in FIELDS] == [1] * 5, head.headers
    return [head[name] for name in FIELDS]


def left(head: Head) -> dict[str, int]:
    """Return what is left of each limit by its name; the fields agree with each other, and their times are in range."""
    policy, state, limit, remaining, reset = fields(head)
    quotas = {name: (int(q), int(w)) for name, q, w in re.findall(r'"([^"]+)";q=(\d+);w=(\d+)(?:, |$)', policy)}
    found = {name: (int(r), int(t)) for name, r, t in re.findall(r'"([^"]+)";r=(\d+);t=(\d+)(?:, |$)', state)}
    assert list(quotas) == list(found)
    assert all(0 <= found[name][0] <= q and 1 <= found[name][1] <= w for name, (q, w) in quotas.items())
    assert int(remaining) == min(r for r, _ in found.values())
    assert (int(limit), int(remaining), int(reset)) in [(quotas[name][0], *found[name]) for name in found]
    return {name: r for name, (r, _) in found.items()}


def use_up(client: Client) -> None:
    """Post messages in sessions of their own until one is refused."""
    while (answer := client.ask("POST", "/chat/stream", SAY)).status == 200:
        pass
    refused(answer)


def refused(answer: Answer) -> None:
    assert (answer.status, answer.code) == (429, "rate_limited")
    assert 1 <= int(answer.head["retry-after"]) <= 60


def test_fifty_posts_at_once_are_ten_replies(limited: Guarded) -> None:
    """Exactly ten of fifty parallel requests are accepted, whatever sessions they name; nothing else is stored."""
    client = limited.client("many")
    headers = {"Authorization": f"Bearer {limited.keys['many']}"}
    connections = [client.connect() for _ in range(50)]
    for number, connection in enumerate(connections):
        body = b'{"message":"script: tokens=1","sessionId":"s-%d"}' % number
        connection.send(request_bytes("POST", "/chat/stream", body, headers))
    heads = [connection.read_head() for connection in connections]
    assert sorted(head.status for head in heads) == [200] * 10 + [429] * 40
    for head, connection in zip(heads, connections, strict=True):
        if head.status == 200:
            assert Stream(connection, head).rest()[-1].name == "complete"
    assert sorted({head["ratelimit-remaining"] for head in heads if head.status == 429}) == ["0"]
    assert len(client.get("/conversations")["conversations"]) == 10
    assert client.ask("POST", "/chat/stream", SAY).status == 429
    assert limited.client("odd").say("script: tokens=1")[-1].name == "complete", "each principal has its own"


def test_a_refusal_has_both_forms(limited: Guarded) -> None:
    """`event: error` for whoever did not ask for JSON, problem+json for who did; both name limit and time."""
    client = limited.client("form")
    use_up(client)
    event = client.ask("POST", "/chat/stream", SAY | {"conversationId": "c-1"})
    assert event.head["content-type"] == "text/event-stream; charset=utf-8"
    said = parse_event(event.body.removesuffix(b"\n\n"))
    assert (said.name, said.id, said.data["conversationId"]) == ("error", None, "c-1")
    problem = client.ask("POST", "/chat/stream", SAY, {"Accept": "application/json"})
    assert problem.head["content-type"] == "application/problem+json"
    for answer, words in ((event, said.data["error"]), (problem, problem.json["detail"])):
        refused(answer)
        wait_s = answer.head["retry-after"]
        assert words == f"at most 10 messages a minute are taken from one caller: try again in {wait_s} s"
        assert left(answer.head) == {"principal": 0}
        assert fields(answer.head)[0] == '"principal";q=10;w=60'
        assert int(answer.head["ratelimit-reset"]) - int(wait_s) in (0, -1), "a moment may pass between the two"
    assert said.data["retryable"] is problem.json["retryable"] is True
    assert client.ask("GET", "/conversations/c-1").status == 404, "what was refused is not stored"


def test_every_answer_says_what_is_left(limited: Guarded) -> None:
    """Accepted or refused, for whatever reason; only accepted messages count, and other routes say nothing."""
    client = limited.client("head")
    stream = client.post("script: tokens=1", sessionId="s")
    assert stream["ratelimit-policy"] == '"principal";q=10;w=60, "session";q=4;w=60'
    assert left(stream.head) == {"principal": 9, "session": 3}
    stream.rest()
    made = client.post("script: tokens=1")
    made.rest()
    assert left(made.head) == {"principal": 8, "session": 3}, "the session is one that the server made"
    for body, headers, status in (
        (b"{", {}, 400),
        ({"message": 5}, {}, 422),
        (SAY, {"Content-Type": "text/plain"}, 415),
        ({"message": "x" * 2_000_000}, {}, 413),
        (SAY | {"model": "none"}, {}, 422),
        (SAY | {"parentId": "m-none", "sessionId": "s"}, {}, 422),
    ):
        answer = client.ask("POST", "/chat/stream", body, headers)
        assert answer.status == status
        assert left(answer.head)["principal"] == 8
    assert left(answer.head) == {"principal": 8, "session": 3}
    for method, path in (
        ("GET", "/conversations"),
        ("GET", f"/chat/stream/{stream.run_id}"),
        ("POST", "/conversations"),
    ):
        answer = client.ask(method, path, {} if method == "POST" else None)
        assert answer.status in (200, 201)
        assert not [name for name in FIELDS if name in answer.head]
    assert client.ask("POST", f"/chat/stream/{stream.run_id}/stop").status == 202
    assert left(client.post("script: tokens=1").head)["principal"] == 7


def test_a_further_reply_counts_as_a_message(limited: Guarded) -> None:
    """`POST /messages/{id}/regenerate` has the same limit and the same fields, and answers with a problem."""
    client = limited.client("regen")
    stream = client.post("script: tokens=1", sessionId="s")
    message_id = stream["x-message-id"]
    stream.rest()
    again = client.open("POST", f"/messages/{message_id}/regenerate", {"sessionId": "s"})
    assert left(again.head) == {"principal": 8, "session": 2}
    again.rest()
    absent = client.ask("POST", "/messages/m-none/regenerate", {})
    assert (absent.status, left(absent.head)) == (404, {"principal": 8})
    use_up(client)
    answer = client.ask("POST", f"/messages/{message_id}/regenerate", {})
    refused(answer)
    assert answer.head["content-type"] == "application/problem+json"
    assert left(answer.head) == {"principal": 0}


def test_a_page_can_read_what_is_left(limited: Guarded) -> None:
    """The fields are exposed to pages of allowed origins, on refusals too."""
    client = limited.client("page", Origin=PAGE)
    use_up(client)
    head = client.ask("POST", "/chat/stream", SAY).head
    exposed = {name.strip().lower() for name in head["access-control-expose-headers"].split(",")}
    assert exposed >= {*FIELDS, "retry-after"}


def test_a_session_is_limited_and_cannot_be_dodged(limited: Guarded) -> None:
    """Four in a session; another session id is worth no more than what the caller has left."""
    client = limited.client("sess")
    for _ in range(4):
        client.say("script: tokens=1", sessionId="one")
    answer = client.ask("POST", "/chat/stream", SAY | {"sessionId": "one"}, {"Accept": "application/json"})
    refused(answer)
    assert answer.json["detail"].startswith("at most 4 messages a minute are taken in one session: try again in ")
    assert left(answer.head) == {"principal": 6, "session": 0}
    statuses = [client.ask("POST", "/chat/stream", SAY | {"sessionId": f"s-{n}"}).status for n in range(12)]
    assert statuses == [200] * 6 + [429] * 6


def test_a_repeat_is_answered_when_nothing_is_left(limited: Guarded) -> None:
    """A known Idempotency-Key is looked for before the limit, and costs nothing."""
    client = limited.client("key")
    stream = client.post("script: tokens=3", {"Idempotency-Key": "k"})
    said = stream.rest()
    use_up(client)
    again = client.post("script: tokens=3", {"Idempotency-Key": "k"})
    assert again.run_id == stream.run_id
    assert [event.raw for event in again.rest()] == [event.raw for event in said]
    assert left(again.head)["principal"] == 0
    refused(client.ask("POST", "/chat/stream", SAY, {"Idempotency-Key": "k2"}))


def test_a_naive_client_learns_of_a_limit(limited: Guarded) -> None:
    """It looks at no status: the body alone calls its error callback."""
    use_up(limited.client("naive"))
    naive = NaiveClient(limited.process.port, session="s", conversation="c", token=f"Bearer {limited.keys['naive']}")
    naive.send("script: tokens=1")
    assert (len(naive.errors), naive.chunks, naive.completed) == (1, [], 0)
    assert "try again in" in naive.errors[0]


def test_forwarded_addresses_are_not_looked_at_without_proxies(limited: Guarded) -> None:
    """Whatever a client writes there gains it nothing, and costs nobody else anything."""
    client = limited.client("xff")
    for number in range(10):
        stream = client.post("script: tokens=1", {"X-Forwarded-For": f"198.51.100.{number}"})
        assert "address" not in left(stream.head)
        stream.rest()
    refused(client.ask("POST", "/chat/stream", SAY, {"X-Forwarded-For": "198.51.100.99"}))


def test_an_address_is_limited_behind_a_proxy(proxied: Guarded) -> None:
    """Three from one address, whoever posts them: what the proxy put at the end counts, not what stood before it."""

    def post(name: str, forwarded: str) -> Answer:
        return proxied.client(name).ask("POST", "/chat/stream", SAY, {"X-Forwarded-For": forwarded})

    for name, forged in (("form", "1.1.1.1"), ("head", "2.2.2.2"), ("many", "127.0.0.1")):
        answer = post(name, f"{forged}, 203.0.113.1")
        assert answer.status == 200
        assert answer.head["ratelimit-policy"] == '"principal";q=3;w=60, "address";q=3;w=60'
    answer = post("page", "3.3.3.3, 203.0.113.1")
    refused(answer)
    assert left(answer.head) == {"principal": 3, "address": 0}
    assert post("page", "3.3.3.3, 203.0.113.2").status == 200
    for name, address in (("key", "2001:db8::1"), ("sess", "2001:db8::2"), ("odd", "2001:db8::ffff:1")):
        assert post(name, address).status == 200
    refused(post("xff", "2001:db8::3"))
    assert post("xff", "2001:db8:0:1::3").status == 200


@pytest.mark.slow
def test_a_limit_is_free_again_after_retry_after(start_server: Callable[..., ServerProcess]) -> None:
    """Who waits as long as is said is accepted, without keys too."""
    server = start_server(rate_limit="1/3seconds")

    def two_at_once() -> list[Answer]:
        """Return the one that is accepted first: it must not be free again before the other one is looked at."""
        connections = [client.connect() for _ in range(2)]
        for connection in connections:
            connection.send(request_bytes("POST", "/chat/stream", as_bytes(SAY)))
        answers = [Answer(head := each.read_head(), each.read_body(head)) for each in connections]
        return sorted(answers, key=lambda answer: answer.status)

    with Client(server.port) as client:
        for _ in range(2):
            accepted, answer = two_at_once()
            assert accepted.status == 200
            refused(answer)
            time.sleep(int(answer.head["retry-after"]))
        assert client.ask("POST", "/chat/stream", SAY).status == 200


def test_without_a_limit_nothing_is_said(client: Client) -> None:
    """The default without keys: no field, however many posts."""
    for _ in range(12):
        stream = client.post("script: tokens=1")
        stream.rest()
        assert not [name for name in FIELDS if name in stream.head]

"""The connection taken over from uvicorn: what http.edge leans on, and what a hostile or odd client may do to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from legato.http.edge import MAX_HEAD_BYTES
from legato.providers.scripted import reply
from tests.client import Client, Connection, Stream, parse_event, request_bytes, text_of
from tests.naive import unchunked
from tests.server import ServerProcess


def message_bytes(text: str, **headers: str) -> bytes:
    return request_bytes("POST", "/chat/stream", json.dumps({"message": text}).encode(), headers)


def stop(client: Client, run_id: str) -> None:
    assert client.ask("POST", f"/chat/stream/{run_id}/stop").status == 202


def stop_beside(server: ServerProcess, run_id: str) -> None:
    """Stop a run over a connection that is closed behind it."""
    with Client(server.port) as other:
        stop(other, run_id)


@pytest.fixture(autouse=True)
def _still_serving(client: Client) -> Iterator[None]:
    """Whatever a test did to its connections, the server goes on."""
    yield
    assert client.say("script: tokens=1")[-1].name == "complete"


def test_uvicorn_is_as_edge_knows_it() -> None:
    """http.edge leans on the insides of one version: look there again when it changes."""
    assert uvicorn.__version__.startswith("0.54.")
    for name in ("on_headers_complete", "on_response_complete", "on_body", "send_400_response", "resume_writing"):
        assert callable(getattr(HttpToolsProtocol, name))
    cycle = set(RequestResponseCycle.__init__.__code__.co_names) | set(
        RequestResponseCycle.__init__.__code__.co_varnames
    )
    assert {"keep_alive", "response_complete", "more_body", "body", "message_event", "disconnected"} <= cycle
    assert {"write_paused", "read_paused"} <= set(FlowControl.__init__.__code__.co_names)


def test_a_connection_serves_on_after_a_stream(client: Client) -> None:
    """Keep-alive: stream, JSON, stream, on one connection."""
    connection = client.connect()
    for seed in (1, 2, 3):
        connection.send(message_bytes(f"script: seed={seed} tokens=6"))
        stream = Stream(connection, connection.read_head())
        assert text_of(stream.rest()) == reply(seed, 6)
        connection.send(request_bytes("GET", f"/runs/{stream.run_id}"))
        head = connection.read_head()
        assert head.status == 200
        assert json.loads(connection.read_body(head))["state"] == "finished"


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    """Three streams and a JSON answer, asked for in one packet, come one after another and whole."""
    connection = client.connect()
    seeds = (4, 5, 6)
    connection.send(
        b"".join(message_bytes(f"script: seed={seed} tokens=5 delay_ms=2") for seed in seeds)
        + request_bytes("GET", "/conversations?limit=1")
    )
    for seed in seeds:
        assert text_of(Stream(connection, connection.read_head()).rest()) == reply(seed, 5)
    head = connection.read_head()
    assert head.status == 200
    assert len(json.loads(connection.read_body(head))["conversations"]) == 1


def test_a_request_that_comes_during_a_stream_waits(client: Client) -> None:
    """Its answer comes after the stream's end, not inside of it."""
    connection = client.connect()
    connection.send(message_bytes("script: seed=8 tokens=9 stall=3"))
    stream = Stream(connection, connection.read_head())
    stream.take(3)
    connection.send(request_bytes("GET", "/") + message_bytes("script: seed=9 tokens=2"))
    stop(client, stream.run_id)
    assert stream.rest()[-1].data["finishReason"] == "stopped"
    head = connection.read_head()
    assert (head.status, head["content-type"]) == (200, "text/plain; charset=utf-8")
    connection.read_body(head)
    assert text_of(Stream(connection, connection.read_head()).rest()) == reply(9, 2)


def test_connection_close_is_honoured(client: Client) -> None:
    """Who asks for it gets the end of the connection with the end of the stream."""
    connection = client.connect()
    connection.send(message_bytes("script: seed=2 tokens=4", Connection="close"))
    head = connection.read_head()
    body = connection.read_to_end()
    assert head["connection"] == "close"
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert unchunked(body).count(b"event: chunk\n") == 4


@pytest.mark.parametrize("host", ["localhost", ""])
def test_an_http_1_0_client_gets_the_plain_bytes(client: Client, host: str) -> None:
    """No chunk marks, which it does not know; the end of the connection is the end of the body."""
    first = client.post("script: seed=3 tokens=5")
    first.rest()
    connection = client.connect()
    connection.send(request_bytes("GET", f"/chat/stream/{first.run_id}", headers={"Host": host}, version="HTTP/1.0"))
    head = connection.read_head()
    if not host:
        assert head.status == 403, "a request that names no host is not served"
        return
    assert head.status == 200
    assert "transfer-encoding" not in head
    assert "content-length" not in head
    stream = Stream(connection, head)
    assert text_of(stream.rest()) == reply(3, 5)
    assert stream.raw == first.raw


def test_an_http_1_0_client_gets_a_live_reply(client: Client) -> None:
    """Also while it is being made, comment first."""
    connection = client.connect()
    body = json.dumps({"message": "script: seed=3 tokens=5 delay_ms=5"}).encode()
    connection.send(request_bytes("POST", "/chat/stream", body, version="HTTP/1.0"))
    head = connection.read_head()
    assert connection.read_exactly(6) == b": ok\n\n"
    assert text_of(Stream(connection, head).rest()) == reply(3, 5)


@pytest.mark.parametrize("path", ["/chat/stream", "/chat/stream/r-none", "/conversations"])
def test_head_opens_no_stream(client: Client, path: str) -> None:
    """405 without a body; the connection goes on."""
    connection = client.connect()
    connection.send(request_bytes("HEAD", path) + request_bytes("GET", "/conversations?limit=1"))
    head = connection.read_head()
    assert (head.status, "allow" in head) == (405, True)
    following = connection.read_head()
    assert following.status == 200


def test_a_head_of_the_page_has_no_body(client: Client) -> None:
    """The page says how long it is, and the connection goes on."""
    connection = client.connect()
    connection.send(request_bytes("HEAD", "/") + request_bytes("GET", "/conversations?limit=1"))
    head = connection.read_head()
    assert (head.status, int(head["content-length"]) > 0) == (200, True)
    following = connection.read_head()
    assert following.status == 200


def test_a_client_that_closes_its_half_is_answered(client: Client) -> None:
    """`printf … | nc -N` says all it has to say and then only listens."""
    connection = client.connect()
    connection.send(message_bytes("script: seed=5 tokens=20 delay_ms=5"))
    connection.sock.shutdown(socket.SHUT_WR)
    head = connection.read_head()
    body = connection.read_to_end()
    assert head.status == 200
    assert unchunked(body).count(b"event: chunk\n") == 20
    assert b"event: complete\n" in body


def test_a_client_that_closes_its_half_in_mid_stream_is_answered(client: Client) -> None:
    """The same once the stream is open."""
    connection = client.connect()
    connection.send(message_bytes("script: seed=5 tokens=9 stall=3"))
    stream = Stream(connection, connection.read_head())
    stream.take(3)
    connection.sock.shutdown(socket.SHUT_WR)
    stop(client, stream.run_id)
    assert stream.rest()[-1].name == "complete"
    assert connection.sock.recv(1) == b""


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_reader_that_goes_leaves_the_others_alone(client: Client, how: str) -> None:
    """A cut of any kind ends that reader and nothing else."""
    first = client.post("script: seed=6 tokens=200 delay_ms=2")
    second = client.follow(first.run_id)
    first.take(3)
    if how == "RST":
        first.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()
    assert text_of(second.rest()) == reply(6, 200)


@pytest.mark.parametrize("how", ["end", "close", "FIN", "RST", "stop"])
def test_no_socket_stays_open_behind_a_stream(client: Client, server: ServerProcess, how: str) -> None:
    """However a stream ends, the server's side of its connection is closed with it."""
    sockets = Path(f"/proc/{server.pid}/fd")

    def opened() -> set[str]:
        links = []
        for link in sockets.iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(link))
        return {f"{count}×{link}" for link, count in Counter(links).items() if link.startswith("socket:")}

    before = opened()
    headers = {"Connection": "close"} if how == "close" else {}
    connection = client.connect()
    connection.send(message_bytes(f"script: seed=8 tokens=9{'' if how in ('end', 'close') else ' stall=3'}", **headers))
    stream = Stream(connection, connection.read_head())
    stream.take(3)
    if how in ("FIN", "RST"):
        if how == "RST":
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sock.close()
        stop_beside(server, stream.run_id)
    else:
        if how == "stop":
            stop_beside(server, stream.run_id)
        assert stream.rest()[-1].name == "complete"
        if how == "close":
            # Not before the last name of it is closed.
            assert connection.sock.recv(1) == b""
        connection.sock.close()
    until_s = time.monotonic() + 10
    while (more := opened() - before) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not more


@pytest.mark.slow
def test_a_slow_reader_holds_up_nobody(client: Client) -> None:
    """One that takes nothing is behind alone; when it reads again it gets everything."""
    slow = client.connect()
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.send(message_bytes("script: seed=7 tokens=40000", Connection="close"))
    head = slow.read_head()
    fast = client.follow(head["x-run-id"])
    events = fast.rest()
    assert text_of(events).startswith(reply(7, 2000))
    assert Stream(slow, head).rest() == events


def test_bytes_may_come_one_by_one(client: Client) -> None:
    """A request is read however it is cut."""
    connection = client.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in message_bytes("script: seed=1 tokens=3"):
        connection.send(bytes([byte]))
    assert text_of(Stream(connection, connection.read_head()).rest()) == reply(1, 3)


def test_expect_100_continue_is_answered(client: Client) -> None:
    """curl asks before it sends a large body."""
    body = json.dumps({"message": "script: tokens=1"}).encode()
    connection = client.connect()
    request = request_bytes("POST", "/chat/stream", body, {"Expect": "100-continue"})
    connection.send(request.removesuffix(body))
    assert connection.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(body)
    assert connection.read_head().status == 200


GARBAGE = {
    "words": b"hello there\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "zeros": bytes(1000),
    "a future version": b"GET / HTTP/7.3\r\n\r\n",
    "a NUL in the path": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes beyond ASCII in the path": b"GET /chat/stream/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\rHost: localhost\r\r",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "a control character in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x01\r\n\r\n",
    "two lengths": b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "an endless length": b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
    "length and chunks": b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk without a size": b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_http_is_refused(client: Client, name: str) -> None:
    """400 as a problem, then the connection ends; the sender comes to read it."""
    connection = client.connect()
    connection.send(GARBAGE[name])
    head = connection.read_head()
    body = connection.read_body(head)
    assert (head.status, head["content-type"], head["connection"]) == (400, "application/problem+json", "close")
    assert json.loads(body)["code"] == "refused"
    assert connection.sock.recv(1) == b""


@pytest.mark.parametrize("line", [b"X-Flood: " + b"x" * 1000 + b"\r\n", b"x" * 1000])
def test_a_flood_of_headers_is_refused(client: Client, line: bytes) -> None:
    """Many headers, or one without an end: no more than a bound is kept."""
    connection = client.connect()
    connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    sent = 0
    try:
        while sent < 50 * MAX_HEAD_BYTES:
            connection.send(line)
            sent += len(line)
    except ConnectionError:
        pass
    connection.sock.settimeout(5)
    try:
        assert connection.read_head().status == 400
    except ConnectionError:
        assert sent < 50 * MAX_HEAD_BYTES


def test_garbage_behind_a_request_does_not_harm_its_stream(client: Client) -> None:
    """The reply goes on to its end; then the garbage gets its own answer, and the connection closes."""
    connection = client.connect()
    connection.send(message_bytes("script: seed=4 tokens=9 stall=4"))
    stream = Stream(connection, connection.read_head())
    stream.take(4)
    connection.send(b"\x00\x01garbage\r\n\r\n" * 10)
    stop(client, stream.run_id)
    assert [event.name for event in stream.rest()] == ["complete"]
    head = connection.read_head()
    assert head.status == 400
    connection.read_body(head)
    assert connection.sock.recv(100) == b""


@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}])
def test_an_answer_to_a_large_body_reaches_its_sender(client: Client, headers: dict[str, str]) -> None:
    """The body is refused before it has been sent whole, and the sender still reads why."""
    connection = client.connect()
    connection.send(message_bytes("x" * 5_000_000, **headers))
    head = connection.read_head()
    assert head.status == 413
    assert parse_event(connection.read_body(head).removesuffix(b"\n\n")).data["code"] == "body_too_large"
    if not headers:
        connection.send(message_bytes("script: seed=1 tokens=2"))
        assert text_of(Stream(connection, connection.read_head()).rest()) == reply(1, 2)


def test_a_body_without_an_end_is_cut(client: Client) -> None:
    """Chunk after chunk: refused at the limit, and cut when the sender does not mind."""
    connection = client.connect()
    connection.send(
        b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with pytest.raises(ConnectionError):
        connection.send(chunk * 1000)


def test_many_connections_that_say_nothing_hold_up_nobody(client: Client) -> None:
    """Half a request on each of 200 connections, and one that asks."""
    idle = [Connection(client.port) for _ in range(200)]
    try:
        for number, connection in enumerate(idle):
            connection.send(message_bytes("script: tokens=1")[: number + 1])
        assert client.say("script: tokens=3")[-1].name == "complete"
    finally:
        for connection in idle:
            connection.close()

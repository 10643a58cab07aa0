"""What goes wrong in an http step: what its caller is told, and what stands in the log, once."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Body, HTTPException
from structlog.testing import capture_logs

from legato import Context, Event, Legato
from legato.testing import TestServer, serving

app = Legato()
SECRET = "secret words of the inside"


@app.http("GET", "/broken")
async def broken(ctx: Context) -> str:
    """Fails."""
    raise RuntimeError(SECRET)


@app.http("GET", "/misfit")
async def misfit(ctx: Context) -> int:
    """Answers what it has not declared."""
    return "x"  # type: ignore[return-value]


@app.http("GET", "/broken-stream")
async def broken_stream(ctx: Context) -> AsyncIterator[Event]:
    """Fails in its midst."""
    yield Event("word", {})
    raise RuntimeError(SECRET)


@app.http("GET", "/leaving")
async def leaving(ctx: Context) -> str:
    """Ends the process, as it thinks."""
    sys.exit(SECRET)


@app.http("GET", "/leaving-stream")
async def leaving_stream(ctx: Context) -> AsyncIterator[Event]:
    """Ends the process in its midst, as it thinks."""
    yield Event("word", {})
    sys.exit(SECRET)


@app.http("GET", "/waiting")
async def waiting(ctx: Context) -> None:
    """Waits for what somebody cancels."""
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@app.http("GET", "/refused/{status}")
async def refused(status: int, ctx: Context) -> str:
    """Refuses with any status."""
    try:
        raise RuntimeError(SECRET)
    except RuntimeError as error:
        raise HTTPException(status, "Pay First, please", {"Retry-After": "7", "Location": "/there"}) from error


@app.http("GET", "/refused-stream")
async def refused_stream(ctx: Context) -> AsyncIterator[Event]:
    """Refuses in its midst."""
    yield Event("word", {})
    raise HTTPException(503, "Later, please")


@app.http("GET", "/refused-fields")
async def refused_fields(ctx: Context) -> str:
    """Refuses with no text."""
    raise HTTPException(422, {"colour": "is no colour"})


@app.http("POST", "/echo")
async def echo(ctx: Context, value: Annotated[Any, Body()]) -> Any:
    """Says what it was told."""
    return {"value": value}


@pytest.fixture(autouse=True)
def _never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults alone are looked at: where the machine is busy, a handler may be named for holding the loop up too."""
    monkeypatch.setattr("legato.steps.slow_spots.LONGEST_S", 60.0)


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with serving(app) as running:
        yield running


def _ask(
    server: TestServer, path: str, body: bytes | None = None
) -> tuple[http.client.HTTPResponse, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        given = {} if body is None else {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, given)
        response = connection.getresponse()
        return response, response.read(), {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "event", "step"),
    [
        ("/broken", "an http step failed", "broken"),
        ("/misfit", "an http step failed", "misfit"),
        ("/broken-stream", "a streaming step failed", "broken_stream"),
        ("/leaving", "an http step failed", "leaving"),
        ("/leaving-stream", "a streaming step failed", "leaving_stream"),
        ("/waiting", "an http step failed", "waiting"),
    ],
)
def test_a_fault_is_logged_once_under_its_trace(
    server: TestServer, caplog: pytest.LogCaptureFixture, path: str, event: str, step: str
) -> None:
    """With its stack, by one layer only; the caller is told the trace's id, and nothing of the inside."""
    with capture_logs() as lines, caplog.at_level(logging.WARNING):
        response, data, headers = _ask(server, path)
        # What is logged behind the answer would be logged by now.
        assert _ask(server, "/openapi.json")[0].status == 200
    wrong = [line for line in lines if line["log_level"] in ("warning", "error", "critical")]
    assert [(line["event"], line["step"], line["exc_info"]) for line in wrong] == [(event, step, True)]
    assert caplog.records == []
    if response.status == 500:
        assert wrong[0]["trace_id"] == headers["x-trace-id"]
        assert json.loads(data)["code"] == "internal"
    assert SECRET.encode() not in data


@pytest.mark.parametrize(
    ("status", "code", "retryable", "title"),
    [
        (400, "refused", False, "Bad Request"),
        (401, "unauthenticated", False, "Unauthorized"),
        (402, "refused", False, "Payment Required"),
        (404, "not_found", False, "Not Found"),
        (405, "method_not_allowed", False, "Method Not Allowed"),
        (409, "conflict", False, "Conflict"),
        (418, "refused", False, "I'm a Teapot"),
        (429, "rate_limited", True, "Too Many Requests"),
        (499, "refused", False, "Error"),
        (500, "internal", False, "Internal Server Error"),
        (503, "unavailable", True, "Service Unavailable"),
    ],
)
def test_a_steps_own_status_and_words_are_kept(
    server: TestServer, status: int, code: str, retryable: bool, title: str
) -> None:
    """As problem+json, with the step's headers, and nothing of what it was raised from."""
    response, data, headers = _ask(server, f"/refused/{status}")
    assert response.status == status
    assert json.loads(data) == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": "Pay First, please",
        "retryable": retryable,
    }
    assert headers["content-type"] == "application/problem+json"
    assert headers["retry-after"] == "7"
    assert len(headers["x-trace-id"]) == 32


def test_a_redirect_is_one(server: TestServer) -> None:
    """Below 400 there is no problem to tell."""
    response, data, headers = _ask(server, "/refused/307")
    assert (response.status, data, headers["location"]) == (307, b"", "/there")


def test_words_that_are_no_text_are_told_as_json(server: TestServer) -> None:
    """FastAPI takes any detail."""
    problem = json.loads(_ask(server, "/refused-fields")[1])
    assert (problem["status"], problem["detail"]) == (422, '{"colour": "is no colour"}')


def test_a_stream_that_has_begun_ends_with_the_steps_words(server: TestServer) -> None:
    """Its status comes too late; that is no fault, so nothing is logged."""
    with capture_logs() as lines:
        blocks = _ask(server, "/refused-stream")[1].decode().strip().split("\n\n")
    assert blocks[-1].splitlines()[0] == "event: error"
    assert json.loads(blocks[-1].splitlines()[2].removeprefix("data: ")) == {
        "error": "Later, please",
        "code": "unavailable",
        "retryable": True,
    }
    assert [line for line in lines if line["log_level"] != "info"] == []


def test_a_stream_for_http_1_0_is_its_plain_bytes(server: TestServer) -> None:
    """As nginx asks for it unless it is told otherwise: no chunk marks, and the end of the connection is the end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /refused-stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with connection.makefile("rb") as said:
            head, _, body = said.read().partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"transfer-encoding" not in head
    assert body == _ask(server, "/refused-stream")[1]


def _nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"{}" * (levels % 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (_nested(200), 200),
        (_nested(201), 400),
        (_nested(300), 400),
        (_nested(900), 400),
        (b"[" * 500_000 + b"]" * 500_000, 400),
        (b"[" + b"{}," * 300 + b"{}]", 200),
        (b'"' + b"[{" * 300 + b'"', 200),
    ],
    ids=["200 levels", "201 levels", "300 levels", "900 levels", "500,000 levels", "many side by side", "in a text"],
)
def test_a_deep_body_is_echoed_or_refused(server: TestServer, body: bytes, status: int) -> None:
    """Never a fault of the server's."""
    response, data, _ = _ask(server, "/echo", body)
    assert response.status == status
    if status == 200:
        assert json.loads(data) == {"value": json.loads(body)}
    else:
        assert json.loads(data)["code"] == "invalid_json"
        assert "nested" in json.loads(data)["detail"]

"""The Python client against servers that cut, repeat themselves, refuse or speak something else."""

from __future__ import annotations

import asyncio

import pytest

from legato.client import BadStream, Complete, Patience, Reconnected, Refused, fold_all
from tests.chat_client import Calls, answering, client_of, read, read_until_error, text_of

pytestmark = pytest.mark.slow

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
NAMED = f"{HEAD}X-Run-Id: r-1\r\n\r\n"


def chunk(seq: int, text: str) -> str:
    return f'event: chunk\nid: r-1.0.{seq}\ndata: {{"content":"{text}","index":{seq},"conversationId":"c-1"}}\n\n'


END = 'event: complete\nid: r-1.0.9\ndata: {"conversationId":"c-1","finishReason":"stop"}\n\n'


def body(*blocks: str, ended: bool = True) -> str:
    """Return blocks as a chunked body, with its proper end or without."""
    raw = "".join(blocks)
    return (f"{len(raw.encode()):x}\r\n{raw}\r\n" if raw else "") + ("0\r\n\r\n" if ended else "")


def problem(status: int, code: str, *, retryable: bool = True, headers: str = "") -> str:
    text = f'{{"code":"{code}","detail":"{code}","retryable":{str(retryable).lower()}}}'
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\n{headers}"
        f"Content-Length: {len(text)}\r\n\r\n{text}"
    )


FROM_2 = "GET /chat/stream/r-1 r-1.0.2"
FROM_START = "GET /chat/stream/r-1"


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        pytest.param([NAMED + body(chunk(2, "a")), NAMED + body(chunk(3, "b"), END)], [FROM_2], id="end-of-file"),
        pytest.param(
            [NAMED + body(chunk(2, "a"), ended=False), NAMED + body(chunk(3, "b"), END)], [FROM_2], id="a-cut"
        ),
        pytest.param(
            [NAMED + body(chunk(2, "a")), NAMED + body(chunk(2, "a"), chunk(3, "b"), END, END)],
            [FROM_2],
            id="a-server-that-repeats-itself",
        ),
        pytest.param(
            [
                NAMED + body(chunk(2, "a")),
                problem(503, "draining", headers="Retry-After: 1\r\n"),
                problem(429, "rate_limited"),
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
                "no HTTP at all\r\n\r\n",
                NAMED + body(chunk(3, "b"), END),
            ],
            [FROM_2] * 5,
            id="what-passes",
        ),
        pytest.param(
            [NAMED + body(), NAMED + body(chunk(2, "a"), chunk(3, "b"), END)],
            [FROM_START],
            id="no-event-at-all",
        ),
        pytest.param(
            [
                NAMED + body('event: error\ndata: {"error":"later","code":"unavailable","retryable":true}\n\n'),
                NAMED + body(chunk(2, "a"), chunk(3, "b"), END),
            ],
            [FROM_START],
            id="a-refusal-inside-a-stream",
        ),
        pytest.param(
            [HEAD + "\r\n" + body(chunk(2, "a")), NAMED + body(chunk(3, "b"), END)],
            [FROM_2],
            id="run-named-by-an-event",
        ),
    ],
)
async def test_a_misbehaving_connection_costs_nothing(answers: list[str], asked: list[str]) -> None:
    """Each time the client goes on behind its cursor; the reader gets each event once, and one end."""
    async with answering(*answers) as (client, seen):
        events = await read(client.stream("hi"))
    assert text_of(events) == "ab"
    assert sum(isinstance(event, Complete) for event in events) == 1
    assert seen[0].startswith("POST /chat/stream ")
    assert seen[1:] == asked


async def test_a_post_that_was_cut_is_repeated_under_its_key() -> None:
    """Also where the server drains meanwhile, and where the stream did not say which run it is."""
    answers = [
        "HTTP/1.1 200",
        problem(503, "draining"),
        HEAD + "\r\n" + body(": ok\n\n"),
        NAMED + body(chunk(2, "a"), END),
    ]
    async with answering(*answers) as (client, seen):
        events = await read(client.stream("hi"))
    assert text_of(events) == "a"
    assert len(seen) == 4
    assert len(set(seen)) == 1


@pytest.mark.parametrize(
    "again", [problem(409, "cursor_diverged", retryable=False), "HTTP/1.1 204 No Content\r\n\r\n"], ids=["409", "204"]
)
async def test_a_lost_place_replays_the_reply(again: str) -> None:
    """The events say so; `send_message` hands nothing out twice, and fails where the text is another one."""
    same = NAMED + body(chunk(2, "ab"), chunk(3, "c"), END)
    async with answering(NAMED + body(chunk(2, "ab")), again, same) as (client, seen):
        events = await read(client.stream("hi"))
    assert seen[1:] == [FROM_2, FROM_START]
    assert Reconnected(restarted=True) in events
    assert fold_all(events).text == "abc"
    async with answering(NAMED + body(chunk(2, "ab")), again, same) as (client, _):
        calls = await Calls().of(client, "hi")
    assert (calls.text, calls.ends) == ("abc", [None])
    async with answering(NAMED + body(chunk(2, "ax")), again, same) as (client, _):
        calls = await Calls().of(client, "hi")
    assert calls.text == "ax"
    assert len(calls.ends) == 1
    assert calls.ends[0]


async def test_a_server_whose_cursors_are_never_its_own_is_given_up() -> None:
    """Not asked for ever."""
    around = [NAMED + body(chunk(2, "a")), problem(409, "cursor_diverged", retryable=False)]
    async with answering(*around * 9) as (client, seen):
        with pytest.raises(Refused) as caught:
            await read(client.stream("hi"))
    assert (caught.value.code, len(seen)) == ("cursor_diverged", 12)


@pytest.mark.parametrize(
    ("answer", "code", "status", "retryable"),
    [
        (problem(503, "overloaded", headers="Retry-After: 7\r\n"), "overloaded", 503, True),
        (problem(429, "conversation_busy"), "conversation_busy", 429, True),
        (problem(402, "budget_spent", retryable=False), "budget_spent", 402, False),
        ("HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\nno", "not_legato", 404, False),
        ("HTTP/1.1 302 X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "not_legato", 302, False),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi", "not_legato", 200, False),
        ("SSH-2.0-server\r\n\r\n", "not_legato", 400, False),
    ],
)
async def test_a_first_post_is_refused_at_once(answer: str, code: str, status: int, retryable: bool) -> None:
    """Whoever typed the message is waiting: one try, and an error that says what it was."""
    async with answering(answer) as (client, seen):
        with pytest.raises(Refused) as caught:
            await read(client.stream("hi"))
    assert len(seen) == 1
    assert (caught.value.code, caught.value.status, caught.value.retryable) == (code, status, retryable)
    assert caught.value.retry_after_s == (7.0 if status == 503 else None)


async def test_what_is_no_stream_of_the_protocol_is_an_error() -> None:
    """Events before the garbage are handed out."""
    async with answering(NAMED + body(chunk(2, "a"), "event: chunk\ndata: <html>\n\n")) as (client, _):
        events, error = await read_until_error(client.stream("hi"))
    assert isinstance(error, BadStream)
    assert text_of(events) == "a"


async def test_a_silent_connection_is_taken_for_dead() -> None:
    """A server that sends no heartbeat is left, and asked again."""
    release = asyncio.Event()
    answers = [NAMED + body(chunk(2, "a"), ended=False), NAMED + body(chunk(3, "b"), END)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0).encode())
        await writer.drain()
        if answers:
            await release.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        patience = Patience(silence_s=0.3, jitter=lambda: 0.0)
        events = await read(client_of(server.sockets[0].getsockname()[1], patience=patience).stream("hi"))
        release.set()
    assert text_of(events) == "ab"

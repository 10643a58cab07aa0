"""The Python client against real servers: cut, killed, stopped, full."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from legato.client import (
    Aborted,
    ApprovalEvent,
    ChatEvent,
    Chunk,
    Complete,
    Failure,
    Open,
    Patience,
    Queued,
    Reconnected,
    Reconnecting,
    Refused,
    ToolEvent,
    Unreachable,
    fold_all,
)
from legato.providers.scripted import reply
from tests.chat_client import Calls, client_of, read, read_until_error, text_of
from tests.cli_process import WAIT_S, cutting_proxy, environment
from tests.conftest import StartServer
from tests.server import ServerProcess, free_port

pytestmark = pytest.mark.slow

SHORT = "script: tokens=4 seed=1"
SLOW = "script: tokens=60 delay_ms=20 seed=1"
ENDLESS = "script: tokens=2000 delay_ms=20 seed=1"


async def test_a_reply_is_open_then_chunks_then_one_complete(server: ServerProcess) -> None:
    """Ids are known from the first event on; the client goes on in the conversation that the first message began."""
    client = client_of(server.port)
    assert client.conversation_id is None
    stream = client.stream(SHORT)
    events = await read(stream)
    first, *chunks, last = events
    assert isinstance(first, Open)
    assert all(isinstance(each, Chunk) for each in chunks)
    assert isinstance(last, Complete)
    assert text_of(events) == reply(1, 4)
    assert (last.finish_reason, last.message_count, last.run_id) == ("stop", 2, stream.run_id)
    assert (first.session_id, first.conversation_id, first.message_id) == (
        "tests",
        client.conversation_id,
        last.message_id,
    )
    assert stream.cursor == last.cursor
    message = await client.stream("script: tokens=2 seed=3", max_tokens=50, metadata={"a": 1}).message()
    assert (message.text, message.status, message.conversation_id) == (reply(3, 2), "complete", client.conversation_id)
    followed = await client.follow(stream.run_id or "").message()
    assert followed == fold_all(events)


async def test_two_messages_at_once_are_one_conversation(server: ServerProcess) -> None:
    """Also where the conversation is new; the later one waits, and says so."""
    client = client_of(server.port)
    both = await asyncio.gather(read(client.stream(SLOW)), read(client.stream(SLOW)))
    assert len({event.conversation_id for events in both for event in events if isinstance(event, Open)}) == 1
    assert any(isinstance(event, Queued) for events in both for event in events)
    assert [text_of(events) for events in both] == [reply(1, 60)] * 2


async def test_a_message_ends_in_one_callback(server: ServerProcess) -> None:
    """Whatever happens: a whole reply, a failed one, one that is refused, one that is stopped, nobody there."""
    client = client_of(server.port)
    whole = await Calls().of(client, SHORT)
    assert (whole.text, whole.ends) == (reply(1, 4), [None])
    failed = await Calls().of(client, "script: tokens=3 fail=400")
    assert (failed.text, len(failed.ends)) == ("", 1)
    assert failed.ends[0]
    refused = await Calls().of(client, "  ")
    assert refused.ends == ["message: is blank: say something"]
    port = free_port()
    nobody = await Calls().of(client_of(port), SHORT)
    assert nobody.ends == [f"no server answers at http://127.0.0.1:{port}: connection refused"]
    stopped = Calls(wanted="1.5")
    task = asyncio.create_task(stopped.of(client, ENDLESS))
    await stopped.reached.wait()
    await client.stop()
    await task
    assert stopped.ends == [None]
    assert reply(1, 2000).startswith(stopped.text)


async def test_reading_can_be_given_up_in_three_ways(server: ServerProcess) -> None:
    """`abort`, a cancelled task, a callback that fails: one final callback each, and the reply goes on."""
    client = client_of(server.port)
    aborted = Calls(wanted="1.5")
    task = asyncio.create_task(aborted.of(client, SLOW))
    await aborted.reached.wait()
    client.abort()
    await task
    assert aborted.ends == ["reading was aborted; the reply goes on"]

    cancelled = Calls(wanted="1.5")
    task = asyncio.create_task(cancelled.of(client, SLOW))
    await cancelled.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.ends == ["reading was cancelled; the reply goes on"]

    faulty = Calls()
    with pytest.raises(ZeroDivisionError):
        await client.send_message(SHORT, lambda _: 1 // 0, faulty.complete, faulty.error)
    assert faulty.ends == ["what takes the reply has failed; the reply goes on"]


async def test_an_aborted_reply_is_followed_from_its_cursor(server: ServerProcess) -> None:
    """What was read and what is read then are the whole; behind the end there is nothing."""
    client = client_of(server.port)
    stream = client.stream(SLOW)
    events: list[ChatEvent] = []
    async for event in stream:
        events.append(event)
        if len(events) == 20:
            break
    stream.abort()
    with pytest.raises(Aborted):
        await anext(stream)
    assert stream.is_over
    assert stream.run_id is not None
    rest = await read(client.follow(stream.run_id, after=stream.cursor))
    assert text_of(events) + text_of(rest) == reply(1, 60)
    last = rest[-1]
    assert isinstance(last, Complete)
    assert await read(client.follow(stream.run_id, after=last.cursor)) == []


@pytest.mark.slow
async def test_a_reply_that_is_cut_anywhere_is_read_whole(server: ServerProcess) -> None:
    """Cut after many numbers of bytes, the head's among them, once or again and again: one run, one text, one end."""

    async def trial(number: int, *cuts: int) -> None:
        conversation_id = f"cut-{number}"
        with cutting_proxy(server.port, *cuts) as proxy:
            events = await read(client_of(proxy.port, conversation_id).stream("script: tokens=5 seed=2 delay_ms=2"))
            assert proxy.connections == len(cuts) + 1, cuts
        assert text_of(events) == reply(2, 5), cuts
        (end,) = (event for event in events if isinstance(event, Complete | Failure))
        assert isinstance(end, Complete)
        assert end.message_count == 2, cuts
        assert sum(isinstance(event, Open) for event in events) == 1
        # aiohttp asks again by itself, once, where a GET was cut before its first byte.
        assert 1 <= sum(isinstance(event, Reconnecting) for event in events) <= len(cuts)

    before = len(server.calls())
    # The head is about 480 bytes long, the whole answer about 1,400.
    cuts = [(at,) for at in range(0, 1300, 41)] + [(0, 0, 0), (300, 700, 900, 1), (500, 510, 520, 530)]
    for at in range(0, len(cuts), 12):
        await asyncio.gather(*(trial(at + number, *each) for number, each in enumerate(cuts[at : at + 12])))
    assert len(server.calls()) == before + len(cuts)


@pytest.mark.slow
async def test_a_regenerated_reply_that_is_cut_is_made_once(server: ServerProcess) -> None:
    """Its post is repeated under its key too."""
    client = client_of(server.port)
    message = await client.stream(SHORT).message()
    before = len(server.calls())
    with cutting_proxy(server.port, 0, 120) as proxy:
        again = await client_of(proxy.port, client.conversation_id).regenerate(message.id or "").message()
        assert proxy.connections == 3
    assert (again.text, again.status) == (message.text, "complete")
    assert again.id != message.id
    assert len(server.calls()) == before + 1


@pytest.mark.slow
async def test_a_reply_outlives_the_servers_death(start_server: StartServer) -> None:
    """After `kill -9` and a start on the same folder the reply goes on where it was, to its end."""
    server = start_server()
    events: list[ChatEvent] = []
    # In its first call it says no more than half: it is not over before the server is killed.
    stream = client_of(server.port).stream(f"{SLOW} stall=30@1")
    async for event in stream:
        events.append(event)
        if text_of(events).count("1.") == 10 and not any(isinstance(each, Reconnecting) for each in events):
            await asyncio.to_thread(server.restart)
    assert text_of(events) == reply(1, 60)
    assert isinstance(events[-1], Complete)
    assert any(isinstance(event, Reconnecting) for event in events)
    assert Reconnected(restarted=False) in events


@pytest.mark.slow
async def test_a_server_that_does_not_come_back_is_told(start_server: StartServer) -> None:
    """After the patience is over, and not before; the run can be followed when it is there again."""
    server = start_server()
    stream = client_of(server.port, patience=Patience(away_s=1.0, jitter=lambda: 0.0)).stream(ENDLESS)
    while not isinstance(event := await anext(stream), Chunk) or event.index < 5:
        pass
    await asyncio.to_thread(server.kill)
    _, error = await read_until_error(stream)
    assert isinstance(error, Unreachable)
    assert (error.was_there, error.retryable, error.code) == (True, True, "unreachable")
    assert stream.run_id is not None


async def test_a_stop_ends_the_reply_as_stopped(server: ServerProcess) -> None:
    """The text is kept, and the stream ends with Complete; what has not begun is not sent at all."""
    client = client_of(server.port)
    stream = client.stream(ENDLESS)
    events: list[ChatEvent] = []
    async for event in stream:
        events.append(event)
        if len(events) == 8:
            await stream.stop()
    last = events[-1]
    assert isinstance(last, Complete)
    assert (last.finish_reason, last.stopped_by) == ("stopped", "user")
    running = client.stream(ENDLESS)
    await anext(running)
    await client.follow(running.run_id or "").stop()
    assert (await running.message()).status == "stopped"
    before = len(server.calls())
    unsent = client.stream(SHORT)
    await unsent.stop()
    with pytest.raises(Aborted):
        await anext(unsent)
    assert len(server.calls()) == before


async def test_a_cursor_that_is_none_replays_from_the_start(server: ServerProcess) -> None:
    """409: whoever reads is told to forget what it has, and gets the whole."""
    client = client_of(server.port)
    stream = client.stream(SHORT)
    await read(stream)
    assert stream.run_id is not None
    for wrong in (f"{stream.run_id}.7.2", f"{stream.run_id}.0.900", "r-other.0.1"):
        first, second, *events = await read(client.follow(stream.run_id, after=wrong))
        assert isinstance(first, Open)
        assert second == Reconnected(restarted=True)
        assert text_of(events) == reply(1, 4)


async def test_refusals_have_a_status_a_code_and_the_wrong_fields(server: ServerProcess) -> None:
    """422 names each field, 404 is an error at once, and none is tried again."""
    client = client_of(server.port)
    with pytest.raises(Refused) as wrong:
        await read(client.stream(" ", temperature=9.0))
    assert (wrong.value.status, wrong.value.code, wrong.value.retryable) == (422, "invalid_request", False)
    assert {each.field for each in wrong.value.fields} == {"message", "temperature"}
    with pytest.raises(Refused) as absent:
        await read(client.follow("r-nowhere"))
    assert (absent.value.status, absent.value.code) == (404, "not_found")
    with pytest.raises(Refused) as undecided:
        await client.decide("r-nowhere", "call", True)
    assert undecided.value.status == 404


@pytest.mark.slow
async def test_limits_and_keys_are_told(start_server: StartServer) -> None:
    """429 with the seconds to wait, 503 of a full server, 401 without a key: at once, for a first post."""
    limited = client_of(start_server(rate_limit="1/minute").port)
    await read(limited.stream(SHORT))
    with pytest.raises(Refused) as often:
        await read(limited.stream(SHORT))
    assert (often.value.status, often.value.code, often.value.retryable) == (429, "rate_limited", True)
    assert often.value.retry_after_s is not None
    assert 1 <= often.value.retry_after_s <= 60

    client = client_of(start_server(max_readers=1).port)
    open_one = client.stream(ENDLESS)
    await anext(open_one)
    with pytest.raises(Refused) as full:
        await read(client.stream(SHORT))
    assert (full.value.status, full.value.code, full.value.retry_after_s) == (503, "overloaded", 5.0)
    await open_one.aclose()

    with pytest.raises(Refused) as unknown:
        await read(client_of(start_server(auth="keys").port, api_key="lk_0_wrong").stream(SHORT))
    assert (unknown.value.status, unknown.value.code) == (401, "unauthenticated")


@pytest.fixture(scope="module")
def tool_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with tools, one of which needs approval."""
    command = (str(Path(__file__).parents[1] / "tool_server.py"), "serve")
    server = ServerProcess(tmp_path_factory.mktemp("tools"), command=command).start()
    yield server
    server.kill()


async def test_a_tool_call_is_decided_on(tool_server: ServerProcess) -> None:
    """The question comes as an event; the answer is taken once, a second one is refused."""
    client = client_of(tool_server.port)
    stream = client.stream('script: tokens=3 seed=1 tool=ask:{"key":"k"}@1')
    events: list[ChatEvent] = []
    async for event in stream:
        events.append(event)
        if isinstance(event, ApprovalEvent) and event.status == "asked":
            assert not stream.is_decided(event.call_id)
            await client.decide(stream.run_id or "", event.call_id, True)
            with pytest.raises(Refused) as twice:
                await client.decide(stream.run_id or "", event.call_id, False)
            assert twice.value.status == 409
    assert [event.status for event in events if isinstance(event, ToolEvent)] == ["called", "running", "done"]
    message = fold_all(events)
    assert (message.text, message.status) == (reply(1, 3), "complete")
    assert [call.approval and call.approval.status for call in message.tools] == ["granted"]
    replayed = client.follow(stream.run_id or "")
    decided = [
        replayed.is_decided(event.call_id)
        async for event in replayed
        if isinstance(event, ApprovalEvent) and event.status == "asked"
    ]
    assert decided == [True]


@pytest.mark.slow
def test_the_snippets_of_the_docs_run(server: ServerProcess, tmp_path: Path) -> None:
    """The Python and curl snippets of docs/clients.md, as they stand."""
    page = (Path(__file__).parents[2] / "docs/clients.md").read_text("utf-8")

    def run(info: str, *command: str) -> str:
        (code,) = re.findall(rf"^```{info}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        for given in ('"s-1", ', ""):
            code = code.replace(f"ChatClient({given.rstrip(', ')})", f'ChatClient({given}base_url="{server.address}")')
        (tmp_path / "snippet").write_text(code.replace("localhost:3111", f"127.0.0.1:{server.port}"))
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment(PYTHONUTF8=1),
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = run("python ask.py", sys.executable, "snippet", SHORT)
    assert told.startswith(f"{reply(1, 4)}\n(stop, conversation c-")
    assert run("python callbacks.py", sys.executable, "snippet", SHORT) == f"{reply(1, 4)}\ncomplete\n"
    assert "event: complete\n" in run("sh curl", "bash", "snippet")

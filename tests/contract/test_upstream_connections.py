"""How connections are kept, shared and lost: over both transports where it is visible."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from legato.core.compiled import plain_texts
from legato.core.run_errors import UpstreamBroken, UpstreamRefused, UpstreamUnavailable
from legato.providers.base import CallEnd
from legato.providers.openai import OpenAIProvider
from tests.contract.upstream_server import LAST_CHUNK, Do, UpstreamServer, answer, chunked, head
from tests.contract.upstream_shapes import DONE, HELLO, HI, text
from tests.contract.upstream_world import REQUEST, STOPPED, Deltas, World, cancelled, direct, stack, until, world

__all__ = ["stack", "world"]


async def test_a_connection_serves_call_after_call(world: World) -> None:
    """A whole message leaves its connection to the next call."""
    server = await world.server((answer(HI),), (answer(HI),), (answer(HI),))
    provider = await world.provider(server)
    for _ in range(3):
        assert await provider.call(REQUEST, Deltas()) == STOPPED
    assert [seen.connection for seen in server.requests] == [1, 1, 1]


async def test_a_refusal_leaves_its_connection_usable(world: World) -> None:
    """A refusal that is whole costs no new connection."""
    refusal = head(400, length=2) + b"{}"
    server = await world.server((refusal,), (answer(HI),))
    provider = await world.provider(server)
    with pytest.raises(UpstreamRefused):
        await provider.call(REQUEST, world.sink)
    assert await provider.call(REQUEST, world.sink) == STOPPED
    assert [seen.connection for seen in server.requests] == [1, 1]


async def test_calls_at_a_time_have_a_connection_each(world: World) -> None:
    """Streams never wait for each other."""
    all_there = asyncio.Event()
    slow = (head() + chunked(text("Hel")), all_there, chunked(text("lo") + DONE) + LAST_CHUNK)
    server = await world.server(*[slow] * 5)
    provider = await world.provider(server)
    sinks = [Deltas() for _ in range(5)]
    async with asyncio.timeout(2.0):
        calls = asyncio.gather(*(provider.call(REQUEST, sink) for sink in sinks))
        await until(lambda: len(server.requests) == 5)
        all_there.set()
        await calls
    assert {seen.connection for seen in server.requests} == {1, 2, 3, 4, 5}
    assert [tuple(sink.texts) for sink in sinks] == [HELLO] * 5


async def test_a_kept_connection_serves_one_call_at_a_time(world: World) -> None:
    """Two calls that begin while one connection is idle share nothing."""
    both = asyncio.Event()
    slow = (head() + chunked(text("Hel")), both, chunked(text("lo") + DONE) + LAST_CHUNK)
    server = await world.server((answer(HI),), slow, slow)
    provider = await world.provider(server)
    await provider.call(REQUEST, Deltas())
    sinks = [Deltas(), Deltas()]
    async with asyncio.timeout(2.0):
        calls = asyncio.gather(*(provider.call(REQUEST, sink) for sink in sinks))
        await until(lambda: len(server.requests) == 3)
        both.set()
        await calls
    assert {seen.connection for seen in server.requests[1:]} == {1, 2}
    assert [tuple(sink.texts) for sink in sinks] == [HELLO] * 2


async def test_a_call_may_begin_before_the_last_one_has_returned(world: World) -> None:
    """A connection that is taken in the same turn of the loop belongs to its new call alone."""
    late = (head() + chunked(text("Hel")), 0.1, chunked(text("lo") + DONE) + LAST_CHUNK)
    server = await world.server((answer(text("Hel") + DONE),), late)
    provider = await world.provider(server)
    tasks: list[asyncio.Task[CallEnd]] = []

    class Starting(Deltas):
        def text(self, delta: str) -> None:
            tasks.append(asyncio.ensure_future(provider.call(REQUEST, world.sink)))

    await provider.call(REQUEST, Starting())
    assert await asyncio.wait_for(tasks[0], 2.0) == STOPPED
    assert tuple(world.sink.texts) == HELLO


async def test_a_connection_that_the_server_will_close_is_not_kept(world: World) -> None:
    """`Connection: close` is believed, though the connection is still open."""
    closing = head(headers="connection: close") + chunked(HI) + LAST_CHUNK
    server = await world.server((closing,), (answer(HI),))
    provider = await world.provider(server)
    for _ in range(2):
        assert await provider.call(REQUEST, Deltas()) == STOPPED
    assert [seen.connection for seen in server.requests] == [1, 2]


@pytest.mark.parametrize(("header", "connections"), [("x-kept: yes", [1, 1]), ("connection: close", [1, 2])])
async def test_a_stream_in_plain_chunks_ends_as_its_head_said(
    world: World, header: str, connections: list[int]
) -> None:
    """What is let go of between plain chunks is known again at the end, and no second head is seen."""
    begin = (head(headers=header) + chunked(text("a")), 0.02, chunked(text("b")), 0.02, chunked(text("c")), 0.02)
    server = await world.server((*begin, chunked(DONE) + LAST_CHUNK), (*begin, chunked(HI) + LAST_CHUNK))
    provider = await world.provider(server)
    sinks = [Deltas(), Deltas()]
    for sink in sinks:
        await provider.call(REQUEST, sink)
    assert [("".join(sink.texts), sink.opens) for sink in sinks] == [("abc", 1), ("abc" + "".join(HELLO), 1)]
    assert [seen.connection for seen in server.requests] == connections


@pytest.mark.skipif(plain_texts is None, reason="nothing is compiled here")
async def test_a_silent_stream_holds_no_parser(stack: AsyncExitStack) -> None:
    """Thousands of streams may be silent for long: a parser is a tenth of what each of them would hold."""
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.append((head() + chunked(text("a")), *(0.02, chunked(text("b"))) * 5, Do.HOLD))
    provider = direct(server)
    stack.push_async_callback(provider.close)
    call = asyncio.create_task(provider.call(REQUEST, Deltas()))
    await until(lambda: [each._parser for each in getattr(provider._transport, "_open", ())] == [None])
    await cancelled(call)


async def test_calls_past_the_limit_wait(world: World) -> None:
    """`max_connections` holds, and the call that waited goes on when one ends or is cancelled."""
    server = await world.server((head(), Do.HOLD), (answer(HI),))
    provider = await world.provider(server, max_connections=1)
    first = asyncio.create_task(provider.call(REQUEST, Deltas()))
    await until(lambda: bool(server.requests))
    second = asyncio.create_task(provider.call(REQUEST, world.sink))
    await asyncio.sleep(0.1)
    assert len(server.requests) == 1
    await cancelled(first)
    assert await asyncio.wait_for(second, 2.0) == STOPPED


@pytest.mark.parametrize("ending", [Do.CLOSE, Do.RESET])
async def test_a_stale_connection_is_replaced(world: World, ending: Do) -> None:
    """A kept connection that dies at the next request, before any byte, is no failure."""
    server = await world.server((answer(HI),), (ending,), (answer(HI),))
    provider = await world.provider(server)
    await provider.call(REQUEST, Deltas())
    assert await provider.call(REQUEST, world.sink) == STOPPED
    assert [seen.connection for seen in server.requests] == [1, 1, 2]
    assert tuple(world.sink.texts) == HELLO


async def test_a_connection_closed_while_idle_is_not_used(world: World) -> None:
    """A close that has been seen costs nothing."""
    server = await world.server((answer(HI), Do.CLOSE), (answer(HI),))
    provider = await world.provider(server)
    await provider.call(REQUEST, Deltas())
    await asyncio.sleep(0.1)
    assert await provider.call(REQUEST, world.sink) == STOPPED
    assert [seen.connection for seen in server.requests] == [1, 2]


async def test_a_fresh_connection_that_dies_is_not_retried(world: World) -> None:
    """One request is one request: only staleness is made good here, the rest is the run's."""
    server = await world.server((Do.CLOSE,), (answer(HI),))
    provider = await world.provider(server)
    with pytest.raises(UpstreamUnavailable):
        await provider.call(REQUEST, world.sink)
    assert len(server.requests) == 1


async def test_a_kept_connection_that_dies_in_the_answer_is_not_retried(world: World) -> None:
    """Once a byte of an answer has come, the model may have been at work."""
    server = await world.server((answer(HI),), (b"HTTP/1.1 2", 0.05, Do.CLOSE), (answer(HI),))
    provider = await world.provider(server)
    await provider.call(REQUEST, Deltas())
    with pytest.raises(UpstreamUnavailable):
        await provider.call(REQUEST, world.sink)
    assert len(server.requests) == 2


async def test_an_idle_connection_is_closed(world: World) -> None:
    """What is not used is given back after `idle_s`."""
    server = await world.server((answer(HI),), (Do.HOLD,))
    provider = await world.provider(server, idle_s=0.1)
    await provider.call(REQUEST, world.sink)
    await asyncio.sleep(0.4)
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await until(lambda: len(server.requests) == 2)
    assert server.requests[1].connection == 2
    await cancelled(task)


async def test_a_message_that_ends_late_keeps_its_connection(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[DONE] ends the call at once; the last HTTP chunk may follow in its own time."""
    monkeypatch.setattr("legato.providers.openai_http._DRAIN_S", 20.0)
    returned = asyncio.Event()
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.extend([(head() + chunked(HI), returned, LAST_CHUNK), (answer(HI),)])
    provider = direct(server)
    stack.push_async_callback(provider.close)
    # Its last chunk is not sent before it has returned.
    await asyncio.wait_for(provider.call(REQUEST, Deltas()), 2.0)
    returned.set()
    await until(lambda: bool(getattr(provider._transport, "_idle", ())))
    await provider.call(REQUEST, Deltas())
    assert [seen.connection for seen in server.requests] == [1, 1]


async def test_a_message_that_never_ends_is_closed(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole reply's connection is not held for ever by a missing last chunk."""
    monkeypatch.setattr("legato.providers.openai_http._DRAIN_S", 0.1)
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.append((head() + chunked(HI), Do.HOLD))
    provider = direct(server)
    stack.push_async_callback(provider.close)
    await provider.call(REQUEST, Deltas())
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_bytes_after_a_message_cost_the_connection_only(stack: AsyncExitStack) -> None:
    """Stray bytes in the same read do no harm to the reply before them, and are never an answer."""
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.extend([(answer(HI) + answer(text("ghost") + DONE),), (answer(HI),)])
    provider = direct(server)
    stack.push_async_callback(provider.close)
    for _ in range(2):
        sink = Deltas()
        assert await provider.call(REQUEST, sink) == STOPPED
        assert tuple(sink.texts) == HELLO
    assert [seen.connection for seen in server.requests] == [1, 2]


async def test_a_broken_transfer_coding_is_a_cut(stack: AsyncExitStack) -> None:
    """What cannot be taken apart ends the stream; aiohttp leaves that to the caller's time limit."""
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.append((head() + chunked(text("Hel")) + b"zz\r\n", Do.HOLD))
    provider = direct(server)
    stack.push_async_callback(provider.close)
    sink = Deltas()
    with pytest.raises(UpstreamBroken):
        await asyncio.wait_for(provider.call(REQUEST, sink), 2.0)
    assert sink.texts == ["Hel"]
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_a_head_without_end_is_refused(stack: AsyncExitStack) -> None:
    """Memory is bounded before the body, too."""
    server = await stack.enter_async_context(UpstreamServer())
    server.scripts.append((b"HTTP/1.1 200 OK\r\n", *[b"x-pad: %b\r\n" % (b"y" * 8000)] * 20, Do.HOLD))
    provider = direct(server)
    stack.push_async_callback(provider.close)
    with pytest.raises(Exception, match="no end to its head"):
        await asyncio.wait_for(provider.call(REQUEST, Deltas()), 2.0)


async def test_nobody_listening_is_unavailable(stack: AsyncExitStack) -> None:
    """A refused connection is named and may pass."""
    server = await stack.enter_async_context(UpstreamServer())
    provider = direct(server)
    server._server.close()
    await server._server.wait_closed()
    with pytest.raises(UpstreamUnavailable, match=f"could not connect to localhost:{server.port}"):
        await provider.call(REQUEST, Deltas())


async def test_an_unknown_host_is_unavailable() -> None:
    """A name that does not resolve is named and may pass."""
    provider = OpenAIProvider("test", model="m", base_url="http://nowhere.invalid", proxy="")
    with pytest.raises(UpstreamUnavailable, match=r"could not connect to nowhere\.invalid"):
        await provider.call(REQUEST, Deltas())

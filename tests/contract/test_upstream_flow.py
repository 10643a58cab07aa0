"""Stopping a call: cancellation, pausing, a sink that fails; over both transports."""

from __future__ import annotations

import asyncio

import pytest

from legato.core.run_errors import UpstreamUnavailable
from tests.contract.upstream_server import (
    Do,
    answer,
    chunked,
    head,
)
from tests.contract.upstream_shapes import HELLO, HI, text
from tests.contract.upstream_world import (
    REQUEST,
    Deltas,
    World,
    cancelled,
    settled,
    until,
    world,
)

__all__ = ["world"]


async def test_cancellation_closes_the_connection(world: World) -> None:
    """The server sees the close within a second, in mid-stream."""
    server = await world.server((head() + chunked(text("Hel")), Do.HOLD))
    provider = await world.provider(server)
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await asyncio.wait_for(world.sink.came.wait(), 2.0)
    await cancelled(task)
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_cancellation_before_the_head_closes_the_connection(world: World) -> None:
    """The server sees the close within a second though it has not answered."""
    server = await world.server((Do.HOLD,))
    provider = await world.provider(server)
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await until(lambda: bool(server.requests))
    await cancelled(task)
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_cancellation_while_paused_closes_the_connection(world: World) -> None:
    """A stream that is stopped closes as fast as one that flows."""
    server = await world.server((head(), Do.FLOOD))
    provider = await world.provider(server)
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await asyncio.wait_for(world.sink.came.wait(), 2.0)
    assert world.sink.flow is not None
    world.sink.flow.pause_reading()
    await cancelled(task)
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_closing_the_provider_ends_its_calls(world: World) -> None:
    """No call outlives its provider."""
    server = await world.server((head() + chunked(text("Hel")), Do.HOLD))
    provider = await world.provider(server)
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await asyncio.wait_for(world.sink.came.wait(), 2.0)
    await provider.close()
    with pytest.raises(UpstreamUnavailable):
        await asyncio.wait_for(task, 1.0)
    await asyncio.wait_for(server.closed_at.get(), 1.0)


async def test_pausing_stops_the_flow_and_resuming_goes_on(world: World) -> None:
    """A paused stream gives nothing, and holds the server back instead of filling the memory."""
    server = await world.server((head(), Do.FLOOD))
    provider = await world.provider(server)
    task = asyncio.create_task(provider.call(REQUEST, world.sink))
    await asyncio.wait_for(world.sink.came.wait(), 2.0)
    flow = world.sink.flow
    assert flow is not None
    flow.pause_reading()
    await settled(lambda: server.flooded_bytes)
    taken, sent = len(world.sink.texts), server.flooded_bytes
    await asyncio.sleep(0.1)
    assert (len(world.sink.texts), server.flooded_bytes) == (taken, sent)
    assert sent < 32 * 1024 * 1024
    flow.resume_reading()
    await until(lambda: len(world.sink.texts) > taken and server.flooded_bytes > sent)
    await cancelled(task)


async def test_a_flow_has_no_hold_on_the_next_call(world: World) -> None:
    """A late pause of a call that has ended leaves the connection's next call alone."""
    server = await world.server((answer(HI),), (answer(HI),))
    provider = await world.provider(server)
    await provider.call(REQUEST, world.sink)
    assert world.sink.flow is not None
    world.sink.flow.pause_reading()
    await asyncio.wait_for(provider.call(REQUEST, world.sink), 2.0)
    world.sink.flow.resume_reading()
    assert world.sink.texts == [*HELLO, *HELLO]


class PausingSink(Deltas):
    """Pauses at the first delta, from inside the sink."""

    def text(self, delta: str) -> None:
        super().text(delta)
        assert self.flow is not None
        self.flow.pause_reading()


async def test_a_reply_that_ends_while_paused_ends(world: World) -> None:
    """What had been read before the pause is delivered, and the next call flows."""
    server = await world.server((answer(HI),), (answer(HI),))
    provider = await world.provider(server)
    await asyncio.wait_for(provider.call(REQUEST, PausingSink()), 2.0)
    await asyncio.wait_for(provider.call(REQUEST, world.sink), 2.0)
    assert tuple(world.sink.texts) == HELLO


class FailingSink(Deltas):
    def text(self, delta: str) -> None:
        raise LookupError("the sink's own")


async def test_what_the_sink_raises_ends_the_call(world: World) -> None:
    """A sink's error comes out of the call, and closes the connection."""
    server = await world.server((head() + chunked(HI), Do.HOLD))
    provider = await world.provider(server)
    with pytest.raises(LookupError, match="the sink's own"):
        await asyncio.wait_for(provider.call(REQUEST, FailingSink()), 2.0)
    await asyncio.wait_for(server.closed_at.get(), 1.0)

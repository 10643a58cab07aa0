"""The provider on uvloop, which serves in production: the same promises on its transports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import uvloop

from tests.contract import test_upstream_connections as connections
from tests.contract import test_upstream_flow as flow
from tests.contract import test_upstream_provider as provider
from tests.contract import test_upstream_tls as tls
from tests.contract.test_upstream_tls import Authority, authority
from tests.contract.upstream_server import Do
from tests.contract.upstream_shapes import SHAPES
from tests.contract.upstream_world import World

__all__ = ["authority"]

SCENARIOS: list[Callable[[World], Awaitable[None]]] = [
    provider.test_an_answer_may_come_byte_by_byte,
    flow.test_cancellation_closes_the_connection,
    flow.test_cancellation_before_the_head_closes_the_connection,
    flow.test_cancellation_while_paused_closes_the_connection,
    flow.test_closing_the_provider_ends_its_calls,
    flow.test_pausing_stops_the_flow_and_resuming_goes_on,
    flow.test_a_flow_has_no_hold_on_the_next_call,
    flow.test_a_reply_that_ends_while_paused_ends,
    flow.test_what_the_sink_raises_ends_the_call,
    connections.test_a_connection_serves_call_after_call,
    connections.test_calls_past_the_limit_wait,
    connections.test_a_connection_closed_while_idle_is_not_used,
    connections.test_an_idle_connection_is_closed,
    tls.test_connecting_has_a_limit,
    tls.test_tls_to_a_server_without_it_is_unavailable,
]
WAYS = pytest.mark.parametrize("way", ["direct", "proxied"])


def run(way: str, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            await scenario(World(way, stack))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@WAYS
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_promise_holds_on_uvloop(way: str, scenario: Callable[[World], Awaitable[None]]) -> None:
    """What the suite shows on asyncio's own loop holds on uvloop."""
    run(way, scenario)


@WAYS
def test_the_table_of_shapes_holds_on_uvloop(way: str) -> None:
    """Every shape, one after another."""

    async def scenario(world: World) -> None:
        for shape in SHAPES:
            async with AsyncExitStack() as stack:
                await provider.test_every_shape_over_the_network(World(way, stack), shape)

    run(way, scenario)


@WAYS
@pytest.mark.parametrize("ending", [Do.CLOSE, Do.RESET])
def test_cuts_mean_the_same_on_uvloop(way: str, ending: Do) -> None:
    """A cut stream is broken, a stale connection is replaced."""

    async def scenario(world: World) -> None:
        await connections.test_a_stale_connection_is_replaced(world, ending)
        async with AsyncExitStack() as stack:
            await provider.test_a_cut_in_mid_stream_is_broken(World(way, stack), ending)

    run(way, scenario)


@WAYS
def test_tls_holds_on_uvloop(way: str, authority: Authority) -> None:
    """Streams, reuse, staleness and cancellation over TLS; certificates are checked."""

    async def scenario(world: World) -> None:
        for promise in (
            tls.test_tls_streams_reuses_and_cancels,
            tls.test_a_certificate_that_is_not_trusted_is_refused,
            tls.test_a_certificate_for_another_name_is_refused,
        ):
            async with AsyncExitStack() as stack:
                await promise(World(way, stack), stack, authority)

    run(way, scenario)

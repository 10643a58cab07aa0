"""What is particular to NOTIFY and to Redis: sizes, sockets, addresses, strangers in the channel."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import uvloop
from redis.asyncio import Redis

from legato.core.errors import ConfigurationError
from legato.fanout.base import Hints, channel_of
from legato.fanout.hint import EVERYTHING, Hint, HintKind
from legato.fanout.notify import NotifyHints
from legato.fanout.redis import RedisHints
from tests.postgres import Postgres
from tests.valkey import Valkey

SOON_S = 20.0


async def _until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON_S):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def _started(stack: AsyncExitStack, hints: Hints) -> list[Hint]:
    """Start hints, wait until they are connected, and return the list that they fill."""
    heard: list[Hint] = []
    hints.on_hint(heard.append)
    await hints.start()
    stack.push_async_callback(hints.close)
    await _until(lambda: hints.connected)
    heard.clear()
    return heard


async def test_a_large_hint_is_several_notifications(postgres: Postgres) -> None:
    """15,000 keys are 120 kB; PostgreSQL takes 8,000 bytes of text at a time."""
    async with AsyncExitStack() as stack:
        speaker, listener = (NotifyHints(postgres.url, namespace="large") for _ in range(2))
        await _started(stack, speaker)
        heard = await _started(stack, listener)
        keys = frozenset(range(2**63 - 15_000, 2**63))
        speaker.publish(Hint(kind=HintKind.GROWN, keys=keys))
        await _until(lambda: frozenset().union(*(hint.keys for hint in heard)) == keys)
        # The speaker counts what the database has confirmed: the listener may hear of it before.
        await _until(lambda: speaker.messages_sent >= listener.messages_heard)
        assert 20 <= listener.messages_heard == speaker.messages_sent <= 30
        assert EVERYTHING not in heard


async def test_hints_stay_in_their_namespace(postgres: Postgres, valkey: Valkey) -> None:
    """Servers that share a Redis or a database do not wake each other."""
    one, other = secrets.token_hex(4), secrets.token_hex(4)
    for make in (
        lambda name: NotifyHints(postgres.url, namespace=name),
        lambda name: RedisHints(valkey.url, namespace=name),
    ):
        async with AsyncExitStack() as stack:
            speaker = make(one)
            await _started(stack, speaker)
            near, far = await _started(stack, make(one)), await _started(stack, make(other))
            speaker.publish(Hint(kind=HintKind.STOP, keys=frozenset({1})))
            await _until(lambda near=near: near)  # type: ignore[misc]
            assert far == []


async def test_a_stranger_in_the_channel_costs_a_look(postgres: Postgres, valkey: Valkey) -> None:
    """What cannot be read counts as EVERYTHING, and the next hint is heard."""
    name = secrets.token_hex(4)
    async with AsyncExitStack() as stack:
        by_notify = await _started(stack, NotifyHints(postgres.url, namespace=name))
        by_redis = await _started(stack, RedisHints(valkey.url, namespace=name))
        with postgres.connect() as connection:
            for text in ("", "*", "häh", "AAAA"):
                connection.execute("SELECT pg_notify(%s, %s)", (channel_of(name), text))
        async with Redis.from_url(valkey.url) as client:
            for message in (b"", b"\xff", b"x" * 5_000):
                await client.publish(channel_of(name), message)
        await _until(lambda: len(by_notify) == 4 and len(by_redis) == 3)
        assert {*by_notify, *by_redis} == {EVERYTHING}


def _sockets_of_others_are_left_alone(postgres: Postgres, run: Callable[..., None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        name = secrets.token_hex(4)
        async with AsyncExitStack() as stack:
            hints = NotifyHints(postgres.url, namespace=name, application_name=name, longest_pause_s=0.1)
            heard = await _started(stack, hints)
            for turn in range(1, 6):
                postgres.end_sessions(name)
                await _until(lambda: not hints.connected)
                # The numbers that were closed are given to these.
                pairs = [socket.socketpair() for _ in range(8)]
                for left, right in pairs:
                    left.setblocking(False)
                    right.setblocking(False)
                asked = [asyncio.create_task(loop.sock_recv(left, 10)) for left, _ in pairs]
                await _until(lambda turn=turn: hints.connected and len(heard) >= turn)  # type: ignore[misc]
                for _, right in pairs:
                    await loop.sock_sendall(right, b"mine")
                assert await asyncio.wait_for(asyncio.gather(*asked), SOON_S) == [b"mine"] * 8
                for left, right in pairs:
                    left.close()
                    right.close()

    run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_lost_connection_does_not_read_what_comes_after_it(postgres: Postgres, run: Callable[..., None]) -> None:
    """The loop lets go of a socket before its number can be another's."""
    _sockets_of_others_are_left_alone(postgres, run)


async def test_no_task_or_connection_is_left(postgres: Postgres, valkey: Valkey) -> None:
    """After `close`, and after a `close` while connecting, the loop has nothing of ours."""
    name = secrets.token_hex(4)
    before = asyncio.all_tasks()
    for hurried in (False, True):
        for hints in (
            NotifyHints(postgres.url, namespace=name, application_name=name),
            RedisHints(valkey.url, namespace=name),
        ):
            await hints.start()
            if not hurried:
                await _until(lambda hints=hints: hints.connected)  # type: ignore[misc]
            await hints.close()
    assert asyncio.all_tasks() == before
    await _until(lambda: postgres.end_sessions(name) == 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NotifyHints("postgresql://ann:hidden@127.0.0.1:hidden/x", namespace="n"),
        lambda: NotifyHints("postgresql://ann:x/hidden@127.0.0.1/x", namespace="n"),
        lambda: NotifyHints("postgresql://ann:x@hidden@127.0.0.1/x", namespace="n"),
        lambda: NotifyHints("postgresql://ann:hidden@[127.0.0.1/x", namespace="n"),
        lambda: RedisHints("http://ann:hidden@127.0.0.1/", namespace="n"),
        lambda: RedisHints("redis://ann:hidden@127.0.0.1:hidden/0", namespace="n"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_at_once(make: Callable[[], Hints]) -> None:
    """The error says which address is meant, and repeats nothing of it."""
    with pytest.raises(ConfigurationError, match="hints: the") as refused:
        make()
    assert "hidden" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__

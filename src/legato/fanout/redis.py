"""Hints over Redis, or what speaks its protocol: one connection that publishes, one that is subscribed.

redis-py heals the first by itself, by its pool; a subscription ends with its connection, and is made anew here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from legato.core.errors import ConfigurationError
from legato.fanout.base import CLOSE_S, Hints, channel_of
from legato.fanout.hint import EVERYTHING, Hint, decode, encode
from legato.fanout.outage import LONGEST_S, Outage
from legato.fanout.pending import Pending

# The client's parser raises the last two where a connection ends oddly.
_FAULTS: Final = (RedisError, OSError, TimeoutError, AttributeError, RuntimeError)
ANSWER_S: Final = 5.0
"""Seconds within which the server has to answer; a connection that is slower is given up."""
CONNECT_S: Final = 3.0
ALIVE_S: Final = 15.0
"""Seconds after which a silent subscription is asked for a sign of life."""
MESSAGE_BYTES: Final = 1_000_000

Message = dict[str, Any]


class RedisHints(Hints):
    """Hints of one node over Redis.

    Args:
        url: redis://… or rediss://…, as redis-py reads it.
        namespace: See `channel_of`.
        longest_pause_s: Between two attempts to connect.

    Raises:
        ConfigurationError: redis-py cannot read the address.
    """

    def __init__(self, url: str, *, namespace: str, longest_pause_s: float = LONGEST_S) -> None:
        super().__init__()
        try:
            self._client = Redis.from_url(
                url,
                socket_timeout=ANSWER_S,
                socket_connect_timeout=CONNECT_S,
                # Pauses are made here, where an outage is known of and logged once.
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        except (ValueError, RedisError):
            # The library's message repeats parts of the address.
            raise ConfigurationError(
                "hints: the Redis address does not read redis://[user:password@]host:port"
            ) from None
        self._channel = channel_of(namespace)
        self._outage = Outage(
            "redis", self._client.connection_pool.connection_kwargs.get("password"), longest_s=longest_pause_s
        )
        self._pending = Pending()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._away = False
        self._subscribed = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def connected(self) -> bool:
        return self._subscribed

    def publish(self, hint: Hint) -> None:
        if not self._tasks:
            return
        if self._away:
            self._pending.lose()
            return
        self._pending.add(hint)
        self._idle.clear()
        self._waiting.set()

    async def start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._listen())]

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        if not self._away:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._idle.wait()
            except TimeoutError:
                pass
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._subscribed = False
        await self._client.aclose()

    async def _publish(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            try:
                for message in encode(self._pending.take(), self._sender, most_bytes=MESSAGE_BYTES):
                    self.messages_sent += 1
                    await self._client.publish(self._channel, message)
            except _FAULTS as error:
                self._away = True
                self._pending.lose()
                self._waiting.set()
                await self._outage.wait(error, "publish")
                continue
            self._away = False
            self._outage.over("publish")
            if not self._pending:
                self._idle.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as subscription:
                    await subscription.subscribe(self._channel)
                    while True:
                        self._take(await self._next(subscription))
            except _FAULTS as error:
                self._subscribed = False
                await self._outage.wait(error, "subscribe")

    async def _next(self, subscription: PubSub) -> Message:
        """Return what comes next.

        Raises:
            TimeoutError: Nothing came, and no sign of life either.
        """
        said: Message | None = await subscription.get_message(timeout=ALIVE_S)
        if said is None:
            await subscription.ping()
            said = await subscription.get_message(timeout=ANSWER_S)
        if said is None:
            raise TimeoutError(f"no sign of life in {ANSWER_S} s")
        return said

    def _take(self, said: Message) -> None:
        if said["type"] == "subscribe":
            self._subscribed = True
            self._outage.over("subscribe")
            self._hear([EVERYTHING])
        elif said["type"] == "message":
            sender, hints = decode(said["data"])
            if sender != self._sender:
                self.messages_heard += 1
                self._hear(hints)

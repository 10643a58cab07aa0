"""The seam between nodes: a hint wakes those who would have looked a little later anyway.

The law, which tests/contract/test_hints.py holds every implementation to:

1. `publish` never waits and never fails, whatever the state of the other end.
2. What is published reaches every other node that is connected, in any order, once or more often, and not the node
   that published it.
3. Where that may have been broken, the nodes concerned hear `EVERYTHING`: each after it has (re)connected, all after
   one could not send. Between the loss and that hint nothing is heard; whoever needs more has to look by itself.
4. What is published while a message is on its way is one message afterwards.
5. Memory is bounded while the other end is away, and an outage is logged once.
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import structlog

from legato.fanout.hint import SENDER_BYTES, Hint

log = structlog.get_logger(__name__)

Heard = Callable[[Hint], None]


class Hints(ABC):
    """Hints of one node. Everything is called, and calls back, on the event loop that it was started on.

    Attributes:
        messages_sent: How often something was sent to the other end, since the start.
        messages_heard: How many messages of other nodes came in, since the start.
    """

    def __init__(self) -> None:
        self.messages_sent = 0
        self.messages_heard = 0
        self._sender = secrets.token_bytes(SENDER_BYTES)
        self._heard: list[Heard] = []

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether hints of other nodes can be heard now."""

    @abstractmethod
    def publish(self, hint: Hint) -> None:
        """Tell the other nodes, soon. Before `start` and after `close` nothing happens."""

    def on_hint(self, heard: Heard) -> None:
        """Call a function, which must not block, with each hint of other nodes and each `EVERYTHING`."""
        self._heard.append(heard)

    @abstractmethod
    async def start(self) -> None:
        """Begin to connect. Returns at once: the other end may be away for as long as it likes."""

    @abstractmethod
    async def close(self) -> None:
        """Send what waits, for at most CLOSE_S where the other end is there, and let go of it."""

    def _hear(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            for heard in self._heard:
                try:
                    heard(hint)
                # The boundary of a callback: the next hint and the connection must not suffer from it.
                except Exception:
                    log.exception("a hint was not taken", kind=hint.kind.name.lower())


CLOSE_S = 0.5
"""Seconds that `close` lets hints go out: those that offer runs to other nodes are worth it."""


def channel_of(namespace: str) -> str:
    """Return the name under which the nodes of one database hear each other; several may share one Redis.

    Args:
        namespace: The same for all nodes of a database, and for no others.
    """
    return "legato:" + hashlib.blake2b(namespace.encode(), digest_size=8).hexdigest()

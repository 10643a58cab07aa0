"""Hints between the nodes of one process; with one node, which is SQLite's case, nobody hears anything."""

from __future__ import annotations

import asyncio

from legato.fanout.base import Hints
from legato.fanout.hint import EVERYTHING, Hint
from legato.fanout.pending import Pending


class MemoryChannel:
    """Where nodes of one event loop hear each other."""

    def __init__(self) -> None:
        self._nodes: list[MemoryHints] = []

    def join(self, node: MemoryHints) -> None:
        self._nodes.append(node)

    def leave(self, node: MemoryHints) -> None:
        if node in self._nodes:
            self._nodes.remove(node)

    def has(self, node: MemoryHints) -> bool:
        return node in self._nodes

    def others(self, node: MemoryHints) -> list[MemoryHints]:
        return [each for each in self._nodes if each is not node]


class MemoryHints(Hints):
    """Hints of one node over a channel, which is its own where none is given."""

    def __init__(self, channel: MemoryChannel | None = None) -> None:
        super().__init__()
        self._channel = channel or MemoryChannel()
        self._pending = Pending()

    @property
    def connected(self) -> bool:
        return self._channel.has(self)

    def publish(self, hint: Hint) -> None:
        if not self._channel.others(self) or not self.connected:
            return
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._send)
        self._pending.add(hint)

    async def start(self) -> None:
        if not self.connected:
            self._channel.join(self)
            self._hear([EVERYTHING])

    async def close(self) -> None:
        self._send()
        self._channel.leave(self)

    def _send(self) -> None:
        hints = self._pending.take()
        if hints and self.connected:
            self.messages_sent += 1
            for node in self._channel.others(self):
                node.messages_heard += 1
                node._hear(hints)

"""A log as the committer sees it."""

from __future__ import annotations

from collections.abc import Sequence

from legato.core.event import LogItem


class Log:
    """The log of a live run: what was published, and what was refused."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.epoch = 0
        self.pending: list[LogItem] = []
        self.shown: list[LogItem] = []
        self.failed: list[Exception] = []

    @property
    def end(self) -> int:
        return len(self.shown)

    def publish(self, items: Sequence[LogItem]) -> None:
        self.shown += items

    def append_failed(self, error: Exception) -> None:
        self.failed.append(error)

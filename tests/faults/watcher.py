"""A person at a screen: posts once, and goes on reading by the cursor through whatever happens to the server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tests.faults.client import Connection, chat_bytes
from tests.faults.oracle import Expected, Tally, check_run
from tests.faults.reader import Reader

RETRY_S = 0.01


class Address(Protocol):
    """Where to ask: one server, or whichever of several answers."""

    @property
    def port(self) -> int: ...


class Watcher(threading.Thread):
    """Reads one reply to its end, in a thread of its own.

    Args:
        key: Idempotency key: a post whose answer was lost is repeated with it.
        within_s: When to give up.
        body: Further fields of the post.

    Attributes:
        statuses: Responses by status; 0 counts connections that failed.
    """

    def __init__(
        self,
        server: Address,
        message: str,
        conversation_id: str,
        key: str,
        *,
        within_s: float = 40.0,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name=f"watcher-{key}", daemon=True)
        self.reader = Reader()
        self.conversation_id = conversation_id
        self.statuses: Counter[int] = Counter()
        self.retry_after: list[str] = []
        self._server = server
        self._request = chat_bytes(message, conversation_id, key, body)
        self._until = time.monotonic() + within_s
        self.key = key

    @property
    def chunks(self) -> int:
        return len(self.reader.text) and sum(1 for frame in list(self.reader.frames) if frame.name == b"chunk")

    @property
    def epoch(self) -> int:
        """Under which the last event was written that it was shown; -1 before the first."""
        frames = list(self.reader.frames)
        return frames[-1].epoch if frames else -1

    def run(self) -> None:
        while self.reader.terminal is None and not self._gave_up() and time.monotonic() < self._until:
            try:
                self._look()
            except OSError:
                self.statuses[0] += 1
            if self.reader.terminal is None:
                time.sleep(RETRY_S)

    def _gave_up(self) -> bool:
        # 204: it is told that it has the end already, and it has not.
        return bool(self.reader.faults or self._refused()) or self.statuses[204] > 0

    def _refused(self) -> set[int]:
        """Return the answers that no fault explains: asking again would not help."""
        return set(self.statuses) - {0, 200, 204, 503}

    def _look_until(self) -> float:
        """Return the monotonic time at which a connection is given up that has not ended by then."""
        return self._until

    def _look(self) -> None:
        if self.reader.run_id is not None:
            response = self.reader.follow(self._server.port, until=self._look_until())
        else:
            connection = Connection(self._server.port)
            try:
                connection.send(self._request)
                response = self.reader.drain(connection, until=self._look_until())
            finally:
                connection.cut("fin")
        self.statuses[response.status if response is not None else 0] += 1
        if response is not None and "retry-after" in response.headers:
            self.retry_after.append(response.headers["retry-after"])
            time.sleep(0.1)

    def saw(self, chunks: int, *, within_s: float = 20.0) -> bool:
        """Wait until so many chunks were shown, or the reply has ended; return whether they were."""
        return wait_until(lambda: self.chunks >= chunks or self.reader.terminal is not None, within_s)

    def saw_later(self, epoch: int, *, within_s: float = 20.0) -> bool:
        """Wait until it was shown what was written under a later epoch, or the reply has ended; return whether it was.

        What a server had written and not shown when it ended comes first, and says nothing of the one after it.
        """
        return wait_until(lambda: self.epoch > epoch or self.reader.terminal is not None, within_s)

    def finish(self) -> None:
        """Wait until it has read the end, or gave up."""
        self.join(max(0.0, self._until - time.monotonic()) + 5.0)

    def check(self, tally: Tally, name: str, expected: Expected) -> None:
        """Check what it was shown; the server must be running."""
        self.check_answers(tally, name)
        check_run(tally, f"{name} {self.key}", self._server.port, self.reader, expected, self.conversation_id)

    def check_answers(self, tally: Tally, name: str) -> None:
        """Check that no answer refused it that no fault explains."""
        for status in self._refused():
            tally.violate("lost", f"{name}: answered {status}", self.statuses[status])


def wait_until(happened: Callable[[], bool], within_s: float) -> bool:
    """Look every few milliseconds; return whether it happened in time."""
    until = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True

"""One model call inside a run: its time limits, and where its deltas go."""

from __future__ import annotations

import asyncio
import time

from legato.core.errors import Interrupted, UpstreamTimeout
from legato.core.event import ReasoningDelta
from legato.providers.base import CallEnd, CallRequest, Pausable, Provider
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.seam import Restarted, Seam


class ReplyTooLong(Exception):
    """The reply has reached `max_reply_bytes`."""


class CallSink:
    """Appends a call's deltas to the run's log, and watches the clock between them.

    What `text` does is all that a chunk costs here.
    """

    __slots__ = (
        "_append",
        "_clock",
        "_left",
        "_run",
        "_seam",
        "_settings",
        "_tail",
        "_timer",
        "_watch",
        "began",
        "failure",
        "last_s",
    )

    def __init__(self, node: Node, run: LiveRun, seam: Seam | None) -> None:
        self._append = node.committer.append
        self._clock = node.clock
        self._settings = node.settings
        self._run = run
        self._tail = run.tail
        self._seam = seam
        self._left = node.settings.max_reply_bytes - len(run.tail.log.text_bytes)
        self._watch: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.began = False
        self.failure: Exception | None = None
        self.last_s = time.monotonic()

    def opened(self, flow: Pausable | None) -> None:
        self._run.flow(flow)

    def text(self, delta: str) -> None:
        if not delta:
            return
        self.last_s = time.monotonic()
        self.began = True
        if self._seam is not None:
            delta = self._mended(delta)
            if not delta:
                return
        if self._run.first_token_at_ms is None:
            self._run.first_token_at_ms = self._clock.now_ms()
        # A character is at most four bytes; counting characters is enough to bound memory.
        self._left -= len(delta)
        if self._left < 0:
            self._fail(ReplyTooLong())
            return
        self._append(self._tail, delta)

    def reasoning(self, delta: str) -> None:
        if not delta:
            return
        self.last_s = time.monotonic()
        self.began = True
        self._left -= len(delta)
        if self._left < 0:
            self._fail(ReplyTooLong())
            return
        self._append(self._tail, ReasoningDelta(text=delta))

    def watch(self, watch: asyncio.Timeout) -> None:
        """End `watch` when a token is late, or when the call has to be given up."""
        self._watch = watch
        self._look()

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._watch = None
        self._run.flow(None)

    def show_rest(self) -> None:
        """Show what a seam held back; called when the call has come to its end.

        Raises:
            Interrupted: It is the beginning of a second reply.
        """
        if self._seam is not None:
            seam, self._seam = self._seam, None
            try:
                rest = seam.close()
            except Restarted:
                raise _restarted() from None
            if rest:
                self._append(self._tail, rest)

    def _look(self) -> None:
        limit = self._settings.token_timeout_s if self.began else self._settings.first_token_timeout_s
        if self._run.paused:
            self.last_s = time.monotonic()
        left = self.last_s + limit - time.monotonic()
        if left <= 0:
            what = "no further token" if self.began else "no first token"
            self._fail(UpstreamTimeout(f"{what} came from the model within {limit:g} s"))
        else:
            # Looked at again by the shorter limit: the first token may come at any time.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(left, self._settings.token_timeout_s), self._look)

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            if self._watch is not None:
                self._watch.reschedule(asyncio.get_running_loop().time())

    def _mended(self, delta: str) -> str:
        assert self._seam is not None
        if self.failure is not None:
            # What comes behind a second beginning, before the call is given up, is no part of the reply either.
            return ""
        try:
            return self._seam.feed(delta)
        except Restarted:
            self._fail(_restarted())
            return ""


def _restarted() -> Interrupted:
    return Interrupted("the model began the reply again instead of going on: ask again")


async def call_model(node: Node, run: LiveRun, provider: Provider, request: CallRequest, *, shown: str) -> CallEnd:
    """Run one call, its deltas appended to the run's log.

    Args:
        shown: The text that a continuation goes on from; empty for a reply from its beginning.

    Raises:
        RunError: As Provider.call, and UpstreamTimeout, and Interrupted for a model that began again.
        ReplyTooLong: The reply was cut at its longest.
    """
    sink = CallSink(node, run, Seam(shown, exact=request.continues) if shown else None)
    try:
        async with asyncio.timeout(None) as watch:
            sink.watch(watch)
            end = await provider.call(request, sink)
    except TimeoutError:
        raise sink.failure or UpstreamTimeout("the model's server did not answer in time") from None
    finally:
        sink.close()
    if sink.failure is not None:
        raise sink.failure
    sink.show_rest()
    return end

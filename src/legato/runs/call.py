"""One model call inside a run: its time limits, and where its deltas go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from legato.core.errors import Interrupted, UpstreamTimeout
from legato.core.event import ReasoningDelta
from legato.providers.base import CallEnd, CallRequest, Pausable, Provider
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.seam import Restarted, Seam


class ReplyTooLong(Exception):
    """The reply has reached `max_reply_bytes`."""


class CallSink:
    """Appends a call's deltas to the run's log. What `text` does is all that a chunk costs here."""

    __slots__ = ("_append", "_clock", "_fault", "_left", "_run", "_seam", "_tail", "began", "last_s")

    def __init__(self, node: Node, run: LiveRun, seam: Seam | None, fault: Callable[[Exception], None]) -> None:
        self._append = node.committer.append
        self._clock = node.clock
        self._run = run
        self._tail = run.tail
        self._seam = seam
        self._fault = fault
        self._left = node.settings.max_reply_bytes - len(run.tail.log.text_bytes)
        self.began = False
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
            self._fault(ReplyTooLong())
            return
        self._append(self._tail, delta)

    def reasoning(self, delta: str) -> None:
        if not delta:
            return
        self.last_s = time.monotonic()
        self.began = True
        self._left -= len(delta)
        if self._left < 0:
            self._fault(ReplyTooLong())
            return
        self._append(self._tail, ReasoningDelta(text=delta))

    def close(self) -> None:
        """Show what a seam held back."""
        if self._seam is not None:
            seam, self._seam = self._seam, None
            try:
                rest = seam.close()
            except Restarted:
                raise _restarted() from None
            if rest:
                self._append(self._tail, rest)

    def _mended(self, delta: str) -> str:
        assert self._seam is not None
        try:
            return self._seam.feed(delta)
        except Restarted:
            self._fault(_restarted())
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
    settings = node.settings
    loop = asyncio.get_running_loop()
    faults: list[Exception] = []
    seam = Seam(shown, exact=request.continues) if shown else None

    timer: asyncio.TimerHandle | None = None
    try:
        async with asyncio.timeout(None) as watch:

            def fault(error: Exception) -> None:
                if not faults:
                    faults.append(error)
                    watch.reschedule(loop.time())

            sink = CallSink(node, run, seam, fault)

            def look() -> None:
                nonlocal timer
                limit = settings.token_timeout_s if sink.began else settings.first_token_timeout_s
                if run.paused:
                    sink.last_s = time.monotonic()
                left = sink.last_s + limit - time.monotonic()
                if left <= 0:
                    what = "no further token" if sink.began else "no first token"
                    fault(UpstreamTimeout(f"{what} came from the model within {limit:g} s"))
                else:
                    timer = loop.call_later(min(left, settings.token_timeout_s), look)

            look()
            end = await provider.call(request, sink)
    except TimeoutError:
        raise faults[0] if faults else UpstreamTimeout("the model's server did not answer in time") from None
    finally:
        if timer is not None:
            timer.cancel()
        run.flow(None)
    if faults:
        raise faults[0]
    sink.close()
    return end

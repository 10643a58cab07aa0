"""One model call inside a run: what it is asked, its time limits, and where its deltas go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from legato.core.errors import StorageUnavailable
from legato.core.event import ReasoningDelta
from legato.core.reply import received_text
from legato.core.run_errors import Interrupted, UpstreamTimeout
from legato.providers.base import CallEnd, CallRequest, ChatMessage, Pausable, Provider
from legato.runs.charges import NOTHING, OpenCall, close_call, open_call, reported, roughly, tells_output
from legato.runs.context import build_context
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.seam import Restarted, Seam

DEFAULT_TEMPERATURE = 0.7
CONTINUE = (
    "Your previous message was cut off. Go on from exactly where it ends, in the same language and format. "
    "Do not repeat anything of it, do not begin again, and do not comment on this."
)


class ReplyTooLong(Exception):
    """The reply has reached `max_reply_bytes`."""


class ReplyBlocked(Exception):
    """A policy wants the reply to go no further.

    Attributes:
        text: What is said instead.
    """

    def __init__(self, text: str) -> None:
        super().__init__("a policy blocks what the model says")
        self.text = text


class CallSuspended(Exception):
    """The node may not go on for a while: neither the model's fault nor the reply's."""


class CallSink:
    """Appends a call's deltas to the run's log, and watches the clock between them.

    What `text` does is all that a chunk costs here.
    """

    __slots__ = (
        "_clock",
        "_committer",
        "_left",
        "_run",
        "_seam",
        "_settings",
        "_speaks",
        "_tail",
        "began",
        "failure",
        "last_s",
        "reached",
    )

    def __init__(self, node: Node, run: LiveRun, seam: Seam | None) -> None:
        self._committer = node.committer
        self._clock = node.clock
        self._settings = node.settings
        self._run = run
        self._tail = run.tail
        self._seam = seam
        self._left = node.settings.max_reply_bytes - len(run.tail.log.text_bytes)
        # Noted here too: a run is large, and a chunk of another one has just pushed it out of the processor's cache.
        self._speaks = run.first_token_at_ms is not None
        self.began = False
        self.reached = False
        self.failure: Exception | None = None
        self.last_s = time.monotonic()

    def opened(self, flow: Pausable | None) -> None:
        self.reached = True
        self._run.flow(flow)

    def text(self, delta: str) -> None:
        self.last_s = time.monotonic()
        self.began = True
        if not delta:
            return
        if self._seam is not None:
            delta = self._mended(delta)
            if not delta:
                return
        if not self._speaks:
            self._speak()
        self._left -= len(delta) if delta.isascii() else len(delta.encode())
        if self._left < 0:
            self._fail(ReplyTooLong())
            return
        self._committer.append(self._tail, delta)

    def _speak(self) -> None:
        """Note when the reply's first text came; it is not to wait."""
        self._speaks = True
        if self._run.first_token_at_ms is None:
            self._run.first_token_at_ms = self._clock.now_ms()
            self._committer.hurry()

    def reasoning(self, delta: str) -> None:
        self.last_s = time.monotonic()
        self.began = True
        if not delta:
            return
        self._left -= len(delta) if delta.isascii() else len(delta.encode())
        if self._left < 0:
            self._fail(ReplyTooLong())
            return
        self._committer.append(self._tail, ReasoningDelta(text=delta))

    def look(self) -> None:
        """Give the call up if a token is late."""
        now_s = time.monotonic()
        if self._run.paused:
            self.last_s = now_s
            return
        limit = self._settings.token_timeout_s if self.began else self._settings.first_token_timeout_s
        if now_s - self.last_s >= limit:
            what = "no further token" if self.began else "no first token"
            self._fail(UpstreamTimeout(f"{what} came from the model within {limit:g} s"))

    def suspend(self) -> None:
        """Give the call up, to be made again."""
        self._fail(CallSuspended())

    async def finish(self) -> None:
        """Show what is held back; called when the call has come to its end.

        Raises:
            Interrupted: It is the beginning of a second reply.
            ReplyBlocked: It may not be said.
        """
        if rest := self._rest():
            self._committer.append(self._tail, rest)

    def close(self) -> None:
        """Drop what is held back; called however the call ended."""

    @property
    def unshown(self) -> str:
        """What has come of the model and is not in the log."""
        return ""

    def _rest(self) -> str:
        """Return what a seam held back."""
        if self._seam is None:
            return ""
        seam, self._seam = self._seam, None
        try:
            return seam.close()
        except Restarted:
            raise _restarted() from None

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            self._run.cancel()

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


async def call_model(
    node: Node,
    run: LiveRun,
    provider: Provider,
    *,
    shown: str,
    so_far: Sequence[ChatMessage] = (),
    tools: Sequence[Mapping[str, Any]] = (),
) -> CallEnd:
    """Run one call, its deltas and what it used appended to the run's log.

    Args:
        shown: The text that a continuation goes on from: what was said since the last tools; empty for a beginning.
        so_far: What was said before, with tool calls and their results.
        tools: Definitions of what the model may call.

    Raises:
        RunError: As build_context, open_call and Provider.call, and UpstreamTimeout, and Interrupted for a model that
            began again.
        ReplyTooLong: The reply was cut at its longest.
        ReplyBlocked: A policy lets it go no further.
        CallSuspended: The node was suspended.
    """
    call: OpenCall | None = None
    sink: CallSink | None = None
    end: CallEnd | None = None
    try:
        request = await build_request(node, run, provider, shown=shown, so_far=so_far, tools=tools)
        call = await open_call(node, run, provider, request)
        seam = Seam(shown, exact=request.continues) if shown else None
        sink = run.call = CallSink(node, run, seam) if node.moderation is None else node.moderation.sink(run, seam)
        end = await provider.call(call.request, sink)
        if sink.failure is not None:
            # Its cancellation has not arrived yet; it must not arrive later.
            await asyncio.sleep(0)
            raise sink.failure
        await sink.finish()
    except BaseException as error:
        if sink is not None:
            sink.close()
        run.call = None
        run.flow(None)
        if isinstance(error, asyncio.CancelledError) and sink is not None and sink.failure is not None:
            if run.is_interrupted or run.is_let_go:
                await _close(node, run, call, sink, end or error)
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            await _close(node, run, call, sink, end or sink.failure)
            raise sink.failure from None
        await _close(node, run, call, sink, end or error)
        raise
    sink.close()
    run.call = None
    run.flow(None)
    await _close(node, run, call, sink, end)
    return end


async def _close(
    node: Node, run: LiveRun, call: OpenCall | None, sink: CallSink | None, outcome: CallEnd | BaseException
) -> None:
    """Have in the log what a call used, as its last event."""
    if isinstance(outcome, asyncio.CancelledError) and not run.is_interrupted:
        # The process is going down, or the run is another node's: whoever goes on with it counts this call.
        return
    spent, received = NOTHING, ""
    try:
        if call is not None:
            if sink is not None and sink.began and not tells_output(outcome):
                # What it has appended is in the log only once it is committed.
                with contextlib.suppress(StorageUnavailable):
                    await node.committer.flush()
                received = received_text(run.tail.log) + sink.unshown
            reached = sink is not None and sink.reached
            spent = await close_call(node, call, outcome, reached=reached, received=received)
    except BaseException:
        # Interrupted once more, say: there is no time to count well.
        if call is not None:
            spent = roughly(node, call, received or received_text(run.tail.log))
        raise
    finally:
        run.spent = spent
        node.committer.append(run.tail, reported(spent))


async def build_request(
    node: Node,
    run: LiveRun,
    provider: Provider,
    *,
    shown: str,
    so_far: Sequence[ChatMessage],
    tools: Sequence[Mapping[str, Any]],
) -> CallRequest:
    """Return what a model is asked in the next call of a run; the arguments are those of call_model.

    Raises:
        ContextExceeded: As build_context.
    """
    messages, max_tokens = await build_context(node, run, provider, so_far=so_far, tools=tools)
    continues = bool(shown) and provider.prefill
    if shown:
        # Models go wrong on a prefix that ends in white space; runs.seam mends what that costs.
        messages.append(ChatMessage(role="assistant", content=shown.rstrip() or shown))
        if not continues:
            messages.append(ChatMessage(role="user", content=CONTINUE))
    # The limit is the whole reply's; a delta is about a token.
    max_tokens = max(1, max_tokens - run.tail.log.texts_before(len(run.tail.log)))
    return CallRequest(
        run_id=run.id,
        messages=messages,
        temperature=DEFAULT_TEMPERATURE if run.request.temperature is None else run.request.temperature,
        max_tokens=max_tokens,
        continues=continues,
        tools=tools,
    )

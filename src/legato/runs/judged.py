"""A call whose deltas are judged before they are shown: only where a policy of replies is set.

What comes goes into a window (policies.moderation.window); a task takes out piece after piece, has it judged, and only
then appends it to the run's log, in the deltas that it came in where nothing of it was redacted. So what is blocked is
never in the log, and nothing of it can be shown, kept or taken up after a crash: what was held back is made anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from legato.core.event import ReasoningDelta
from legato.policies.moderation.chain import Closed
from legato.policies.moderation.verdict import Passage
from legato.policies.moderation.window import Window
from legato.runs.call import CallSink, ReplyTooLong
from legato.runs.live import LiveRun
from legato.runs.node import Node
from legato.runs.seam import Seam

if TYPE_CHECKING:
    from legato.runs.moderate import Moderation

CONTEXT_CHARS = 1000
"""Of what was shown before a piece, so much is told to a policy."""
Kind = Literal["reply", "reasoning"]


class _Held:
    """What is held back of one kind of text."""

    __slots__ = ("cuts", "since_s", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.cuts: list[int] = []
        self.since_s = 0.0

    def feed(self, delta: str) -> bool:
        """Take a delta; return whether there may be a piece to take."""
        if not self.window:
            self.since_s = time.monotonic()
        self.cuts.append(len(delta))
        return self.window.feed(delta)

    def deltas(self, piece: str) -> Iterator[str]:
        """Give a piece, the first of what is held, in the deltas that it came in."""
        place = 0
        while place < len(piece):
            size = min(self.cuts[0], len(piece) - place)
            yield piece[place : place + size]
            place += size
            if size == self.cuts[0]:
                self.cuts.pop(0)
            else:
                self.cuts[0] -= size


class JudgedSink(CallSink):
    """Holds a call's deltas back until they were judged."""

    __slots__ = ("_ended", "_held", "_moderation", "_shown", "_task", "_timer", "_unshown", "_wake")

    def __init__(self, node: Node, run: LiveRun, seam: Seam | None, moderation: Moderation) -> None:
        super().__init__(node, run, seam)
        self._moderation = moderation
        shown = run.tail.log.text
        self._shown = shown[-CONTEXT_CHARS:]
        # Reasoning first: it is what the model says first.
        self._held: dict[Kind, _Held] = {
            "reasoning": _Held(moderation.window("")),
            "reply": _Held(moderation.window(shown)),
        }
        self._ended = False
        self._unshown = ""
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.get_running_loop().create_task(self._judge_all(), name="judging")

    def text(self, delta: str) -> None:
        self.last_s = time.monotonic()
        self.began = True
        if not delta:
            return
        if self._seam is not None:
            delta = self._mended(delta)
            if not delta:
                return
        self._hold("reply", delta)

    def reasoning(self, delta: str) -> None:
        self.last_s = time.monotonic()
        self.began = True
        if delta:
            self._hold("reasoning", delta)

    def look(self) -> None:
        # At its end the model is waited for no longer.
        if not self._ended:
            super().look()

    async def finish(self) -> None:
        """Have the rest judged and shown; called when the call has come to its end.

        Raises:
            Interrupted: As CallSink.finish.
            ReplyBlocked: Something of it may not be said.
        """
        if rest := self._rest():
            self._hold("reply", rest)
        self._ended = True
        self._wake.set()
        await self._task

    def close(self) -> None:
        """Drop what is held back."""
        self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def unshown(self) -> str:
        return self._unshown + "".join([held.window.text for held in self._held.values()])

    def _hold(self, kind: Kind, delta: str) -> None:
        if self.failure is not None:
            return
        self._left -= len(delta) if delta.isascii() else len(delta.encode())
        if self._left < 0:
            self._fail(ReplyTooLong())
            return
        if self._held[kind].feed(delta):
            self._wake.set()
        elif self._timer is None:
            self._arm(self._moderation.hold_s)

    def _arm(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look_at_time)

    def _look_at_time(self) -> None:
        """Have looked at what has waited for long enough; one timer for all that a call says."""
        self._timer = None
        since = [held.since_s for held in self._held.values() if held.window]
        if not since:
            return
        left_s = min(since) + self._moderation.hold_s - time.monotonic()
        if left_s <= 0:
            self._wake.set()
        self._arm(left_s if left_s > 0 else self._moderation.hold_s)

    async def _judge_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ended = self._ended
            try:
                for kind in self._held:
                    while await self._judge_next(kind):
                        pass
            except Exception as error:
                if self._ended:
                    raise
                self._fail(error)
                return
            if ended:
                return

    async def _judge_next(self, kind: Kind) -> bool:
        """Show the next piece; return whether there was one."""
        held = self._held[kind]
        late = time.monotonic() - held.since_s >= self._moderation.hold_s
        try:
            piece = held.window.take(late=late, last=self._ended)
        except Closed as failed:
            raise self._moderation.reply_blocked(failed.blocked) from None
        if piece is None:
            return False
        passage = Passage(
            text=piece.text,
            stage="reply",
            source=kind,
            context=self._shown if kind == "reply" else "",
            owner=self._run.tail.owner,
            conversation_id=self._run.conversation_id,
        )
        self._unshown = piece.text
        judged = await self._moderation.reply_piece(self._run, piece, passage)
        self._unshown = ""
        held.since_s = time.monotonic()
        deltas = list(held.deltas(piece.text))
        self._show(kind, deltas if judged == piece.text else [judged])
        return True

    def _show(self, kind: Kind, deltas: list[str]) -> None:
        for delta in filter(None, deltas):
            if kind == "reasoning":
                self._committer.append(self._tail, ReasoningDelta(text=delta))
                continue
            if self._run.first_token_at_ms is None:
                self._run.first_token_at_ms = self._clock.now_ms()
                self._committer.hurry()
            self._shown = (self._shown + delta)[-CONTEXT_CHARS:]
            self._committer.append(self._tail, delta)

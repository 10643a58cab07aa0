"""A run that this process holds: its log, its limits, and who may interrupt it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from legato.core.event import ApprovalGiven, RunStarted, StopCause
from legato.core.usage import Spent
from legato.providers.base import Pausable
from legato.runs.tail import Tail

if TYPE_CHECKING:
    from legato.runs.budget import Hold

UNKNOWN_MS = -1
"""The first token was shown by an earlier process, which took its time along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What was asked for with one message; None is left to the conversation and the settings.

    Attributes:
        blocked: A policy lets no model be asked: what is said instead.
    """

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    system_prompt: str | None = None
    blocked: str | None = None

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> RunRequest:
        return msgspec.json.decode(text, type=cls)

    def over(self, row: Any) -> RunRequest:
        """Return this request with what it leaves open taken from the conversation's settings."""
        found = RunRequest(
            model=self.model or row.conversation_model,
            temperature=self.temperature if self.temperature is not None else row.conversation_temperature,
            max_tokens=self.max_tokens or row.conversation_max_tokens,
            system_prompt=self.system_prompt if self.system_prompt is not None else row.conversation_system_prompt,
            blocked=self.blocked,
        )
        # What most runs have is shared by all of them.
        return _DEFAULTS if found == _DEFAULTS else found


_DEFAULTS = RunRequest()


class Watched(Protocol):
    """A call whose tokens may come too late, and that can be given up for a while."""

    def look(self) -> None: ...

    def suspend(self) -> None: ...


class LiveRun:
    """One running or waiting run.

    Attributes:
        queued: It waits for the turn before it.
        question: The user's message, where it is known without reading it back.
        segment_id: Id of its first segment: older ones may go.
        began_s: Monotonic time from which its duration counts.
        call: The present call, while there is one.
        key_id: Of the key by which its message was posted, None where there was none.
        held: What is reserved of budgets for its calls.
        spent: What the latest call of this process used, once it is over.
        stop_cause: Set when somebody or a limit stops it.
        approvals: By the ids of tool calls, where the decisions on them are waited for.
    """

    __slots__ = (
        "_deadline_s",
        "_flow",
        "_holders",
        "_left_s",
        "_paused",
        "_task",
        "approvals",
        "began_s",
        "call",
        "conversation_id",
        "conversation_key",
        "failure",
        "first_token_at_ms",
        "held",
        "history",
        "key_id",
        "message_id",
        "question",
        "queued",
        "request",
        "segment_id",
        "spent",
        "stop_cause",
        "tail",
        "takeovers",
        "turn",
        "user_message_id",
    )

    def __init__(
        self,
        *,
        tail: Tail,
        conversation_key: int,
        conversation_id: str,
        turn: int,
        user_message_id: str,
        message_id: str,
        request: RunRequest,
        queued: bool,
        history: bool,
        segment_id: int,
        began_s: float,
        key_id: str | None = None,
    ) -> None:
        self.tail = tail
        self.conversation_key = conversation_key
        self.conversation_id = conversation_id
        self.turn = turn
        self.user_message_id = user_message_id
        self.message_id = message_id
        self.request = request
        self.queued = queued
        self.history = history
        self.segment_id = segment_id
        self.began_s = began_s
        self.key_id = key_id
        self.spent: Spent | None = None
        self.held: Hold | None = None
        self.question: str | None = None
        self.takeovers = 0
        self.first_token_at_ms: int | None = None
        self.stop_cause: StopCause | None = None
        self.failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline_s = math.inf
        self.call: Watched | None = None
        self._flow: Pausable | None = None
        self._paused = False
        self.approvals: dict[str, asyncio.Future[ApprovalGiven]] | None = None
        self._holders = 0
        self._left_s = 0.0
        tail.holder = self

    @property
    def id(self) -> str:
        return self.tail.run_id

    @property
    def started(self) -> RunStarted:
        """The first event of its log."""
        first = self.tail.log.events[0]
        assert isinstance(first, RunStarted)
        return first

    def bind(self, task: asyncio.Task[None], deadline_s: float) -> None:
        """Say which task is to be cancelled when the run is interrupted; that task ends the run.

        Args:
            deadline_s: Monotonic time at which the run is stopped at the latest.
        """
        self._task = task
        self._deadline_s = deadline_s

    def look(self, now_s: float) -> None:
        """Interrupt what takes too long; called every Node.tick_s, so that no run needs a timer of its own."""
        if self._task is None:
            return
        if now_s >= self._deadline_s:
            self.stop("time")
        elif self.call is not None:
            self.call.look()

    def hold(self, now_s: float) -> None:
        """Have its longest duration stand still while a person is waited for; each hold has its `go_on`."""
        if not self._holders:
            self._left_s, self._deadline_s = self._deadline_s - now_s, math.inf
        self._holders += 1

    def go_on(self, now_s: float) -> None:
        """Let its longest duration go on where it stood, once nobody is waited for."""
        self._holders -= 1
        if not self._holders:
            self._deadline_s = now_s + self._left_s

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What makes the reply, until its generation is over."""
        return self._task

    def release(self) -> None:
        """Say that the generation is over: what comes now interrupts nothing."""
        # Nothing here may point back to the run: thousands would wait for the garbage collector.
        self._task = self._flow = self.call = self.approvals = self.tail.holder = None

    def stop(self, cause: StopCause) -> None:
        """Interrupt the generation; it ends with run-stopped."""
        if self.stop_cause is None:
            self.stop_cause = cause
        self.cancel()

    def fail(self, error: Exception) -> None:
        """Interrupt the generation; it ends with run-failed."""
        if self.failure is None:
            self.failure = error
        self.cancel()

    def suspend(self) -> None:
        """Give up the present call of the model; the run goes on with another one when its node may."""
        if self.call is not None:
            self.call.suspend()

    def let_go(self) -> None:
        """Say that the run is not this process's any more: what it still appends is nobody's, its readers are cut."""
        # In PostgreSQL it is another node's, in SQLite the next run may be given its key.
        self.tail.key = 0
        self.tail.pending.clear()
        self.cancel()
        self.tail.lose()

    @property
    def is_let_go(self) -> bool:
        return self.tail.key == 0

    @property
    def is_interrupted(self) -> bool:
        """Whether the generation is to end, rather than one call of it."""
        return self.stop_cause is not None or self.failure is not None

    def cancel(self) -> None:
        """Interrupt what the generation does at present."""
        if self._task is not None:
            self._task.cancel()

    def flow(self, flow: Pausable | None) -> None:
        """Take the present call's stream, to pause it while the database is away."""
        self._flow = flow
        if self._paused and flow is not None:
            flow.pause_reading()

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self, paused: bool) -> None:
        """Pause or resume the present call's stream."""
        self._paused = paused
        if self._flow is not None:
            if paused:
                self._flow.pause_reading()
            else:
                self._flow.resume_reading()

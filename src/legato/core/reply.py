"""A run's events folded into the reply that a person sees: text, model, usage, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from legato.core.event import (
    CallStarted,
    Event,
    ReasoningDelta,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    UsageReported,
)
from legato.core.log import RunLog
from legato.core.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """A reply changed models: the one that was asked first, and the one that answered."""

    from_model: str
    to_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a log says, as far as it goes.

    Attributes:
        text: All visible text.
        reasoning: All reasoning text.
        model: The model of the last call, None before the first.
        calls: Model calls that were begun.
        usage: Sum over the calls that reported it, None if none did.
        finish_reason: As the native protocol spells it, None while the run goes on or where it failed.
    """

    started: RunStarted | None
    text: str
    reasoning: str
    model: str | None
    calls: int
    failover: Failover | None
    usage: Usage | None
    finish_reason: str | None
    failed: RunFailed | None


def fold_reply(log: RunLog) -> Reply:
    """Return the reply that `log` spells."""
    fold = _Fold()
    for event in log.events:
        fold.take(event)
    return Reply(
        started=fold.started,
        text=log.text,
        reasoning="".join(fold.reasoning),
        model=fold.model,
        calls=fold.calls,
        failover=Failover(from_model=fold.first_model, to_model=fold.model)
        if fold.first_model is not None and fold.model is not None and fold.failed_over
        else None,
        usage=fold.usage,
        finish_reason=fold.finish_reason,
        failed=fold.failed,
    )


class _Fold:
    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.reasoning: list[str] = []
        self.first_model: str | None = None
        self.model: str | None = None
        self.failed_over = False
        self.calls = 0
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.failed: RunFailed | None = None

    def take(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.started = event
            case CallStarted():
                self.calls += 1
                self.first_model = self.first_model or event.model
                self.failed_over = self.failed_over or event.model != self.first_model
                self.model = event.model
            case ReasoningDelta():
                self.reasoning.append(event.text)
            case UsageReported():
                reported = Usage(
                    input_tokens=event.input_tokens,
                    output_tokens=event.output_tokens,
                    cache_read_tokens=event.cache_read_tokens,
                    reasoning_tokens=event.reasoning_tokens,
                )
                self.usage = self.usage.plus(reported) if self.usage else reported
            case RunFinished():
                self.finish_reason = event.reason
            case RunStopped():
                self.finish_reason = STOP_REASONS[event.by]
            case RunFailed():
                self.failed = event
            case _:
                assert_never(event)


STOP_REASONS = {
    "user": "stopped",
    "time": "stopped",
    "budget": "budget",
    "policy": "content_filter",
}
"""How the native protocol names the end of a run that was stopped, by its cause."""

"""A run's events folded into the reply that a person sees: text, tool calls, model, usage, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, assert_never

from legato.core.event import (
    ApprovalAsked,
    ApprovalGiven,
    CallStarted,
    Event,
    ReasoningDelta,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    ToolCalled,
    ToolResulted,
    ToolStarted,
    UsageReported,
)
from legato.core.log import RunLog
from legato.core.money import ZERO, parse_usd, plus
from legato.core.stretch import LoggedCall, Stretch, parts_of
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
        stretches: The same in order, with the tool calls between; never empty.
        model: The model of the last call, None before the first.
        calls: Model calls that were begun.
        usage: Sum over the calls that reported it, None if none did.
        cost: US dollars of all calls; None where that of one of them is not known, and where there was none.
        finish_reason: As the native protocol spells it, None while the run goes on or where it failed.
    """

    started: RunStarted | None
    text: str
    reasoning: str
    stretches: list[Stretch]
    model: str | None
    calls: int
    failover: Failover | None
    usage: Usage | None
    cost: Decimal | None
    finish_reason: str | None
    failed: RunFailed | None

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts of its message: reasoning, text, tool calls and results, in order."""
        return parts_of(self.stretches)

    @property
    def tool_calls(self) -> list[LoggedCall]:
        """All tool calls, oldest first."""
        return [call for stretch in self.stretches for call in stretch.calls]

    @property
    def tool_rounds(self) -> int:
        """How often the model asked for tools."""
        return sum(1 for stretch in self.stretches if stretch.calls)


def fold_reply(log: RunLog) -> Reply:
    """Return the reply that `log` spells."""
    fold = _Fold(log)
    for index, event in enumerate(log.events):
        fold.take(event, index)
    text = log.text
    fold.stretches[-1].text = text if fold.text_at == 0 else log.text_bytes[fold.text_at :].decode()
    return Reply(
        started=fold.started,
        text=text,
        reasoning="".join([piece for stretch in fold.stretches for piece in stretch.reasoning]),
        stretches=fold.stretches,
        model=fold.model,
        calls=fold.calls,
        failover=Failover(from_model=fold.first_model, to_model=fold.model)
        if fold.first_model is not None and fold.model is not None and fold.failed_over
        else None,
        usage=fold.usage,
        # A call without its report is one of before costs were kept, or is still being made.
        cost=fold.cost if fold.reports and fold.reports >= fold.calls else None,
        finish_reason=fold.finish_reason,
        failed=fold.failed,
    )


def open_call_at(log: RunLog) -> int | None:
    """Return the place, among the events of a log, of its latest call of a model, if that has not ended."""
    for index in range(len(log.events) - 1, -1, -1):
        event = log.events[index]
        if isinstance(event, UsageReported):
            return None
        if isinstance(event, CallStarted):
            return index
    return None


def received_text(log: RunLog) -> str:
    """Return all that has come of the call that is open: text and reasoning."""
    index = open_call_at(log)
    if index is None:
        return ""
    reasoning = [event.text for event in log.events[index:] if isinstance(event, ReasoningDelta)]
    return "".join([*reasoning, log.text_bytes[log.ends[log.event_seqs[index]] :].decode()])


class _Fold:
    def __init__(self, log: RunLog) -> None:
        self.started: RunStarted | None = None
        self.stretches = [Stretch()]
        self.text_at = 0
        self._log = log
        self._tool_calls: dict[str, LoggedCall] = {}
        self.first_model: str | None = None
        self.model: str | None = None
        self.failed_over = False
        self.calls = 0
        self.usage: Usage | None = None
        self.cost: Decimal | None = ZERO
        self.reports = 0
        self.finish_reason: str | None = None
        self.failed: RunFailed | None = None

    def take(self, event: Event, index: int) -> None:
        match event:
            case RunStarted():
                self.started = event
            case CallStarted():
                self.calls += 1
                self.first_model = self.first_model or event.model
                self.failed_over = self.failed_over or event.model != self.first_model
                self.model = event.model
                if self.stretches[-1].calls:
                    self._begin_stretch(index)
            case ReasoningDelta():
                self.stretches[-1].reasoning.append(event.text)
            case UsageReported():
                reported = Usage(
                    input_tokens=event.input_tokens,
                    output_tokens=event.output_tokens,
                    cache_read_tokens=event.cache_read_tokens,
                    reasoning_tokens=event.reasoning_tokens,
                    counted=event.counted,
                )
                self.usage = self.usage.plus(reported) if self.usage else reported
                self.cost = plus(self.cost, parse_usd(event.cost))
                self.reports += 1
            case ToolCalled() | ApprovalAsked() | ApprovalGiven() | ToolStarted() | ToolResulted():
                self.stretches[-1].take(event, self._tool_calls)
            case RunFinished():
                self.finish_reason = event.reason
            case RunStopped():
                self.finish_reason = STOP_REASONS[event.by]
            case RunFailed():
                self.failed = event
            case _:
                assert_never(event)

    def _begin_stretch(self, index: int) -> None:
        """End the present stretch before the event at `index`: the model speaks again, with its tools' results."""
        log = self._log
        end = log.ends[log.event_seqs[index]]
        self.stretches[-1].text = log.text_bytes[self.text_at : end].decode()
        self.text_at = end
        self.stretches.append(Stretch())


STOP_REASONS = {
    "user": "stopped",
    "time": "stopped",
    "budget": "budget",
    "policy": "content_filter",
}
"""How the native protocol names the end of a run that was stopped, by its cause."""

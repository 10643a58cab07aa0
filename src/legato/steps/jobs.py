"""What the queue carries: events in, jobs of steps, and dead letters where a job could not be done.

Pure: no storage, no asyncio. The engine that keeps these is legato.steps.engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from legato.core.errors import ConfigurationError
from legato.core.principal import APP
from legato.steps.cron_times import CronTimes

DeadKind = Literal["queue", "cron"]

ERROR_MAX_CHARS: Final = 4000
"""Longer error texts are cut in dead letters."""


class JobDead(Exception):
    """Ends a job for good; what it says is all that is kept of the error.

    Attributes:
        error_type: Class of the error that the last attempt ended with.
        attempts, first_ms, last_ms: As in DeadLetter.
        about: Owner and id of the first event, or of the tick; None where the job could not be read.
    """

    def __init__(
        self,
        error_type: str,
        text: str,
        *,
        attempts: int,
        first_ms: int | None,
        last_ms: int,
        about: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(text)
        self.about = about
        self.text = text
        self.error_type = error_type
        self.attempts = attempts
        self.first_ms = first_ms
        self.last_ms = last_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened, as a queue step is given it.

    Attributes:
        id: Unique; a consumer that counts each id once counts right, however often it is delivered.
        owner: Whose it is; the step acts for this owner.
        payload: A JSON value.
        trace_id: Of the request that caused it, None where there was none.
        at_ms: When it happened, epoch milliseconds.
    """

    id: str
    topic: str
    owner: str
    payload: Any
    trace_id: str | None = None
    at_ms: int = 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How the jobs of one step are run.

    Attributes:
        name: Unique among the steps, without colons; it is part of a job's id, so a renamed step is another step.
        concurrency: Attempts at once in this process, >= 1.
        attempts: How often a job is tried before it is a dead letter, >= 1.
        backoff_s: Pause after the first failed attempt, in seconds; it doubles with each further one.
        most_backoff_s: The longest pause, in seconds.
        time_limit_s: Longest attempt, in seconds; past it the handler is cancelled.
    """

    name: str
    concurrency: int = 4
    attempts: int = 5
    backoff_s: float = 1.0
    most_backoff_s: float = 300.0
    time_limit_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or ":" in self.name:
            raise ConfigurationError(f"a step is named {self.name!r}: give it a printable name without colons")
        for option in ("concurrency", "attempts"):
            self._check_count(option)
        seconds = (self.time_limit_s, self.backoff_s, self.most_backoff_s)
        # Also what compares with nothing: no clock can wait for it.
        if self.time_limit_s == 0 or not all(_is_number(each) and 0 <= each < math.inf for each in seconds):
            raise ConfigurationError(
                f"step {self.name}: time_limit_s must be above 0, backoff_s and most_backoff_s not below it, in seconds"
            )

    def _check_count(self, option: str) -> None:
        value = getattr(self, option)
        if type(value) is not int or value < 1:
            raise ConfigurationError(f"step {self.name}: {option} is {value!r}: at least 1, a whole number")

    def pause_s(self, attempt: int, *, jitter: float) -> float:
        """Return how long to wait after a failed attempt: half of it is fixed, half is drawn.

        Args:
            attempt: The attempt that failed, >= 1.
            jitter: Uniform draw in [0, 1), passed in so that tests need no seed.

        Source:
            https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("equal jitter")
        """
        # Past 2**30 no pause grows any more; a larger exponent would overflow.
        whole = min(self.most_backoff_s, self.backoff_s * 2.0 ** min(attempt - 1, 30))
        return whole / 2 + whole / 2 * jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStep(StepOptions):
    """A step that is run for events.

    Attributes:
        topics: Events of these topics are its jobs.
        batch: Most events in one job, >= 1; with more than one, a job has those that came together.
        check: Says what is wrong with an event's payload, or None. A wrong one is a dead letter at once, alone.
        key: Events with one key are handled one after another, in the order in which they were handed over; the next
            waits while one is retried, and goes on when it is done or a dead letter. None: in any order.
    """

    topics: Sequence[str]
    batch: int = 1
    key: Callable[[JobEvent], str] | None = None
    check: Callable[[JobEvent], str | None] | None = None

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        if isinstance(self.topics, str) or not self.topics:
            raise ConfigurationError(f"step {self.name}: topics is {self.topics!r}: give a list of at least one topic")
        self._check_count("batch")


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Times at which a step is run.

    Attributes:
        expression: 5 fields, or 6 with seconds first; see legato.steps.cron_times.
        timezone: IANA name, such as Europe/Berlin.
        missed: What becomes of a tick at which no server ran: `once`: the last of those missed is made up for when one
            runs again. `skip`: none is.
        condition: Asked at each tick whether the step is run; legato.steps.triggers.Condition.
    """

    expression: str
    timezone: str = "UTC"
    missed: Literal["once", "skip"] = "once"
    condition: Callable[..., Any] | None = None

    def times(self) -> CronTimes:
        """Return its times.

        Raises:
            ConfigurationError: The expression or the time zone is wrong.
        """
        return CronTimes(self.expression, self.timezone)

    def __post_init__(self) -> None:
        if self.missed not in ("once", "skip"):
            raise ConfigurationError(f"missed is {self.missed!r}: write 'once' or 'skip'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CronStep(StepOptions):
    """A step that is run at times; one tick after another, and at most one waits."""

    triggers: Sequence[CronTrigger]
    concurrency: int = 1
    attempts: int = 3
    time_limit_s: float = 3600.0

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        if not self.triggers:
            raise ConfigurationError(f"step {self.name}: triggers is empty: give at least one")
        for trigger in self.triggers:
            try:
                trigger.times()
            except ConfigurationError as error:
                raise ConfigurationError(f"step {self.name}: {error.message}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronTick:
    """One run of a cron step.

    Attributes:
        id: Unique per step, trigger and time: the same over all processes and attempts.
        at_ms: The time that it is for, epoch milliseconds; after a pause it is in the past.
    """

    id: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that was given up: its input, its last error, and how often it was tried.

    Attributes:
        id: The job's; redrive and discard take it.
        topic: Of its events; `cron` for a tick.
        events: Its input; empty for a tick.
        tick: Its input, of a cron step.
        error_type: Class of the last error.
        error: Text of the last error, at most ERROR_MAX_CHARS characters; it may hold what the job is about.
        attempts: How often it was tried, those included that the end of a process cut.
        first_ms: When the first attempt began, epoch milliseconds; None where there was none.
        last_ms: When the last attempt ended, epoch milliseconds.
    """

    id: str
    kind: DeadKind
    step: str
    topic: str
    events: tuple[JobEvent, ...]
    tick: CronTick | None
    error_type: str
    error: str
    attempts: int
    first_ms: int | None
    last_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """How many jobs a step has.

    Attributes:
        waiting: Not taken yet.
        taken: Running, about to, or between two attempts.
        dead: Dead letters.
    """

    waiting: int = 0
    taken: int = 0
    dead: int = 0


@dataclass(slots=True, kw_only=True)
class Tries:
    """What has been tried with one job, so far; kept beside it when an attempt fails.

    Attributes:
        failures: Attempts that ended with an error.
        cuts: Attempts that a process took with it when it died.
        begun: An attempt has begun and not ended.
        first_ms: When the first attempt began, epoch milliseconds.
        until_ms: The next attempt is not before this.
    """

    failures: int = 0
    cuts: int = 0
    begun: bool = False
    first_ms: int | None = None
    until_ms: int = 0

    @property
    def count(self) -> int:
        """Attempts so far."""
        return self.failures + self.cuts

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Tries:
        known = value or {}
        return cls(**{name: known[name] for name in cls.__slots__ if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The input of one job as it is stored.

    Attributes:
        fault: Why it cannot be run at all; it becomes a dead letter with this error.
    """

    kind: DeadKind
    step: str
    events: tuple[JobEvent, ...] = field(default=())
    tick: CronTick | None = None
    fault: str | None = None

    @property
    def about(self) -> tuple[str, str] | None:
        """Owner and id of the first event, or of the tick."""
        if self.events:
            return self.events[0].owner, self.events[0].id
        return None if self.tick is None else (APP.id, self.tick.id)

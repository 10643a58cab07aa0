"""What sets a step off: a request, an event of a topic, a time. Pure."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from legato.core.errors import ConfigurationError
from legato.steps.jobs import CronTrigger

_PARAMETER = re.compile(r"\{[^\W\d]\w*(?::\w+)?\}")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

Condition: TypeAlias = Callable[[Any, Any], bool] | Callable[[Any, Any], Awaitable[bool]]
"""Asked with the input (None for a time) and the Context; a no lets this trigger pass without a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTrigger:
    """A request.

    Attributes:
        path: Begins with a slash; parts in braces are parameters of the function.
        condition: A no is answered with 404.
    """

    method: str
    path: str
    condition: Condition | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(f"{self.method!r} is no method for a step: use one of {', '.join(METHODS)}")
        if not self.path.startswith("/"):
            raise ConfigurationError(f"the path {self.path!r} does not begin with a slash")
        if set("{}?#") & set(_PARAMETER.sub("", self.path)):
            raise ConfigurationError(
                f"the path {self.path!r} is none that can be asked for: its parameters are names in braces, those of "
                "the query are the function's"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTrigger:
    """An event of a topic."""

    topic: str
    condition: Condition | None = None

    def __post_init__(self) -> None:
        if not self.topic or not self.topic.isprintable() or len(self.topic) > 200:
            raise ConfigurationError(f"{self.topic!r} is no topic: use 1 to 200 printable characters")


StepTrigger: TypeAlias = HttpTrigger | QueueTrigger | CronTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What set this run of a step off.

    Attributes:
        kind: `http`, `queue`, `cron`, or `tool` for a tool that a model called.
        name: `GET /leads`, the topic, the cron expression, or the tool's name.
        at_ms: When it happened, epoch milliseconds; for a time that was missed, the time that it is for.
    """

    kind: str
    name: str
    at_ms: int

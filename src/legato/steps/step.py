"""A step: a function of a bot's file with what sets it off. Pure, but for looking at the function."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from legato.core.errors import ConfigurationError
from legato.settings import nearest
from legato.steps.context import Context
from legato.steps.jobs import CronStep, CronTrigger, JobEvent, QueueStep
from legato.steps.triggers import HttpTrigger, QueueTrigger, StepTrigger

CONTEXT_NAME = "ctx"
_MOST_ERRORS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        name: Unique; the function's own by default.
        description: The docstring's first paragraph by default.
        flows: Names under which it is drawn together with others.
        enqueues: Topics that it may enqueue.
        function: None for a part of the server that is only listed.
        input: Its argument besides the context.
        options: Of QueueStep (`batch`, `key`, `attempts`, …), and of CronStep, by trigger's kind.
        known_topics: All that any step enqueues, to say which one a wrong one was meant to be.
    """

    name: str
    description: str
    flows: tuple[str, ...]
    triggers: tuple[StepTrigger, ...]
    enqueues: tuple[str, ...]
    function: Callable[..., Any] | None
    input: Input
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    known_topics: tuple[str, ...] = ()

    @property
    def http(self) -> list[HttpTrigger]:
        return [trigger for trigger in self.triggers if isinstance(trigger, HttpTrigger)]

    @property
    def topics(self) -> list[str]:
        return [trigger.topic for trigger in self.triggers if isinstance(trigger, QueueTrigger)]

    @property
    def crons(self) -> list[CronTrigger]:
        return [trigger for trigger in self.triggers if isinstance(trigger, CronTrigger)]

    @property
    def batch(self) -> int:
        """Most events in one run; above 1, a list is handed in."""
        return int(self.options.get("queue", {}).get("batch", 1))

    def jobs(self) -> list[QueueStep | CronStep]:
        """Return what the queue has to know of it.

        Raises:
            ConfigurationError: An option is wrong.
        """
        found: list[QueueStep | CronStep] = []
        if self.topics:
            options = dict(self.options.get("queue", {}))
            key = options.pop("key", None)
            found.append(
                QueueStep(
                    name=self.name,
                    topics=self.topics,
                    key=None if key is None else self._key(key),
                    check=self.input.fault,
                    **options,
                )
            )
        if self.crons:
            found.append(CronStep(name=self.name, triggers=self.crons, **self.options.get("cron", {})))
        return found

    def _key(self, key: str | Callable[[Any], object]) -> Callable[[JobEvent], str]:
        if isinstance(key, str):
            name = key

            def of_field(event: JobEvent) -> str:
                fields = event.payload if isinstance(event.payload, dict) else {}
                if name not in fields:
                    close = nearest(name, list(fields))
                    hint = f": did you mean {close!r}?" if close else ""
                    raise LookupError(f"the payload has no field {name!r}{hint}")
                return str(fields[name])

            return of_field
        return lambda event: str(key(self.input.of(event)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The argument of a step that takes what happened.

    Attributes:
        context: Name of the context's parameter, None if it takes none.
        name: Name of the other parameter, None if it takes none.
        whole: It takes events with their ids and owners (JobEvent), rather than their payloads.
        adapter: Checks a payload; None takes any.
    """

    context: str | None
    name: str | None
    whole: bool = False
    adapter: TypeAdapter[Any] | None = None

    def of(self, event: JobEvent) -> Any:
        """Return the argument that an event makes; ValidationError if it fits not."""
        if self.whole:
            return event
        # As JSON, which it is: a strict type takes a time, a UUID or a set from there alone.
        return event.payload if self.adapter is None else self.adapter.validate_json(json.dumps(event.payload))

    def fault(self, event: JobEvent) -> str | None:
        """Return what is wrong with an event's payload, or None."""
        try:
            self.of(event)
        except ValidationError as error:
            said = [
                f"{'.'.join(map(str, each['loc'])) or 'payload'}: {each['msg'][:1].lower()}{each['msg'][1:]}"
                for each in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
            ]
            return f"the payload of {event.topic} does not fit: {'; '.join(said)}"
        return None

    def arguments(self, value: Any, context: Context) -> dict[str, Any]:
        """Return the arguments of a call."""
        given: dict[str, Any] = {}
        if self.name is not None:
            given[self.name] = value
        if self.context is not None:
            given[self.context] = context
        return given


def hints_of(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's parameters and of its result, evaluated.

    Raises:
        ConfigurationError: One cannot be read.
    """
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise ConfigurationError(f"step {name}: a type hint cannot be read ({error}): import what it names") from None


def context_of(function: Callable[..., Any], hints: Mapping[str, Any]) -> str | None:
    """Return the name of the parameter that takes the context: by its type, or called `ctx`."""
    for name in inspect.signature(function).parameters:
        if hints.get(name) is Context or name == CONTEXT_NAME:
            return name
    return None


def input_of(name: str, function: Callable[..., Any], triggers: Sequence[StepTrigger], *, batch: int) -> Input:
    """Return what a step's function takes.

    Raises:
        ConfigurationError: It is not async, takes what no trigger gives, or its type is none that can be checked.
    """
    plain = inspect.unwrap(function)
    if not inspect.iscoroutinefunction(plain) and not inspect.isasyncgenfunction(plain):
        raise ConfigurationError(f"step {name}: it is not async: write `async def`")
    hints = hints_of(name, function)
    context = context_of(function, hints)
    for each in inspect.signature(function).parameters.values():
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise ConfigurationError(
                f"step {name}: {each.name} must be an ordinary parameter: no *, ** or one before a /"
            )
    others = [each for each in inspect.signature(function).parameters.values() if each.name != context]
    by_event = [trigger for trigger in triggers if not isinstance(trigger, HttpTrigger)]
    if not by_event:
        # Its parameters are the request's.
        return Input(context=context, name=None)
    if inspect.isasyncgenfunction(plain):
        raise ConfigurationError(f"step {name}: it yields, and only a step with http triggers alone can stream")
    if len(others) > 1:
        raise ConfigurationError(
            f"step {name}: it takes {', '.join(each.name for each in others)}: a queue step takes its event and a "
            "Context, a cron step a Context"
        )
    if not others:
        return Input(context=context, name=None)
    (other,) = others
    has_times = any(isinstance(trigger, CronTrigger) for trigger in by_event)
    if has_times and other.default is inspect.Parameter.empty:
        raise ConfigurationError(f"step {name}: a time brings no {other.name}: give it a default, or leave it out")
    hint = hints.get(other.name, Any)
    if batch > 1:
        if get_origin(hint) not in (list, Sequence) or len(get_args(hint)) != 1:
            raise ConfigurationError(f"step {name}: with batch={batch} it gets a list: write `{other.name}: list[…]`")
        (hint,) = get_args(hint)
    if hint is JobEvent:
        return Input(context=context, name=other.name, whole=True)
    if hint is Any:
        return Input(context=context, name=other.name)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except (PydanticUserError, TypeError, NameError) as error:
        raise ConfigurationError(
            f"step {name}: {other.name} has a type that cannot be checked: {str(error).splitlines()[0]}"
        ) from None
    return Input(context=context, name=other.name, adapter=adapter)


def streams(function: Callable[..., Any]) -> bool:
    """Whether a step's function yields what it says piece by piece."""
    return inspect.isasyncgenfunction(inspect.unwrap(function))

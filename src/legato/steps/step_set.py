"""The decorators with which a bot's file declares its steps and tools."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, overload

from legato.core.errors import ConfigurationError
from legato.steps.context import Context
from legato.steps.jobs import CronTrigger
from legato.steps.slow_spots import Timed
from legato.steps.step import Input, Step, input_of
from legato.steps.triggers import Condition, HttpTrigger, QueueTrigger, StepTrigger
from legato.tools.base import MAX_OUTPUT_CHARS, TIMEOUT_S, ApprovalRule, Arguments, Tool, ToolBody
from legato.tools.schema import tool_from

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class _Draft:
    """What the decorators of one function have said so far."""

    function: Callable[..., Any] | None
    name: str
    description: str
    triggers: list[StepTrigger] = field(default_factory=list)
    flows: list[str] = field(default_factory=list)
    enqueues: list[str] = field(default_factory=list)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


class StepSet:
    """Steps and tools that belong together; `Legato.include` takes those of another file in.

    Several decorators on one function are several triggers of one step.
    """

    def __init__(self) -> None:
        self._drafts: list[_Draft] = []
        self._tools: list[Tool] = []
        self.tool_topics: list[str] = []
        """What the tools may enqueue."""

    def http(
        self,
        method: str,
        path: str,
        *,
        condition: Condition | None = None,
        name: str | None = None,
        description: str | None = None,
        flows: Sequence[str] = (),
        enqueues: Sequence[str] = (),
    ) -> Callable[[F], F]:
        """Run a function for requests; its parameters are the path's, the query's and the body's, as in FastAPI.

        A list in the query is `Annotated[list[str], Query()]`. One that yields streams what it says as events.

        Args:
            method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
            path: Such as `/leads/{session_id}`.
            condition: See legato.steps.triggers.Condition.
            name, description: The function's name and docstring by default.
            flows: Names under which it is drawn.
            enqueues: Topics that it may enqueue.
        """
        trigger = HttpTrigger(method=method.upper(), path=path, condition=condition)
        return self._decorate([trigger], name, description, flows, enqueues, {})

    def queue(
        self,
        *topics: str,
        condition: Condition | None = None,
        name: str | None = None,
        description: str | None = None,
        flows: Sequence[str] = (),
        enqueues: Sequence[str] = (),
        batch: int = 1,
        key: str | Callable[[Any], object] | None = None,
        concurrency: int = 4,
        attempts: int = 5,
        backoff_s: float = 1.0,
        most_backoff_s: float = 300.0,
        time_limit_s: float = 60.0,
    ) -> Callable[[F], F]:
        """Run a function for events of some topics: at least once for each, and again after an error.

        Args:
            batch: Most events in one run. Above 1 the function takes a list of what came together, of whatever
                owners, and acts for the app.
            key: Events with the same key are handled one after another, in their order: a field of the payload, or a
                function of the checked input.
            concurrency: Runs at a time in this process.
            attempts: Runs for one event before it is a dead letter.
            backoff_s, most_backoff_s: First and longest pause between them, in seconds; it doubles.
            time_limit_s: Longest run, in seconds.
        """
        if not topics or not all(isinstance(topic, str) for topic in topics):
            raise ConfigurationError('a queue step names its topics: write @app.queue("chat.message.completed")')
        if not (key is None or isinstance(key, str) or callable(key)):
            raise ConfigurationError(f"key is {key!r}: give the name of a field, or a function of the input")
        options = {
            "batch": batch,
            "key": key,
            "concurrency": concurrency,
            "attempts": attempts,
            "backoff_s": backoff_s,
            "most_backoff_s": most_backoff_s,
            "time_limit_s": time_limit_s,
        }
        triggers = [QueueTrigger(topic=topic, condition=condition) for topic in topics]
        return self._decorate(triggers, name, description, flows, enqueues, {"queue": options})

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        missed: Literal["once", "skip"] = "once",
        condition: Condition | None = None,
        name: str | None = None,
        description: str | None = None,
        flows: Sequence[str] = (),
        enqueues: Sequence[str] = (),
        attempts: int = 3,
        backoff_s: float = 1.0,
        most_backoff_s: float = 300.0,
        time_limit_s: float = 3600.0,
    ) -> Callable[[F], F]:
        """Run a function at times: once at each, however many processes there are.

        Args:
            expression: 5 fields (minute, hour, day of month, month, day of week), or 6 with seconds first.
            timezone: IANA name, such as Europe/Berlin.
            missed: `once`: the last of the times at which no server ran is made up for; `skip`: none is.
        """
        if not isinstance(expression, str):
            raise ConfigurationError('a cron step names its times: write @app.cron("0 8 * * *")')
        options = {
            "attempts": attempts,
            "backoff_s": backoff_s,
            "most_backoff_s": most_backoff_s,
            "time_limit_s": time_limit_s,
        }
        trigger = CronTrigger(expression, timezone, missed, condition)
        return self._decorate([trigger], name, description, flows, enqueues, {"cron": options})

    @overload
    def tool(self, function: F) -> F: ...
    @overload
    def tool(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        idempotent: bool = False,
        needs_approval: bool | ApprovalRule = False,
        enqueues: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        max_output_chars: int = MAX_OUTPUT_CHARS,
    ) -> Callable[[F], F]: ...
    def tool(
        self,
        function: F | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        idempotent: bool = False,
        needs_approval: bool | ApprovalRule = False,
        enqueues: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        max_output_chars: int = MAX_OUTPUT_CHARS,
    ) -> F | Callable[[F], F]:
        """Let the model call a function: its parameters from the type hints, its words from the docstring.

        Args:
            idempotent: A call that was cut may be run again.
            needs_approval: Whether a person must agree before a call: always, or where a rule says so.
            enqueues: Topics that it may enqueue through its Context.
            timeout_s: Longest call, in seconds.
            max_output_chars: As much of the result is told to the model.
        """

        _check_names("enqueues", enqueues)

        def add(function: F) -> F:
            tool = tool_from(
                function,
                name=name,
                description=description,
                idempotent=idempotent,
                needs_approval=needs_approval,
                timeout_s=timeout_s,
                max_output_chars=max_output_chars,
                context_types=(Context,),
            )
            self._tools.append(replace(tool, body=_timed(tool)))
            self.tool_topics += [topic for topic in enqueues if topic not in self.tool_topics]
            return function

        return add if function is None else add(function)

    def include(self, other: StepSet) -> None:
        """Take the steps and tools of another set in."""
        self._drafts += other._drafts
        self._tools += other._tools
        self.tool_topics += [topic for topic in other.tool_topics if topic not in self.tool_topics]

    @property
    def tools(self) -> Sequence[Tool]:
        return tuple(self._tools)

    def steps(self) -> list[Step]:
        """Return the declared steps.

        Raises:
            ConfigurationError: A function or an option of one is wrong; names it.
        """
        return [_step(draft) for draft in self._drafts]

    def _decorate(
        self,
        triggers: Sequence[StepTrigger],
        name: str | None,
        description: str | None,
        flows: Sequence[str],
        enqueues: Sequence[str],
        options: dict[str, dict[str, Any]],
    ) -> Callable[[F], F]:
        _check_names("flows", flows)
        _check_names("enqueues", enqueues)
        for trigger in triggers:
            if trigger.condition is not None and not callable(trigger.condition):
                raise ConfigurationError(f"condition is {trigger.condition!r}: give a function of input and Context")

        def add(function: F) -> F:
            draft = next((each for each in self._drafts if each.function is function), None)
            if draft is None:
                draft = _Draft(function, "", "")
                self._drafts.append(draft)
            if name and draft.name and name != draft.name:
                raise ConfigurationError(f"one step is named {draft.name!r} and {name!r}: decide for one")
            draft.name = name or draft.name
            draft.description = description or draft.description
            # The decorator that stands lowest is applied first.
            draft.triggers[:0] = triggers
            draft.flows += [each for each in flows if each not in draft.flows]
            draft.enqueues += [each for each in enqueues if each not in draft.enqueues]
            for kind, values in options.items():
                if draft.options.setdefault(kind, values) != values:
                    raise ConfigurationError(
                        f"step {draft.name or function.__name__}: two {kind} triggers with different options: "
                        "give both topics to one, or the same options"
                    )
            return function

        return add


def _check_names(what: str, given: Sequence[str]) -> None:
    # A text is a sequence of texts, too.
    if isinstance(given, str):
        raise ConfigurationError(f"{what} is {given!r}: give a list of names")


def _timed(tool: Tool) -> ToolBody:
    async def run(arguments: Arguments, context: object) -> object:
        return await Timed(tool.name, _body_of(tool, arguments, context))

    return run


async def _body_of(tool: Tool, arguments: Arguments, context: object) -> object:
    return await tool.body(arguments, context)


def _step(draft: _Draft) -> Step:
    function = draft.function
    assert function is not None
    name = draft.name or getattr(function, "__name__", "step")
    batch = int(draft.options.get("queue", {}).get("batch", 1))
    return Step(
        name=name,
        description=draft.description or _summary(function),
        flows=tuple(draft.flows),
        triggers=tuple(draft.triggers),
        enqueues=tuple(draft.enqueues),
        function=function,
        input=input_of(name, function, draft.triggers, batch=batch),
        options=draft.options,
    )


def _summary(function: Callable[..., Any]) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def listed(
    name: str, description: str, *, flows: Sequence[str], enqueues: Sequence[str], path: str | None = None
) -> Step:
    """Return a part of the server as the step that it is, to be listed and drawn with the others."""
    return Step(
        name=name,
        description=description,
        flows=tuple(flows),
        triggers=(HttpTrigger(method="POST", path=path),) if path is not None else (),
        enqueues=tuple(enqueues),
        function=None,
        input=Input(context=None, name=None),
    )

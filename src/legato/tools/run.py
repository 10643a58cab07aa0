"""Runs one tool call: arguments in as the model wrote them, text for the model out, whatever happens between.

Nothing but cancellation leaves `PreparedCall.run` as an exception. A call ends within its time limit and GRACE_S, even
if its body does not; what it gives is bounded text.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import types
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, from_json, to_json

from legato.core.errors import InvalidArguments, LegatoError, ToolError
from legato.core.text import valid_unicode
from legato.tools.base import MAX_NAME_CHARS, Arguments, Tool, ToolResult
from legato.tools.scrub import tell

log = structlog.get_logger(__name__)

MAX_ARGUMENTS_CHARS = 262_144
GRACE_S = 0.5
"""How long a body that was cancelled may take to end before it is left to itself."""
_MOST_NAMES = 40

_left: set[asyncio.Task[Any]] = set()
"""Bodies that did not end when they were cancelled; held, so that they are not collected while they run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCall:
    """One call, ready to run: its arguments are checked, or it is refused.

    Attributes:
        name: The name that the model called.
        tool: None if there is no such tool.
        arguments: Checked, as the body takes them.
        refusal: Why it does not run: no such tool, or arguments that do not fit.
    """

    name: str
    tool: Tool | None = None
    arguments: Arguments
    refusal: ToolResult | None = None

    async def needs_approval(self) -> bool:
        """Return whether a person must agree before it runs. A rule that fails is taken for a yes."""
        if self.tool is None or self.refusal is not None:
            return False
        rule = self.tool.needs_approval
        if isinstance(rule, bool):
            return rule
        try:
            answer = rule(dict(self.arguments))
            return bool(await answer if inspect.isawaitable(answer) else answer)
        except (Exception, SystemExit) as error:
            log.warning("an approval rule failed: the call needs approval", tool=self.tool.name, exc_info=error)
            return True

    async def run(self, context: object = None) -> ToolResult:
        """Run it and return what it gave; a refused call gives its refusal.

        Args:
            context: Given to tools that ask for one.
        """
        if self.refusal is not None:
            return self.refusal
        assert self.tool is not None
        return await _run(self.tool, self.arguments, context)


def prepare(tools: Mapping[str, Tool], name: str, arguments: str) -> PreparedCall:
    """Return the call of a tool as a model asked for it.

    Args:
        tools: By name.
        arguments: The JSON text that the model wrote; an empty one stands for no arguments.
    """
    tool = tools.get(name)
    if tool is None:
        known = ", ".join(sorted(tools)[:_MOST_NAMES]) or "none"
        return _refused(name, None, f"there is no tool {name[:MAX_NAME_CHARS]!r}; the tools are: {known}")
    try:
        return PreparedCall(name=name, tool=tool, arguments=tool.check(decode_arguments(arguments)))
    except ToolError as error:
        return _refused(name, tool, error.message)
    except Exception as error:
        log.warning("a tool's check of its arguments failed", tool=name, exc_info=error)
        return _refused(name, tool, f"invalid arguments: {tell(error)}")


def decode_arguments(text: str) -> Arguments:
    """Return the arguments that a model wrote.

    Raises:
        InvalidArguments: They are no JSON object, or more than MAX_ARGUMENTS_CHARS characters.
    """
    if len(text) > MAX_ARGUMENTS_CHARS:
        raise InvalidArguments(f"invalid arguments: more than {MAX_ARGUMENTS_CHARS} characters")
    if not text.strip():
        return {}
    try:
        value = from_json(text, allow_inf_nan=False)
    except (ValueError, UnicodeError) as error:
        value = _with_bare_line_breaks(text, str(error))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArguments(f"invalid arguments: a JSON object is needed, not {type(value).__name__}")
    return value


def _with_bare_line_breaks(text: str, error: str) -> object:
    """Take JSON whose texts hold line breaks as they are, which models write now and then; nothing else."""
    try:
        value = json.loads(text, strict=False, parse_constant=_no_constant)
        to_json(value)
    except (ValueError, RecursionError, PydanticSerializationError):
        raise InvalidArguments(f"invalid arguments: not JSON ({error[:200]})") from None
    return value


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _refused(name: str, tool: Tool | None, why: str) -> PreparedCall:
    return PreparedCall(name=name, tool=tool, arguments={}, refusal=ToolResult(output=why, is_error=True))


async def _run(tool: Tool, arguments: Arguments, context: object) -> ToolResult:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    # A task of its own: it can be left behind, where a body in this task could hold its caller up for ever.
    task = loop.create_task(_outcome(tool, arguments, context), name=f"tool {tool.name}")
    try:
        done, _ = await asyncio.wait({task}, timeout=tool.timeout_s)
    except asyncio.CancelledError:
        await _give_up(tool, task)
        raise
    if done:
        output, is_error = task.result()
    else:
        log.warning("a tool took too long", tool=tool.name, server=tool.server, timeout_s=tool.timeout_s)
        await _give_up(tool, task)
        output, is_error = f"the tool did not answer within {tool.timeout_s:g} s", True
    return ToolResult(output=bounded(output, tool.max_output_chars), is_error=is_error, elapsed_s=loop.time() - began_s)


async def _outcome(tool: Tool, arguments: Arguments, context: object) -> tuple[str, bool]:
    """Return a call's text, and whether it tells of an error; raises nothing but its own cancellation."""
    try:
        return to_text(await tool.body(arguments, context)), False
    except LegatoError as error:
        # Messages of this tree are written to be shown.
        log.info("a tool answered with an error", tool=tool.name, server=tool.server, error=error.code)
        return error.message, True
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return "the tool was cancelled", True
    except BaseException as error:
        # Whatever it is: raised from here, it would end the run, or the server.
        log.warning("a tool failed", tool=tool.name, server=tool.server, error=type(error).__name__, exc_info=error)
        return tell(error), True


async def _give_up(tool: Tool, task: asyncio.Task[tuple[str, bool]]) -> None:
    task.cancel()
    try:
        await asyncio.wait({task}, timeout=GRACE_S)
    finally:
        if not task.done():
            _left.add(task)
            task.add_done_callback(_forget)
            log.warning("a tool goes on after its cancellation", tool=tool.name, server=tool.server)


def _forget(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        # Its outcome comes too late for anybody.
        task.exception()


def to_text(value: object) -> str:
    """Return a result as the model reads it: a `str` as it is, anything else as JSON.

    Raises:
        ToolError: It is something that JSON cannot say.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Iterator | AsyncIterator | types.CoroutineType):
        raise ToolError(f"the tool gave a {type(value).__name__}, which has no end that is known: it must give values")
    try:
        return to_json(value, inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ToolError(f"the tool gave a {type(value).__name__}, which is nothing that JSON can say") from error


def bounded(text: str, most_chars: int) -> str:
    """Return `text` as valid Unicode of at most `most_chars` characters; a cut is told at the end."""
    total = len(text)
    if total > most_chars:
        note = f"\n[cut: the whole output has {total} characters]"
        text = text[: most_chars - len(note)] + note
    return valid_unicode(text)

"""What a tool is, and what one call of it gives.

A tool is data: a name, what the model reads of it, a check of its arguments and a body that runs. Where it came from (a
function in a user's file, an MCP server) makes no difference to whoever calls it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from legato.core.errors import ConfigurationError

Arguments: TypeAlias = dict[str, Any]
"""A call's arguments by name."""

TIMEOUT_S = 30.0
MIN_OUTPUT_CHARS = 200
MAX_OUTPUT_CHARS = 16_000
MAX_DESCRIPTION_CHARS = 4_096
MAX_NAME_CHARS = 64

_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_NAME_CHARS}}}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")


class ToolBody(Protocol):
    """What runs. It may raise anything; the result is made into text by whoever calls it."""

    async def __call__(self, arguments: Arguments, context: object) -> object: ...


ArgumentCheck: TypeAlias = Callable[[Arguments], Arguments]
"""Takes decoded JSON, returns what the body is called with, or raises InvalidArguments."""

ApprovalRule: TypeAlias = Callable[[Arguments], bool] | Callable[[Arguments], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool as a model may call it.

    Attributes:
        name: What the model calls; 1 to 64 of `a-z A-Z 0-9 _ -`, unique in a ToolBox.
        description: What the model reads to know when to call it.
        parameters: JSON Schema of the arguments, an object without references where that is possible.
        check: Validates arguments, and makes Python's types of them.
        body: Runs the call.
        idempotent: Whether a call that was cut may be run again.
        needs_approval: Whether a person must agree first; a rule is asked with the checked arguments.
        timeout_s: Longest time of a call, > 0.
        max_output_chars: Characters of a result that the model is told; >= MIN_OUTPUT_CHARS.
        server: Name of the MCP server that it belongs to, or None for one of the bot's own.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    check: ArgumentCheck
    body: ToolBody
    idempotent: bool = False
    needs_approval: bool | ApprovalRule = False
    timeout_s: float = TIMEOUT_S
    max_output_chars: int = MAX_OUTPUT_CHARS
    server: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} is no name for a tool: use 1 to 64 of a-z, A-Z, 0-9, _ and -")
        if not 0 < self.timeout_s < math.inf:
            raise ConfigurationError(
                f"tool {self.name}: timeout_s is {self.timeout_s:g}, it must be above 0, in seconds"
            )
        if not isinstance(self.needs_approval, bool) and not callable(self.needs_approval):
            raise ConfigurationError(
                f"tool {self.name}: needs_approval is {self.needs_approval!r}: give True, False or a function of the "
                "arguments"
            )
        if self.max_output_chars < MIN_OUTPUT_CHARS:
            raise ConfigurationError(
                f"tool {self.name}: max_output_chars is {self.max_output_chars}, use {MIN_OUTPUT_CHARS} or more"
            )

    def definition(self) -> dict[str, Any]:
        """Return the tool as an entry of `tools` in an OpenAI-compatible request."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a call gave.

    Attributes:
        output: Text for the model, valid Unicode, at most the tool's `max_output_chars`; a cut is told at its end.
        is_error: The call was refused or failed, and `output` says why.
        elapsed_s: Time that the body took; 0 for a call that was refused.
    """

    output: str
    is_error: bool = False
    elapsed_s: float = 0.0


def legal_name(name: str) -> str:
    """Return a name for a tool that a server calls `name`: each character that names do not have becomes `_`."""
    return _ILLEGAL.sub("_", name) or "tool"

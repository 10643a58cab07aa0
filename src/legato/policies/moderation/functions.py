"""Policies that a bot declares in Python: `@app.moderate("request")`, `@app.moderate("reply")`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from legato.core.errors import ConfigurationError
from legato.policies.moderation.chain import InThread
from legato.policies.moderation.verdict import STAGES, VERDICTS, Allow, Block, Passage, PolicyFailed, Stage, Verdict

PolicyBody = Callable[[Passage], Verdict | Awaitable[Verdict | None] | None]
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredPolicy:
    """A function as it was declared."""

    name: str
    stages: tuple[Stage, ...]
    body: PolicyBody
    timeout_s: float
    open: bool


def declared(
    stages: tuple[str, ...], body: PolicyBody, *, name: str | None, timeout_s: float, open: bool
) -> DeclaredPolicy:
    """Return a function as a policy.

    Raises:
        ConfigurationError: A stage is unknown or none is named, or the function does not take one passage.
    """
    called = name or str(getattr(body, "__name__", "policy"))
    if not stages or any(stage not in STAGES for stage in stages):
        raise ConfigurationError(f"@app.moderate of {called}: name {' or '.join(map(repr, STAGES))}, or both")
    if timeout_s <= 0:
        raise ConfigurationError(f"@app.moderate of {called}: timeout_s is {timeout_s:g}: more than 0")
    try:
        inspect.signature(body).bind(None)
    except TypeError:
        raise ConfigurationError(f"@app.moderate of {called}: it has to take one argument, the passage") from None
    known: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage in stages)
    return DeclaredPolicy(name=called, stages=known, body=body, timeout_s=timeout_s, open=open)


class FunctionPolicy:
    """Asks a bot's function; one that is not async runs in a thread, and waits for a free one within its time."""

    costly = False

    def __init__(self, policy: DeclaredPolicy, in_thread: InThread) -> None:
        self.name = policy.name
        self.timeout_s = policy.timeout_s
        self.open = policy.open
        self._body = policy.body
        self._in_thread = in_thread
        called = policy.body if inspect.isroutine(policy.body) else type(policy.body).__call__
        self._is_async = inspect.iscoroutinefunction(inspect.unwrap(called))

    async def judge(self, passage: Passage, cause: Any) -> Verdict:
        given: Any = self._body(passage) if self._is_async else await self._in_thread(lambda: self._body(passage))
        if inspect.isawaitable(given):
            given = await given
        if given is None:
            return Allow()
        if not isinstance(given, VERDICTS):
            raise PolicyFailed("error", f"it returned a {type(given).__name__}, which is no verdict")
        if (fault := _fault(given)) is not None:
            raise PolicyFailed("error", fault)
        return given


def _fault(verdict: Verdict) -> str | None:
    """Return what is wrong with a verdict that a bot made; None for nothing."""
    for name in ("text", "reason"):
        value = getattr(verdict, name, "")
        if value is None and name == "text" and isinstance(verdict, Block):
            continue
        if not isinstance(value, str):
            return f"its verdict's {name} is a {type(value).__name__}, not text"
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return f"its verdict's {name} has characters that cannot be kept"
    return None

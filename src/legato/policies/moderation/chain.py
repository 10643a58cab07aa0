"""All policies of one stage, asked one after another.

First those that find places, all of the text as it came; then the others in their order, of the text as it is then: so
whoever is asked over the network never sees what was redacted here. The first that blocks decides. A policy that gives
no verdict blocks, unless the settings say that it lets pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog

from legato.core.run_errors import BudgetSpent
from legato.policies.moderation.spans import Span, SpanPolicy, redacted
from legato.policies.moderation.verdict import (
    Allow,
    Block,
    Flag,
    Passage,
    PolicyFailed,
    Redact,
    Stage,
    Verdict,
)
from legato.policies.moderation.window import Found, Piece

log = structlog.get_logger(__name__)

LONG_CHARS: Final = 16_384
"""A longer text is looked through in a thread."""
FAILED: Final = "policy_failed"
"""Reason of a block by a policy that gave no verdict."""
REASON_CHARS: Final = 64

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function in a thread."""


class Asked(Protocol):
    """A policy that judges a passage as a whole.

    Attributes:
        name: Of the policy, as in the settings.
        timeout_s: Longest wait for a verdict.
        open: Whether a text goes on as it is where this policy fails; else it is blocked.
        costly: Whether each question costs time or money, so that sentences that are there together go together.
    """

    name: str
    timeout_s: float
    open: bool
    costly: bool

    async def judge(self, passage: Passage, cause: Any) -> Verdict:
        """Return the verdict.

        Args:
            cause: What it is asked for, to whoever charges for that.

        Raises:
            PolicyFailed: There is none.
        """
        ...


class Counting(Protocol):
    """What is told of each policy, for metrics."""

    def policy_decided(self, policy: str, stage: str, verdict: str) -> None: ...
    def policy_failed(self, policy: str, stage: str, kind: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Flagged:
    """A policy wants somebody to look at a text."""

    policy: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A policy wants a text neither kept nor shown.

    Attributes:
        text: What is said instead; None for the text of the settings.
    """

    policy: str
    reason: str
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a chain makes of a text.

    Attributes:
        text: It, as it may be kept, shown and sent; where it is blocked, nothing of it may be.
    """

    text: str
    blocked: Blocked | None = None
    flags: tuple[Flagged, ...] = ()


class Chain:
    """The policies of one stage.

    Args:
        spans: Those that find places.
        asked: The others, in their order.
        in_thread: Runs what would hold the event loop for long.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        spans: Sequence[SpanPolicy],
        asked: Sequence[Asked],
        counts: Counting,
        in_thread: InThread,
    ) -> None:
        self.stage: Stage = stage
        self._spans = tuple(spans)
        self._asked = tuple(asked)
        self._counts = counts
        self._in_thread = in_thread

    def __bool__(self) -> bool:
        return bool(self._spans or self._asked)

    @property
    def costly(self) -> bool:
        """Whether sentences that are there together are best judged together."""
        return any(policy.costly for policy in self._asked)

    async def judge(self, passage: Passage, cause: Any) -> Judged:
        """Judge a text that is there as a whole.

        Args:
            cause: What it is asked for, to whoever charges for that.

        Raises:
            BudgetSpent: Judging it would cost more than may be spent.
        """
        text = passage.text
        if not text or not self:
            return Judged(text=text)
        try:
            found = await self._found(text)
        except Closed as failed:
            return Judged(text="", blocked=failed.blocked)
        return await self.judge_piece(Piece(text=text, spans=found.spans), passage, cause)

    def redact(self, text: str) -> str | None:
        """Return a short text beside the one that is judged, as the policies that find places leave it; None where one
        of them blocks it."""
        try:
            blocked, _, spans = self._decided(Piece(text=text, spans=self._look(text, settles=False).spans))
        except Closed:
            return None
        return None if blocked is not None else redacted(text, spans)

    async def judge_piece(self, piece: Piece, passage: Passage, cause: Any) -> Judged:
        """Judge a piece of a text in which places were found already; `passage` says what it is a piece of.

        Raises:
            BudgetSpent: As `judge`.
        """
        blocked, flags, spans = self._decided(piece)
        if blocked is not None:
            return Judged(text="", blocked=blocked)
        text = redacted(piece.text, spans)
        for policy in self._asked:
            if not text.strip():
                break
            verdict = await self._ask(policy, replace(passage, text=text), cause)
            match verdict:
                case Blocked():
                    return Judged(text="", blocked=verdict)
                case Redact():
                    text = verdict.text
                case Flag():
                    flags.append(Flagged(policy=policy.name, reason=_code(verdict.reason)))
                case _:
                    pass
        return Judged(text=text, flags=tuple(flags))

    def look(self, text: str) -> Found:
        """Ask the policies that find places of a text that goes on.

        Raises:
            Closed: One failed that lets nothing pass then.
        """
        return self._look(text, settles=True)

    async def _found(self, text: str) -> Found:
        if not self._spans:
            return Found(spans=(), settled=len(text))
        if len(text) <= LONG_CHARS:
            return self._look(text, settles=False)
        found: Found = await self._in_thread(lambda: self._look(text, settles=False))
        return found

    def _look(self, text: str, *, settles: bool) -> Found:
        spans: list[tuple[Span, int]] = []
        settled = len(text)
        for place, policy in enumerate(self._spans):
            try:
                spans += [(span, place) for span in policy.find(text)]
                if settles:
                    settled = min(settled, policy.settled(text))
            except PolicyFailed as error:
                self._failed(policy.name, error.kind, policy.open, str(error))
        spans.sort(key=lambda each: (each[0].start, -each[0].end))
        return Found(spans=spans, settled=settled)

    def _decided(self, piece: Piece) -> tuple[Blocked | None, list[Flagged], list[Span]]:
        """Return what the findings of a piece come to: a block, flags, and what is redacted."""
        flags: list[Flagged] = []
        spans: list[Span] = []
        for span, place in piece.spans:
            policy = self._spans[place]
            if policy.action == "block":
                self._counts.policy_decided(policy.name, self.stage, "block")
                return Blocked(policy=policy.name, reason=span.reason, text=policy.text), [], []
            if policy.action == "redact":
                spans.append(span)
            elif (flag := Flagged(policy=policy.name, reason=span.reason)) not in flags:
                flags.append(flag)
        for name in {flag.policy for flag in flags}:
            self._counts.policy_decided(name, self.stage, "flag")
        for place in {place for _, place in piece.spans if self._spans[place].action == "redact"}:
            self._counts.policy_decided(self._spans[place].name, self.stage, "redact")
        return None, flags, spans

    async def _ask(self, policy: Asked, passage: Passage, cause: Any) -> Verdict | Blocked:
        try:
            async with asyncio.timeout(policy.timeout_s):
                verdict = await policy.judge(passage, cause)
        except TimeoutError:
            fault = PolicyFailed("timeout", f"no verdict came within {policy.timeout_s:g} s")
        except PolicyFailed as error:
            fault = error
        except BudgetSpent:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a bot's own code
            # Its words may hold the text: its type does not.
            fault = PolicyFailed("error", type(error).__name__)
        else:
            if isinstance(verdict, Block):
                self._counts.policy_decided(policy.name, self.stage, "block")
                return Blocked(policy=policy.name, reason=_code(verdict.reason), text=verdict.text)
            if not isinstance(verdict, Allow):
                self._counts.policy_decided(policy.name, self.stage, type(verdict).__name__.lower())
            return verdict
        try:
            self._failed(policy.name, fault.kind, policy.open, str(fault))
        except Closed as closed:
            return closed.blocked
        return Allow()

    def _failed(self, name: str, kind: str, lets_pass: bool, message: str) -> None:
        self._counts.policy_failed(name, self.stage, kind)
        log.warning(
            "a policy gave no verdict",
            policy=name,
            stage=self.stage,
            kind=kind,
            error=message,
            text="passes" if lets_pass else "blocked",
        )
        if not lets_pass:
            raise Closed(Blocked(policy=name, reason=FAILED))


class Closed(Exception):
    """A policy failed that lets nothing pass then."""

    def __init__(self, blocked: Blocked) -> None:
        super().__init__(blocked.reason)
        self.blocked = blocked


def _code(reason: str) -> str:
    """Return a reason as a code: bots may give anything."""
    kept = "".join(character if character.isalnum() or character in "_-./:" else "_" for character in reason)
    return kept[:REASON_CHARS] or "policy"

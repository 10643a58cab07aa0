"""Places in a text that a policy has found, and the text without them.

Pure. A policy that finds places, rather than judging a passage as a whole, can be asked of any piece of a text that
streams: it also says where the text may still become a finding when it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Action = Literal["block", "redact", "flag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[start, end) of a text; `label` takes its place where the action is `redact`."""

    start: int
    end: int
    label: str
    reason: str


class SpanPolicy(Protocol):
    """A policy that finds places.

    Attributes:
        name: Of the policy, as in the settings.
        action: What is to happen where it finds something.
        text: What is said instead of what is blocked; None for the text of the settings.
        open: Whether a text goes on as it is where this policy fails; else it is blocked.
    """

    name: str
    action: Action
    text: str | None
    open: bool

    def find(self, text: str) -> Sequence[Span]:
        """Return all findings, in their order.

        Raises:
            PolicyFailed: It took too long.
        """
        ...

    def settled(self, text: str) -> int:
        """Return the place up to which `text` is settled: no finding that begins before it grows or comes to be when
        the text goes on.

        Raises:
            PolicyFailed: It took too long.
        """
        ...


def redacted(text: str, spans: Iterable[Span]) -> str:
    """Return `text` with the label of each span in its place; of those that overlap the first one's label."""
    pieces: list[str] = []
    at = 0
    for start, end, label in merged(spans):
        pieces += (text[at:start], label)
        at = end
    return "".join(pieces) + text[at:] if pieces else text


def merged(spans: Iterable[Span]) -> list[tuple[int, int, str]]:
    """Return the regions that spans cover: those that overlap are one, under the label of the first and longest."""
    regions: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if regions and span.start < regions[-1][1]:
            start, end, label = regions[-1]
            regions[-1] = (start, max(end, span.end), label)
        else:
            regions.append((span.start, span.end, span.label))
    return regions

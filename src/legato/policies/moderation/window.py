"""What of a streaming text is held back until it was judged.

Pure but for the policies that it asks. A piece leaves the window when it is a sentence (or, in need, when it has been
held for long enough) and when no policy that finds places could still find something across its end: so whatever
is found is found whole, however the text is cut into deltas. What is taken out is settled:

    concatenation of all pieces = the text, with its findings redacted

Left of the window some of the text that was let out is kept, because a finding may depend on what stands before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from legato.policies.moderation.sentences import Sentences, soft_border
from legato.policies.moderation.spans import Span

CONTEXT_CHARS: Final = 256
"""Of what was let out, so much is looked at again; in whole words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What policies have found in a text, and up to where it is settled."""

    spans: Sequence[tuple[Span, int]]
    """Findings, each with the place of its policy in the chain."""
    settled: int


Look = Callable[[str], Found]
"""Asks the policies that find places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of the text as it came, and what was found in it, by places in `text`."""

    text: str
    spans: Sequence[tuple[Span, int]]


class Window:
    """Holds back one text.

    Args:
        look: Asks the policies that find places.
        hold_chars: So many characters without a sentence's end are let out in need.
        shown: What stands before the text, if anything.
        whole: All sentences that are there make one piece, of up to `hold_chars`, because judging one costs much.
    """

    __slots__ = ("_before", "_deltas", "_hold_chars", "_look", "_next_look", "_sentences", "_size", "_whole")

    def __init__(self, look: Look, *, hold_chars: int, shown: str = "", whole: bool = False) -> None:
        self._look = look
        self._hold_chars = hold_chars
        self._before = _last_words(shown)
        self._sentences = Sentences()
        self._sentences.taken(shown)
        self._deltas: list[str] = []
        self._size = 0
        self._whole = whole
        self._next_look = 0

    def __bool__(self) -> bool:
        """Whether anything is held back."""
        return self._size > 0

    @property
    def text(self) -> str:
        """What is held back."""
        # Joined when it is looked at: a word that never ends costs no copy for each delta.
        if len(self._deltas) > 1:
            self._deltas = ["".join(self._deltas)]
        return self._deltas[0] if self._deltas else ""

    def feed(self, delta: str) -> bool:
        """Take more of the text; return whether there may be a piece to take."""
        self._deltas.append(delta)
        self._size += len(delta)
        if self._size < self._next_look:
            return False
        return self._size >= self._hold_chars or self._sentences.border(self.text) is not None

    def take(self, *, late: bool = False, last: bool = False) -> Piece | None:
        """Return the next piece, or None where all has to wait.

        Args:
            late: It has waited for long enough: two words make a border.
            last: Nothing more comes: all that is held is settled.

        Raises:
            PolicyFailed: A policy failed that lets nothing pass then.
        """
        text = self.text
        if not text:
            return None
        border = self._border(text, last=last)
        late = late or len(text) >= self._hold_chars
        if border is None and not late:
            return None
        base = len(self._before)
        found = self._look(self._before + text)
        spans = [(span, policy) for span, policy in found.spans if span.end > base]
        settled = found.settled - base
        if last:
            settled = len(text)
        else:
            # What touches the end may go on.
            settled = min([settled, *(span.start - base for span, _ in spans if span.end - base >= len(text))])
        if border is None or border > settled:
            border = soft_border(text, min(settled, len(text))) if late else 0
        border = _beyond(border, [(span.start - base, span.end - base) for span, _ in spans])
        if border <= 0 or border > settled:
            # What grows is looked at again when it has grown by a share, so that long texts cost no square of time.
            self._next_look = len(text) + max(16, len(text) // 8)
            return None
        return self._cut(text, border, spans, base)

    def _border(self, text: str, *, last: bool) -> int | None:
        if last:
            # By sentences still, where they are judged one by one: the same is shown however a text is cut.
            return (None if self._whole else self._sentences.border(text)) or len(text)
        border = self._sentences.border(text)
        if border is None or not self._whole:
            return border
        probe = Sentences()
        probe.taken(text[:border])
        while border < self._hold_chars and (more := probe.border(text[border:])) is not None:
            probe.taken(text[border : border + more])
            border += more
        return border

    def _cut(self, text: str, border: int, spans: Sequence[tuple[Span, int]], base: int) -> Piece:
        piece, rest = text[:border], text[border:]
        self._deltas, self._size = [rest] if rest else [], len(rest)
        self._sentences.taken(piece)
        self._before = _last_words(self._before + piece)
        self._next_look = 0
        inside = [
            (
                Span(start=max(0, span.start - base), end=span.end - base, label=span.label, reason=span.reason),
                policy,
            )
            for span, policy in spans
            if span.end - base <= border
        ]
        return Piece(text=piece, spans=inside)


def _beyond(border: int, places: Sequence[tuple[int, int]]) -> int:
    """Return the border moved behind every finding that it would cut."""
    for start, end in sorted(places):
        if start < border < end:
            border = end
    return border


def _last_words(text: str) -> str:
    """Return the end of a text, from the beginning of a word on."""
    if len(text) <= CONTEXT_CHARS:
        return text
    start = len(text) - CONTEXT_CHARS
    while start > 0 and not text[start - 1].isspace() and len(text) - start < 2 * CONTEXT_CHARS:
        start -= 1
    return text[start:]

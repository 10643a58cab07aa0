"""The policy `rules`: an operator's own terms and patterns."""

from __future__ import annotations

from collections.abc import Sequence

from legato.policies.moderation.patterns import Pattern
from legato.policies.moderation.spans import Action, Span
from legato.policies.moderation.terms import Terms


class Rules:
    """Finds terms and patterns; a SpanPolicy.

    Args:
        label: What takes the place of a finding.

    Raises:
        ConfigurationError: A term or a pattern is wrong; names it.
    """

    def __init__(
        self,
        name: str,
        *,
        terms: Sequence[str],
        patterns: Sequence[str],
        action: Action,
        label: str,
        reason: str,
        text: str | None,
        open: bool,
        where: str,
    ) -> None:
        self.name = name
        self.action: Action = action
        self.text = text
        self.open = open
        self._label = label
        self._reason = reason
        self._terms = Terms(terms, where=f"{where}.terms") if terms else None
        self._patterns = [Pattern(source, where=f"{where}.patterns[{place}]") for place, source in enumerate(patterns)]

    def find(self, text: str) -> list[Span]:
        found = self._terms.find(text) if self._terms is not None else []
        for pattern in self._patterns:
            found += pattern.matches(text)
        return [Span(start=start, end=end, label=self._label, reason=self._reason) for start, end in sorted(set(found))]

    def settled(self, text: str) -> int:
        place = self._terms.settled(text) if self._terms is not None else len(text)
        for pattern in self._patterns:
            place = min(place, pattern.settled(text))
        return place

"""Patterns that are bounded in time, and that know where a text may still become a match.

The engine is `regex`, not Python's own: it keeps a time limit inside each search, so that no pattern and no text can
hold the event loop, and it finds partial matches, so that a text that streams is held back exactly as far as it must
be (docs/decisions/0037-moderation.md).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final

from legato.core.errors import ConfigurationError
from legato.policies.moderation.verdict import PolicyFailed

SEARCH_S: Final = 0.02
"""Processor time of the longest search in a text of up to LONG_CHARS."""
LONG_CHARS: Final = 8192
"""A longer text is given time in proportion."""
MOST_CHARS: Final = 2000
"""Of one pattern as it is written."""
_NEVER: Final = "\U0010ffff"
"""A noncharacter: behind a pattern it leaves partial matches alone, whatever matched before them."""
_FLAGS: Final = re.compile(r"\(\?[aiLmsux]+\)")


class Pattern:
    """One pattern.

    Args:
        source: As Python's `re` takes it; `(?i)` and other flags at its beginning.
        where: Where it stands in the settings, for errors.
        words: Values of a named list `\\L<words>` in it.

    Raises:
        ConfigurationError: It is no pattern; names it.
    """

    __slots__ = ("_compiled", "_growing", "groups")

    def __init__(self, source: str, *, where: str, words: Sequence[str] | None = None) -> None:
        engine = load_engine(where)
        lists: dict[str, Any] = {} if words is None else {"words": list(words)}
        if len(source) > MOST_CHARS:
            raise ConfigurationError(
                f"{where}: a pattern of {len(source)} characters is too long: {MOST_CHARS} at most"
            )
        flags = found[0] if (found := _FLAGS.match(source)) else ""
        try:
            self._compiled = engine.compile(source, **lists)
            self._growing = engine.compile(f"{flags}(?:{source[len(flags) :]}){_NEVER}", **lists)
        except engine.error as error:
            raise ConfigurationError(f"{where}: {source!r} is no pattern: {error}") from None
        if self._compiled.fullmatch("", timeout=SEARCH_S) is not None:
            raise ConfigurationError(
                f"{where}: {source!r} matches an empty text, which is everywhere: demand a character"
            )
        self.groups: frozenset[str] = frozenset(self._compiled.groupindex)

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Give the places of all matches, in their order; of a pattern with a group `v` those of the group.

        Raises:
            PolicyFailed: It took too long.
        """
        group: str | int = "v" if "v" in self.groups else 0
        for found in _bounded(lambda: list(self._compiled.finditer(text, timeout=_limit_s(text)))):
            start, end = found.span(group)
            if start < end:
                yield start, end

    def settled(self, text: str) -> int:
        """Return the place up to which no match of `text` can come to be, or grow, when the text goes on.

        Raises:
            PolicyFailed: It took too long.
        """
        found = _bounded(lambda: self._growing.search(text, partial=True, timeout=_limit_s(text)))
        return len(text) if found is None else int(found.start())


def _bounded(search: Callable[[], Any]) -> Any:
    try:
        return search()
    except TimeoutError:
        raise PolicyFailed("timeout", f"a pattern took longer than {SEARCH_S:g} s") from None


def _limit_s(text: str) -> float:
    return SEARCH_S * max(1.0, len(text) / LONG_CHARS)


@functools.cache
def _engine() -> Any:
    # Not above: most servers have no policy that needs it.
    return import_module("regex")


def load_engine(where: str) -> Any:
    """Return the engine.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return _engine()
    except ImportError:
        raise ConfigurationError(f"{where} needs the package regex: install it, or leave the policy out") from None

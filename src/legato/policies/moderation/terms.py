"""Terms: words and phrases that are found however they are written.

Pure. A text and the terms are folded alike: case, width, accents, invisible characters and runs of white space make no
difference. A term begins and ends where a word does, but for scripts that write words without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from legato.core.errors import ConfigurationError
from legato.policies.moderation.patterns import Pattern

MOST_TERMS: Final = 20_000
MOST_CHARS: Final = 200
"""Of one term."""

_SPACELESS: Final = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Kana, Han, Hangul: a neighbour of these does not make a term a part of a word."""
_LETTER: Final = rf"[^\W{_SPACELESS}]"
_UNSEEN: Final = frozenset(
    [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0]
)
"""Variation selectors and fillers: letters and marks to Unicode, and nothing to the eye."""


class Terms:
    """Finds terms in texts.

    Raises:
        ConfigurationError: One is blank or too long; names it.
    """

    def __init__(self, terms: Iterable[str], *, where: str) -> None:
        folded: dict[str, None] = {}
        for number, term in enumerate(terms):
            key = fold(term)[0].strip()
            if not key:
                raise ConfigurationError(f"{where}: term {number + 1} is blank: give it a word, or leave it out")
            if len(key) > MOST_CHARS:
                raise ConfigurationError(
                    f"{where}: term {number + 1}, {term[:40]!r}…, is too long: {MOST_CHARS} characters at most"
                )
            folded[key] = None
        if len(folded) > MOST_TERMS:
            raise ConfigurationError(f"{where}: {len(folded)} terms are too many: {MOST_TERMS} at most")
        words: Sequence[str] = list(folded)
        self._pattern = Pattern(rf"(?<!{_LETTER})\L<words>(?!{_LETTER})", where=where, words=words)

    def find(self, text: str) -> list[tuple[int, int]]:
        """Return the places of all terms in `text`.

        Raises:
            PolicyFailed: It took too long.
        """
        folded, origins = fold(text)
        found = [*self._pattern.matches(folded)]
        if origins is None:
            return found
        return [(origins[start], origins[end - 1] + 1) for start, end in found]

    def settled(self, text: str) -> int:
        """Return the place up to which no term can come to be when `text` goes on.

        Raises:
            PolicyFailed: It took too long.
        """
        folded, origins = fold(text)
        place = self._pattern.settled(folded)
        if place == len(folded):
            return len(text)
        return place if origins is None else origins[place]


_ODD: Final = re.compile(r"\s\s|[^\S ]|[\x00-\x08\x0e-\x1b\x7f]")


def fold(text: str) -> tuple[str, list[int] | None]:
    """Return a text as it is compared, and for each character of that its place in `text`; None where all are equal."""
    if text.isascii() and _ODD.search(text) is None:
        return text.lower(), None
    folded: list[str] = []
    origins: list[int] = []
    for place, character in enumerate(text):
        if character.isspace():
            if not folded or folded[-1] != " ":
                folded.append(" ")
                origins.append(place)
            continue
        if character.isascii() and character.isprintable():
            folded.append(character.lower())
            origins.append(place)
            continue
        for plain in unicodedata.normalize("NFKD", character).casefold():
            if _is_seen(plain):
                folded.append(plain)
                origins.append(place)
    return "".join(folded), origins


def _is_seen(character: str) -> bool:
    """Whether a character is more than an accent on another, or nothing at all, such as a zero-width space."""
    # Vowels of Thai or Hindi are marks too, but make another word: they do not combine as accents do.
    return (
        unicodedata.category(character) not in ("Cf", "Cc", "Me")
        and not unicodedata.combining(character)
        and ord(character) not in _UNSEEN
    )

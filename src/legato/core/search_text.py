"""What can be found in a text: its words, what a query asks for, and the piece of a text that is shown.

Pure. Words are compared without case, accents and width: `Müller`, `MULLER` and `müller` are one. Scripts that are
written without spaces (Chinese, Japanese, Thai) and Korean, which joins particles to its words, are taken character by
character: a word in them is a row of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MATCH_BEGIN: Final = "\ue000"
MATCH_END: Final = "\ue001"
"""Around what was found, in a snippet."""
MAX_WORD_CHARS: Final = 64
"""Of a word no more is kept, nor asked for."""
MAX_TEXT_CHARS: Final = 200_000
"""Of a text no more is looked at."""
MAX_PHRASES: Final = 16
MAX_PHRASE_WORDS: Final = 32
"""Of a query no more is asked for."""
LEAD_CHARS: Final = 50
SNIPPET_CHARS: Final = 180
"""How much of a text is shown, and how much of that stands before what was found."""

# Thai to Burmese, Khmer, CJK radicals to Yi, Hangul, compatibility ideographs, the planes of rarer ideographs.
_SINGLE: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs of the scripts of India are no letters to Python, and part of their words.
_SIGNS: Final = "\u0900-\u0963\u0966-\u0dff"
_WORD: Final = re.compile(rf"[{_SINGLE}](?<![\W_])|(?:[^\W_{_SINGLE}]|[{_SIGNS}])+")
_ASCII_WORD: Final = re.compile("[a-z0-9]+")
# Accents, the points of Hebrew and the vowels of Arabic.
_ACCENTS: Final = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c7\u064b-\u065f\u0670]+")
_CHUNK: Final = re.compile(r'"([^"]*)"|(\S+)')
_SHOWN_MARKS: Final = re.compile(f"[{MATCH_BEGIN}{MATCH_END}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Words that stand one behind the other; with `prefix` the last is the beginning of one."""

    words: tuple[str, ...]
    prefix: bool

    def begins(self, words: Sequence[str]) -> bool:
        """Whether words begin with this phrase."""
        count = len(self.words)
        if len(words) < count or tuple(words[: count - 1]) != self.words[:-1]:
            return False
        last = words[count - 1]
        return last.startswith(self.words[-1]) if self.prefix else last == self.words[-1]


def words_of(text: str) -> list[str]:
    """Return the words of a text, each as it is compared."""
    text = text[:MAX_TEXT_CHARS]
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        found = _WORD.findall(unicodedata.normalize("NFC", _ACCENTS.sub("", text)))
    return [word[:MAX_WORD_CHARS] for word in found]


def phrases_of(query: str) -> list[Phrase]:
    """Return what a query asks for, each of it to be found in one text.

    What stands in double quotes is a phrase of whole words; everything else between spaces is the beginning of a word.
    One letter alone is a word of its own.
    """
    phrases: dict[Phrase, None] = {}
    for quoted, plain in _CHUNK.findall(query):
        words = words_of(quoted or plain)[:MAX_PHRASE_WORDS]
        if words:
            prefix = not quoted and len(words[-1]) > 1
            phrases[Phrase(words=tuple(words), prefix=prefix)] = None
    return list(phrases)[:MAX_PHRASES]


def snippet_of(text: str, phrases: Sequence[Phrase]) -> str:
    """Return the piece of a text in which the first of the phrases stands, on one line, with marks around matches."""
    text = " ".join(_SHOWN_MARKS.sub("", unicodedata.normalize("NFC", text[:MAX_TEXT_CHARS])).split())
    first = next(_matches(text, phrases), (0, 0))[0]
    begin = max(0, first - LEAD_CHARS)
    if begin and " " in text[begin:first]:
        begin = text.index(" ", begin) + 1
    end = min(len(text), begin + SNIPPET_CHARS)
    if end < len(text) and (space := text.rfind(" ", begin + SNIPPET_CHARS // 2, end)) > first:
        end = space
    piece = text[begin:end]
    shown: list[str] = ["…"] if begin else []
    place = 0
    for start, stop in _joined(_matches(piece, phrases)):
        shown += [piece[place:start], MATCH_BEGIN, piece[start:stop], MATCH_END]
        place = stop
    shown.append(piece[place:])
    return "".join(shown) + ("…" if end < len(text) else "")


def _matches(text: str, phrases: Sequence[Phrase]) -> Iterator[tuple[int, int]]:
    """Give the (start, end) of each phrase in a text, in order of their starts."""
    longest = max((len(phrase.words) for phrase in phrases), default=0)
    window: list[tuple[str, int, int]] = []

    begins = tuple({phrase.words[0] for phrase in phrases})

    def found() -> Iterator[tuple[int, int]]:
        if not window[0][0].startswith(begins):
            return
        words = [word for word, _, _ in window]
        ends = [window[len(phrase.words) - 1][2] for phrase in phrases if phrase.begins(words)]
        if ends:
            yield window[0][1], max(ends)

    for match in _WORD.finditer(text):
        word = match[0]
        # A letter that is written as several is a word or more of its own.
        for each in (word.lower()[:MAX_WORD_CHARS],) if word.isascii() else words_of(word):
            window.append((each, *match.span()))
            if len(window) == longest:
                yield from found()
                window.pop(0)
    while window:
        yield from found()
        window.pop(0)


def _joined(spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give spans without those that overlap or touch: they are one."""
    held: tuple[int, int] | None = None
    for start, end in spans:
        if held is None:
            held = (start, end)
        elif start <= held[1]:
            held = (held[0], max(held[1], end))
        else:
            yield held
            held = (start, end)
    if held is not None:
        yield held

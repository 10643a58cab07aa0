"""Where a text that streams may be cut: behind a sentence, a line, a block of code; in need between two words.

Pure. A border that is missed holds a text back for longer, one too many has a sentence judged in two pieces (with
what stands before it as context): neither is wrong, so the rules are few.
"""

from __future__ import annotations

import re
from typing import Final

_CLOSING: Final = "\"'”’»«)\\]}*_`”’」』）】》〉"
_BORDER: Final = re.compile(
    # Scripts that put no space behind a sentence.
    rf"[。！？｡．]+[{_CLOSING}]*"
    # All others: a sentence's end is followed by white space.
    rf"|[.!?…।۔؟]+[{_CLOSING}]*[^\S\n]"
    r"|\n"
)
_ABBREVIATIONS: Final = frozenset(
    word
    for line in (
        # English
        "mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig figs vol ch sec pp p ed eds al approx est dept inc",
        "ltd co corp jan feb mar apr jun jul aug sep sept oct nov dec tue wed thu fri a.m p.m u.s u.k ph.d rev",
        # German, French, Spanish, Italian, Portuguese, Dutch
        "z.b bzw u.a d.h usw ca vgl nr str bspw ggf inkl evtl hr fr mme mlle m av p.ex sra srta ud uds pág núm sig",
        "dott ing avv exmo dhr mevr bijv enz",
    )
    for word in line.split()
)
_WORD: Final = re.compile(r"[\w.]*\Z")
_LOWER: Final = re.compile(r"\s*[a-zà-öø-ÿа-яёα-ω]")
_SOFT: Final = re.compile(r"\s+|(?<=[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff，、；：])(?=[\u3040-\u30ff\u3400-\u9fff])")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


class Sentences:
    """Finds borders in the rest of a text, of which the beginning was taken off already."""

    __slots__ = ("_at_line", "_fence")

    def __init__(self) -> None:
        self._fence = ""
        self._at_line = True

    def border(self, text: str) -> int | None:
        """Return the first border; None where there is none yet. A block of code has none inside."""
        if self._fence or (self._at_line and _FENCE.match(text)):
            return self._closing(text)
        for found in _BORDER.finditer(text):
            if _ends(text, found):
                return found.end()
        return None

    def taken(self, piece: str) -> None:
        """Learn that the beginning of the text was taken off."""
        for line in piece.splitlines(keepends=True):
            if self._at_line:
                self._fence = _fence_behind(line, self._fence)
            self._at_line = line.endswith("\n")

    def _closing(self, text: str) -> int | None:
        """Return the end of the block of code that `text` begins with, or is in; None where it goes on."""
        fence, at_line, place = self._fence, self._at_line, 0
        for line in text.splitlines(keepends=True):
            place += len(line)
            if not line.endswith("\n"):
                return None
            if at_line:
                fence = _fence_behind(line, fence)
                if not fence:
                    return place
            at_line = True
        return None


def soft_border(text: str, most: int) -> int:
    """Return the last place up to `most` at which a text may be cut in need: behind white space, or between two
    characters of a script without spaces; 0 where there is none."""
    place = 0
    for found in _SOFT.finditer(text):
        if found.end() > most:
            break
        place = found.end()
    return place


def _fence_behind(line: str, fence: str) -> str:
    """Return the fence of the block of code that is open behind a line; empty for none."""
    found = _FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found[1]
    closes = found[1][0] == fence[0] and len(found[1]) >= len(fence) and not line[found.end() :].strip()
    return "" if closes else fence


def _ends(text: str, found: re.Match[str]) -> bool:
    """Whether a sentence ends at a border: not behind an abbreviation, an initial or a list's number."""
    if not found[0].startswith("."):
        return True
    if found[0].startswith(".."):
        return _LOWER.match(text, found.end()) is None
    word = _WORD.search(text, 0, found.start())
    before = word[0] if word is not None else ""
    if before.lower() in _ABBREVIATIONS or (len(before) == 1 and before.isupper()) or before.isdigit():
        return False
    return _LOWER.match(text, found.end()) is None

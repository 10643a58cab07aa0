"""Measures of text, as other languages take them."""

from __future__ import annotations

TITLE_CHARS = 60
"""Most characters of a conversation's title that nobody has written by hand."""


def first_words(text: str) -> str:
    """Return a title of at most TITLE_CHARS characters from the beginning of a text."""
    words = " ".join(text[: TITLE_CHARS * 4].split())
    if len(words) <= TITLE_CHARS:
        return words
    cut = words[: TITLE_CHARS - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[20:] else cut) + "…"


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units: what JavaScript's `.length` gives."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

"""Text: its length and its characters as other languages and databases have them, and titles made from it."""

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


def valid_unicode(text: str) -> str:
    """Return text whose surrogates are a character again where two make one, and U+FFFD where one stands alone."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def words_of(error: BaseException) -> str:
    """Return what an exception says; of one that fails to say anything, that it does."""
    try:
        return str(error)
    except Exception as fault:  # noqa: BLE001 - whatever its class does in there, it is not this caller's failure
        return f"[{type(fault).__name__} where it was asked for its words]"


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units: what JavaScript's `.length` gives."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

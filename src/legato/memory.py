"""Gives memory back after a rush: what thousands of streams needed is not kept for the next ones.

The interpreter returns memory in pieces of a megabyte, and only those in which nothing is left. A rush leaves little,
but leaves it everywhere: names in the interpreter's cache of attributes, and a few hundred freed objects that asyncio
and uvloop keep to make the next ones of.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable

KEPT = 300
"""More than any of those lists of freed objects holds (255 in asyncio, 250 in uvloop)."""
HOLES = 20_000
"""Blocks of one size that a rush may leave free between used ones, about."""
_BYTES_HEAD = sys.getsizeof(b"")


async def give_back() -> None:
    """Return freed memory to the system. Called when nothing streams; holds the event loop for some milliseconds."""
    # Renamed in Python 3.13.
    clear: Callable[[], None] = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()
    gc.collect()
    await _renew_kept_objects()
    gc.collect()
    try:
        # The C library would keep its share for the next rush too.
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        # Another C library than glibc: it has its own ways.
        pass


async def _renew_kept_objects() -> None:
    """Put new objects, which lie together, in the place of the freed ones, which lie scattered."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    makers: tuple[Callable[[], object], ...] = (
        lambda: iter(future),
        lambda: loop.call_soon(_nothing),
        lambda: loop.call_later(0.001, _nothing),
    )
    for make in makers:
        # What was kept is taken first, then new ones are made; let go in the other order, the new ones are kept.
        scattered = [make() for _ in range(KEPT)]
        block_bytes = sys.getsizeof(scattered[0])
        # Fills the holes beside the scattered ones, into which the new ones would go.
        filling = [bytes(block_bytes - _BYTES_HEAD) for _ in range(HOLES)]
        together = [make() for _ in range(KEPT)]
        await asyncio.sleep(0.01)
        del together
        del scattered, filling


def _nothing() -> None:
    pass

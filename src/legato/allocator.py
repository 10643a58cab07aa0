"""Where the server's interpreter takes its memory from.

Python's own allocator gives memory back in pieces of a megabyte, and only those in which nothing is left: after a rush
of streams, one small object that stays holds each of them. The C library gives back every free page when it is asked
to (legato.memory). An interpreter learns from its environment, as it starts, which of the two it uses.
"""

from __future__ import annotations

import os
import sys
from typing import Final

VARIABLE: Final = "PYTHONMALLOC"
_OWN: Final = {VARIABLE: "malloc", "MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Threads share two heaps, since each of its own would keep a share; and heaps may lie in large pages."""


def take_system_allocator() -> None:
    """Start this program anew on the C library's allocator; return where it runs on it, or where it shall not.

    The process stays the same one. Whoever has set PYTHONMALLOC has decided, and what follows here is glibc's alone.
    """
    if VARIABLE in os.environ or sys.flags.dev_mode or not sys.executable or not _is_glibc():
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], _OWN | dict(os.environ))  # noqa: S606
    except OSError:
        # The same server, with more memory after a rush.
        return


def _is_glibc() -> bool:
    if "t" in sys.abiflags:
        # An interpreter without its lock knows no other allocator than its own.
        return False
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):
        return False

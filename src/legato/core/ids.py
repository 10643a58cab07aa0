"""Ids: those that the server makes, and the rule for those that a client brings."""

from __future__ import annotations

import secrets

ID_MAX_CHARS = 200
MADE_DIGITS = 32
_HEX = frozenset("0123456789abcdef")
_POOL_BYTES = 1000
# Random digits are drawn many ids at a time: a system call an id is a tenth of what starting a turn costs.
_pool = ""
_used = 0


def new_id(prefix: str, now_ms: int) -> str:
    """Return `<prefix>-<time><random>`: sorts by time of making, 80 random bits, only [0-9a-z-].

    The time is milliseconds as 12 hex digits, so that rows made together lie together in an index.
    """
    global _pool, _used
    if _used >= len(_pool):
        _pool, _used = secrets.token_hex(_POOL_BYTES), 0
    random = _pool[_used : _used + 20]
    _used += 20
    return f"{prefix}-{now_ms & 0xFFFFFFFFFFFF:012x}{random}"


def is_made_id(prefix: str, value: str) -> bool:
    """Whether an id has the form of those that `new_id` makes: no other text has it by chance."""
    head, _, digits = value.partition("-")
    return head == prefix and len(digits) == MADE_DIGITS and set(digits) <= _HEX


def new_trace_id(now_ms: int) -> str:
    """Return 32 hex digits, as W3C's trace ids are."""
    return new_id("", now_ms)[1:]


def id_fault(value: str) -> str | None:
    """Return what is wrong with an id that a client brought, or None: 1 to 200 printable characters are right."""
    if not value:
        return "is empty: give 1 to 200 printable characters"
    if len(value) > ID_MAX_CHARS:
        return f"has {len(value)} characters: at most {ID_MAX_CHARS} are taken"
    if not value.isprintable():
        return "holds a character that is not printable"
    return None

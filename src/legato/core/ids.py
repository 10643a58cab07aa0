"""Ids: those that the server makes, and the rule for those that a client brings."""

from __future__ import annotations

import secrets

ID_MAX_CHARS = 200


def new_id(prefix: str, now_ms: int) -> str:
    """Return `<prefix>-<time><random>`: sorts by time of making, 80 random bits, only [0-9a-z-].

    The time is milliseconds as 12 hex digits, so that rows made together lie together in an index.
    """
    return f"{prefix}-{now_ms & 0xFFFFFFFFFFFF:012x}{secrets.token_hex(10)}"


def id_fault(value: str) -> str | None:
    """Return what is wrong with an id that a client brought, or None: 1 to 200 printable characters are right."""
    if not value:
        return "is empty: give 1 to 200 printable characters"
    if len(value) > ID_MAX_CHARS:
        return f"has {len(value)} characters: at most {ID_MAX_CHARS} are taken"
    if not value.isprintable():
        return "holds a character that is not printable"
    return None

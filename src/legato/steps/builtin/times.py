"""Times as the built-in routes take them: epoch milliseconds, or a date as people write it."""

from __future__ import annotations

from datetime import UTC, datetime

from legato.core.errors import InvalidRequest

LATEST_MS = 253_402_300_800_000
"""The end of the year 9999."""


def time_ms(field: str, text: str | None, default: int) -> int:
    """Return a time in epoch milliseconds: digits as they are, else ISO 8601, in UTC where it names no zone.

    Raises:
        InvalidRequest: It is neither, or not of the years 1970 to 9999.
    """
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 15:
        found = int(text)
    else:
        try:
            at = datetime.fromisoformat(text)
            found = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            found = -1
    if not 0 <= found <= LATEST_MS:
        raise InvalidRequest.of(field, "is no time: give epoch milliseconds, or a date such as 2026-11-22")
    return found


def span_ms(since: str | None, until: str | None) -> tuple[int, int]:
    """Return the span that `from` and `to` name.

    Raises:
        InvalidRequest: One is no time, or they are the wrong way round.
    """
    since_ms, until_ms = time_ms("from", since, 0), time_ms("to", until, LATEST_MS)
    if until_ms < since_ms:
        raise InvalidRequest.of("to", "is before from")
    return since_ms, until_ms

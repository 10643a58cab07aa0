"""The times that a cron expression stands for, in a time zone.

Pure. Five fields: minute, hour, day of month, month, day of week; six: seconds first. Where clocks are put forward or
back, a job at a set time of day runs once that day, as Debian's cron has it: one that falls into the skipped hour runs
right after it, one in the repeated hour the first time. Jobs that run every hour or oftener run on without a gap, and
so do those with several seconds: to them the skipped hour is not there and the repeated one is there twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from legato.core.errors import ConfigurationError

_ORDER: Final = "minute, hour, day of month, month, day of week; with seconds they come first"


class CronTimes:
    """All times of one expression.

    Args:
        expression: 5 or 6 fields; lists, ranges, steps, names (MON, JAN), `L`, `LW` and `MON#1` are known.
        timezone: IANA name.

    Raises:
        ConfigurationError: The expression or the time zone is wrong; the message says which field.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self.expression = expression
        self.timezone = timezone
        try:
            self._zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"there is no time zone {timezone!r}: give an IANA name such as Europe/Berlin"
            ) from None
        fields = expression.split()
        # A set time of day stays one when its seconds are given: the daylight rules need five fields.
        self._offset_s = int(fields.pop(0)) if len(fields) == 6 and _is_second(fields[0]) else 0
        self._fields = " ".join(fields)
        try:
            if len(fields) not in (5, 6):
                raise CronSimError(f"{len(fields)} fields")
            next(CronSim(self._fields, datetime(2000, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ConfigurationError(
                f"the cron expression {expression!r} is wrong ({str(error).lower()}): give 5 or 6 fields, {_ORDER}"
            ) from None
        except StopIteration:
            raise ConfigurationError(f"the cron expression {expression!r} stands for no time at all") from None

    def after(self, at_ms: int) -> int:
        """Return the first time after `at_ms`; both are epoch milliseconds."""
        for found in CronSim(self._fields, self._local(at_ms)):
            found_ms = self._epoch_ms(found)
            # In a repeated hour the walk by the clock on the wall begins before its start.
            if found_ms > at_ms:
                return found_ms
        raise AssertionError(f"{self.expression!r} has no further time")

    def upto(self, at_ms: int) -> int:
        """Return the last time that is not after `at_ms`; both are epoch milliseconds.

        In a repeated hour it may answer with the one before, until that hour is over.
        """
        # One second later, because a walk back begins below its start.
        for found in CronSim(self._fields, self._local(at_ms + 1000), reverse=True):
            found_ms = self._epoch_ms(found)
            if found_ms <= at_ms:
                return found_ms
        raise AssertionError(f"{self.expression!r} has no earlier time")

    def next(self, at_ms: int, count: int) -> list[datetime]:
        """Return the next `count` times after `at_ms`, in the time zone, for people to read."""
        return [datetime.fromtimestamp(ms / 1000, self._zone) for ms in self._walk(at_ms, count)]

    def _walk(self, at_ms: int, count: int) -> Iterator[int]:
        for _ in range(count):
            at_ms = self.after(at_ms)
            yield at_ms

    def _local(self, at_ms: int) -> datetime:
        zone = UTC if self.timezone == "UTC" else self._zone
        return datetime.fromtimestamp(at_ms // 1000 - self._offset_s, zone)

    def _epoch_ms(self, found: datetime) -> int:
        # Adding to the datetime would forget which of two equal hours it is in.
        return (int(found.timestamp()) + self._offset_s) * 1000


def _is_second(field: str) -> bool:
    return field.isascii() and field.isdigit() and int(field) < 60

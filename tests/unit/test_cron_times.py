"""Cron expressions, time zones and next times."""

from __future__ import annotations

import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from legato.core.errors import ConfigurationError
from legato.steps.cron_times import CronTimes


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    """Epoch milliseconds of a time on the wall of a zone."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def wall(times: CronTimes, start_ms: int, count: int) -> list[str]:
    return [found.isoformat() for found in times.next(start_ms, count)]


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("* * * * *", "2026-11-22T12:34:56", ["2026-11-22T12:35:00", "2026-11-22T12:36:00"]),
        ("0 */6 * * *", "2026-11-22T12:00:00", ["2026-11-22T18:00:00", "2026-11-23T00:00:00"]),
        ("*/15 9-10 * * MON-FRI", "2026-11-20T10:40:00", ["2026-11-20T10:45:00", "2026-11-23T09:00:00"]),
        ("0 0 1 JAN *", "2026-11-22T00:00:00", ["2027-01-01T00:00:00", "2028-01-01T00:00:00"]),
        ("0 0 L * *", "2026-02-01T00:00:00", ["2026-02-28T00:00:00", "2026-03-31T00:00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00:00", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
        ("0 9 * * MON#1", "2026-11-22T00:00:00", ["2026-12-07T09:00:00", "2027-01-04T09:00:00"]),
        ("0 12 * * 7", "2026-11-22T12:00:00", ["2026-11-29T12:00:00", "2026-12-06T12:00:00"]),
        ("*/10 * * * * *", "2026-11-22T12:00:55", ["2026-11-22T12:01:00", "2026-11-22T12:01:10"]),
        ("30 0 12 * * *", "2026-11-22T12:00:00", ["2026-11-22T12:00:30", "2026-11-23T12:00:30"]),
    ],
)
def test_times_are_those_of_cron(expression: str, start: str, expected: list[str]) -> None:
    """Five fields, or six with seconds first; a time itself is not after itself."""
    assert wall(CronTimes(expression), at(start), 2) == [f"{text}+00:00" for text in expected]


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("* * * *", "UTC", "4 fields"),
        ("* * * * * * *", "UTC", "7 fields"),
        ("", "UTC", "0 fields"),
        ("61 * * * *", "UTC", "bad minute"),
        ("* * 0 * *", "UTC", "bad day-of-month"),
        ("99 * * * * *", "UTC", "bad second"),
        ("* * * FOO *", "UTC", "bad month"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * *", "Europe/Berlim", "Europe/Berlim"),
        ("0 0 * * *", "../etc/passwd", "time zone"),
        ("0 0 * * *", "", "time zone"),
    ],
)
def test_a_wrong_expression_or_zone_is_named(expression: str, zone: str, words: str) -> None:
    """What is wrong is said, with what would be right."""
    with pytest.raises(ConfigurationError, match=words):
        CronTimes(expression, zone)


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_daily_job_runs_once_on_each_day_of_a_change(expression: str) -> None:
    """In the skipped hour right after it, in the repeated hour the first time; with seconds just the same."""
    times = CronTimes(expression, "Europe/Berlin")
    assert wall(times, at("2026-03-28T12:00", "Europe/Berlin"), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert wall(times, at("2026-10-24T12:00", "Europe/Berlin"), 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu"])
@pytest.mark.parametrize("month", ["2026-03-08T00:00", "2026-03-29T00:00", "2026-10-25T00:00", "2026-11-01T00:00"])
def test_a_job_every_quarter_of_an_hour_has_no_gap(zone: str, month: str) -> None:
    """Whatever the clocks on the wall do."""
    times = CronTimes("*/15 * * * *", zone)
    now_ms = at(month, zone)
    for _ in range(24 * 4):
        next_ms = times.after(now_ms)
        assert next_ms - now_ms == 15 * 60_000
        now_ms = next_ms


def test_after_the_repeated_hour_has_begun_its_first_time_is_past() -> None:
    """A time that was is never the next."""
    times = CronTimes("30 2 * * *", "Europe/Berlin")
    now_ms = at("2026-10-25T02:10", "Europe/Berlin", fold=1)
    assert times.after(now_ms) == at("2026-10-26T02:30", "Europe/Berlin")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "15 30 2 * * *", "*/30 * * * *", "0 */6 * * *", "45 2 * * 0"])
@pytest.mark.parametrize("start", ["2026-03-07T12:00", "2026-03-28T12:00", "2026-10-24T12:00", "2026-10-31T12:00"])
def test_the_last_time_before_is_one_of_the_next_times(zone: str, expression: str, start: str) -> None:
    """Looking back finds the times that looking forward gave, so that a missed tick has the id it would have had."""
    times = CronTimes(expression, zone)
    draw = random.Random(f"{zone}{expression}{start}")
    before_ms = times.after(at(start, zone))
    for _ in range(12):
        after_ms = times.after(before_ms)
        assert times.upto(after_ms) == after_ms
        between_ms = draw.randrange(before_ms, after_ms)
        # Inside a repeated hour the look back may stop one short; nothing then is lost, only made up for later.
        assert times.upto(between_ms) in (before_ms, times.upto(before_ms - 1000))
        before_ms = after_ms

"""Windows in memory, and the limits made of windows; what all windows do is in tests/contract/test_windows.py."""

from __future__ import annotations

import pytest

from legato.core.errors import RateLimited
from legato.http.rate_limits import rate_limit_fields
from legato.policies.rate_limit import RateLimits
from legato.policies.rates import Rate, parse_rates
from legato.policies.windows import FORGET_MOST, MemoryWindows

MINUTE = Rate(amount=10, window_s=60)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits_of(clock: Clock, rates: str, session_rates: str = "off") -> RateLimits:
    return RateLimits(
        MemoryWindows(clock), rates=parse_rates("R", rates), session_rates=parse_rates("S", session_rates)
    )


# What only memory has to forget by itself


async def test_windows_that_are_over_are_forgotten(clock: Clock) -> None:
    """20,000 sessions leave nothing behind, and no call has to remove them all."""
    windows = MemoryWindows(clock)
    for number in range(20_000):
        assert await windows.take([(f"s-{number}", MINUTE)]) == (clock.now_s,)
    assert len(windows) == 20_000
    clock.now_s += 60
    most = 0
    for _ in range(20_000 // FORGET_MOST):
        before = len(windows)
        await windows.take([("new", MINUTE)])
        most = max(most, before - len(windows))
    assert len(windows) == 1
    assert most <= FORGET_MOST


async def test_a_look_leaves_nothing_behind(clock: Clock) -> None:
    """Neither at a key that was never counted for, nor at one whose window is over."""
    windows = MemoryWindows(clock)
    assert await windows.look([("k", MINUTE)]) == [(0, 0.0)]
    assert len(windows) == 0
    marks = await windows.take([("k", MINUTE)])
    assert isinstance(marks, tuple)
    clock.now_s += 60
    assert await windows.look([("k", MINUTE)]) == [(0, 0.0)]
    assert len(windows) == 0
    await windows.give_back([("k", MINUTE)], marks)


async def test_old_keys_do_not_hide_behind_busy_ones(clock: Clock) -> None:
    """A key that counts again and again keeps no other one alive."""
    windows = MemoryWindows(clock)
    await windows.take([("busy", MINUTE), ("idle", MINUTE)])
    for _ in range(7):
        clock.now_s += 10
        await windows.take([("busy", MINUTE)])
    assert len(windows) == 1


# Limits


async def test_a_session_is_limited_within_its_principal(clock: Clock) -> None:
    """Each session on its own, all of them together by the principal's; another principal's sessions are others."""
    limits = limits_of(clock, "5/minute", "2/minute")
    for session in ("a", "a", "b", "b"):
        await limits.take("ann", session, None)
    with pytest.raises(RateLimited, match="at most 2 messages a minute are taken in one session: try again in 60 s"):
        await limits.take("ann", "a", None)
    await limits.take("ann", "c", None)
    with pytest.raises(RateLimited, match="at most 5 messages a minute are taken from one caller: try again in 60 s"):
        await limits.take("ann", "d", None)
    await limits.take("ben", "a", None)


async def test_a_refused_message_counts_in_no_limit(clock: Clock) -> None:
    """What one limit refuses costs nothing in the others."""
    limits = limits_of(clock, "3/minute", "1/minute")
    await limits.take("ann", "a", "192.0.2.1")
    for _ in range(20):
        with pytest.raises(RateLimited):
            await limits.take("ann", "a", "192.0.2.1")
    left = {each.limit.name: each.remaining for each in await limits.standings("ann", "a", "192.0.2.1")}
    assert left == {"principal": 2, "session": 0, "address": 2}


@pytest.mark.parametrize(
    ("one", "other"), [(("a/b", "c"), ("a", "b/c")), (("a", "b"), ("a ", "b")), (("a", "a"), ("a", "b"))]
)
async def test_keys_do_not_meet(clock: Clock, one: tuple[str, str], other: tuple[str, str]) -> None:
    """Ids may hold any printable character; no two of them share a window."""
    limits = limits_of(clock, "9/minute", "1/minute")
    await limits.take(*one, None)
    await limits.take(*other, None)


async def test_the_longest_wait_is_told(clock: Clock) -> None:
    """Of several limits that are reached the one that stays so longest, in whole seconds, one at least."""
    limits = limits_of(clock, "2/hour;1/second")
    await limits.take("ann", None, None)
    clock.now_s += 0.75
    with pytest.raises(RateLimited, match="1 message a second") as caught:
        await limits.take("ann", None, None)
    assert caught.value.retry_after_s == 1
    clock.now_s += 0.25
    await limits.take("ann", None, None)
    with pytest.raises(
        RateLimited, match="2 messages an hour are taken from one caller: try again in 3599 s"
    ) as caught:
        await limits.take("ann", None, None)
    assert caught.value.retry_after_s == 3599
    clock.now_s += 3599
    await limits.take("ann", None, None)


async def test_the_fields_tell_what_is_left(clock: Clock) -> None:
    """Every limit in the draft's fields, the tightest in the older ones."""
    limits = limits_of(clock, "10/minute", "3/minute")
    assert rate_limit_fields(await limits.standings("ann", None, None)) == {
        "RateLimit-Policy": '"principal";q=10;w=60',
        "RateLimit": '"principal";r=10;t=60',
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "10",
        "RateLimit-Reset": "60",
    }
    for _ in range(2):
        await limits.take("ann", "a", "2001:db8::/64")
        clock.now_s += 9.2
    assert rate_limit_fields(await limits.standings("ann", "a", "2001:db8::/64")) == {
        "RateLimit-Policy": '"principal";q=10;w=60, "session";q=3;w=60, "address";q=10;w=60',
        "RateLimit": '"principal";r=8;t=42, "session";r=1;t=42, "address";r=8;t=42',
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "1",
        "RateLimit-Reset": "42",
    }


async def test_limits_are_described(clock: Clock) -> None:
    """What is left of each, by its name: what the state group `rate-limits` shows; looking costs nothing."""
    limits = limits_of(clock, "10/minute;100/hour", "3/minute")
    await limits.take("ann", "a", None)
    clock.now_s += 0.5
    own = {
        "principal-60": {"limit": 10, "windowS": 60, "remaining": 9, "resetS": 60},
        "principal-3600": {"limit": 100, "windowS": 3600, "remaining": 99, "resetS": 3600},
    }
    for _ in range(3):
        assert await limits.describe("ann") == own
    assert await limits.describe("ann", "a") == own | {
        "session": {"limit": 3, "windowS": 60, "remaining": 2, "resetS": 60}
    }

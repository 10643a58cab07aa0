"""Rates as they are written in the settings, and what is limited then."""

from __future__ import annotations

from typing import Any

import pytest

from legato.core.clock import SystemClock
from legato.core.errors import ConfigurationError
from legato.http.rate_limits import rate_limit_fields
from legato.policies.rate_limit import RateLimits, create_limits
from legato.policies.rates import Rate, parse_rates
from legato.policies.windows import MemoryWindows
from legato.settings import Settings


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("off", []),
        (" OFF ", []),
        ("10/minute", [(10, 60)]),
        ("10 per minute", [(10, 60)]),
        ("1/second", [(1, 1)]),
        ("5/3seconds", [(5, 3)]),
        ("100 / 2 hours", [(100, 7200)]),
        ("200/day;10/minute", [(10, 60), (200, 86400)]),
        ("10/minute, 100/hour", [(10, 60), (100, 3600)]),
        ("20/minute;10/60 seconds", [(10, 60)]),
    ],
)
def test_a_rate_is_read(text: str, rates: list[tuple[int, int]]) -> None:
    """A number and a time, several of them with the shortest window first; of two with one window the smaller."""
    assert [(rate.amount, rate.window_s) for rate in parse_rates("LEGATO_RATE_LIMIT", text)] == rates


@pytest.mark.parametrize(
    "text",
    [
        "",
        "often",
        "10",
        "/minute",
        "-1/minute",
        "1.5/minute",
        "10/fortnight",
        "10/minutely",
        "0/minute",
        "10/0minutes",
        "10/minute;",
        "10/minute:;5/hour",
        "off;10/minute",
        "10/minute\n5/hour",
        "9" * 5000 + "/minute",
        "100001/minute",
        "1/2 years",
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    """The message names the setting, what stands there, and what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        parse_rates("LEGATO_RATE_LIMIT", text)
    assert caught.value.message.startswith("LEGATO_RATE_LIMIT is ")
    assert "10/minute" in caught.value.message or "100000 messages at most" in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (Rate(amount=10, window_s=60), "10 messages a minute"),
        (Rate(amount=1, window_s=1), "1 message a second"),
        (Rate(amount=5, window_s=90), "5 messages in 90 seconds"),
        (Rate(amount=5, window_s=300), "5 messages in 5 minutes"),
        (Rate(amount=100, window_s=3600), "100 messages an hour"),
        (Rate(amount=100, window_s=2 * 86400), "100 messages in 2 days"),
    ],
)
def test_a_rate_is_said_in_words(rate: Rate, words: str) -> None:
    """As the refusal says it."""
    assert str(rate) == words


# Settings


def made(**values: Any) -> RateLimits | None:
    return create_limits(Settings(**values), MemoryWindows(SystemClock().monotonic_s))


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ({}, None),
        ({"auth": "keys"}, '"principal";q=10;w=60'),
        ({"auth": "keys", "rate_limit": "off"}, None),
        ({"rate_limit": "5/hour"}, '"principal";q=5;w=3600'),
        ({"rate_limit": "5/hour;2/minute"}, '"principal-60";q=2;w=60, "principal-3600";q=5;w=3600'),
        ({"auth": "keys", "session_rate_limit": "3/minute"}, '"principal";q=10;w=60, "session";q=3;w=60'),
        (
            {"rate_limit": "5/hour", "trusted_proxies": "10.0.0.0/8"},
            '"principal";q=5;w=3600, "address";q=5;w=3600',
        ),
        ({"trusted_proxies": "10.0.0.0/8"}, None),
    ],
)
async def test_what_is_limited_follows_the_settings(values: dict[str, Any], policy: str | None) -> None:
    """Ten a minute with keys and nothing without, unless something else is set; addresses only behind proxies."""
    limits = made(**values)
    if policy is None:
        assert limits is None
        return
    assert limits is not None
    address = "192.0.2.1" if limits.proxies else None
    assert rate_limit_fields(await limits.standings("ann", "s", address))["RateLimit-Policy"] == policy


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rate_limit": "often"}, "LEGATO_RATE_LIMIT is 'often'"),
        ({"session_rate_limit": "often"}, "LEGATO_SESSION_RATE_LIMIT is 'often'"),
        ({"session_rate_limit": "3/minute"}, "set LEGATO_RATE_LIMIT too"),
        ({"trusted_proxies": "proxy.example"}, "LEGATO_TRUSTED_PROXIES names 'proxy.example'"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], named: str) -> None:
    """A session's limit alone is one too: a caller would only have to change its session id."""
    with pytest.raises(ConfigurationError, match=named.replace("(", r"\(")):
        made(**values)

"""Money as Python, storage and the wire have it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.money import MOST_USD, cost_json, from_nusd, parse_usd, plus, rounded, to_nusd, usd_text


@pytest.mark.parametrize(
    ("usd", "nusd", "text"),
    [
        ("0", 0, "0"),
        ("0.000000001", 1, "0.000000001"),
        ("0.000123", 123_000, "0.000123"),
        ("12", 12 * 10**9, "12"),
        ("10", 10**10, "10"),
        ("1.50", 1_500_000_000, "1.5"),
        # Half to even.
        ("0.0000000005", 0, "0"),
        ("0.0000000015", 2, "0.000000002"),
        ("0.0000000025", 2, "0.000000002"),
        ("1E-8", 10, "0.00000001"),
        ("1E+9", 10**18, "1000000000"),
    ],
)
def test_an_amount_is_the_same_everywhere(usd: str, nusd: int, text: str) -> None:
    """Billionths in storage, a plain decimal on the wire; nothing has an exponent."""
    assert to_nusd(Decimal(usd)) == nusd
    assert usd_text(Decimal(usd)) == text
    assert cost_json(Decimal(usd)) == {"usd": text}


@given(st.integers(min_value=0, max_value=10**18))
def test_storage_and_wire_lose_nothing(nusd: int) -> None:
    """What was written is what is read, however large."""
    usd = from_nusd(nusd)
    assert to_nusd(usd) == nusd
    assert parse_usd(usd_text(usd)) == usd == rounded(usd)


@pytest.mark.parametrize("usd", ["-0.01", "NaN", "Infinity", "-Infinity", str(MOST_USD + 1)])
def test_what_is_no_amount_is_refused(usd: str) -> None:
    """Neither storage nor the reader of a log takes it."""
    with pytest.raises(ValueError, match="no amount"):
        to_nusd(Decimal(usd))
    assert parse_usd(usd) is None


@pytest.mark.parametrize("text", [None, "", "a lot", "0x10", "1,5"])
def test_what_is_not_known_is_none(text: str | None) -> None:
    """A cost that cannot be read is unknown, and never 0."""
    assert parse_usd(text) is None
    assert cost_json(parse_usd(text)) is None


def test_a_sum_with_something_unknown_is_unknown() -> None:
    """What is not known does not count as nothing."""
    one = Decimal("0.1")
    assert plus(one, one) == Decimal("0.2")
    assert plus(one, None) is plus(None, one) is None

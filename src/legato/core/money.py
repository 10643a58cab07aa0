"""Money: what calls of models cost, in US dollars.

In Python it is a Decimal, in storage an integer of billionths of a dollar (`…_nusd`; a call of a small model costs less
than a millionth), on the wire a decimal string. What is not known is None, never 0.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

NUSD: Final = Decimal("0.000000001")
"""A billionth of a dollar: no amount is finer."""
MOST_USD: Final = Decimal(1_000_000_000)
"""More than any sum here can come to; far below what a 64-bit integer of billionths holds."""
ZERO: Final = Decimal(0)


def rounded(usd: Decimal) -> Decimal:
    """Return an amount in whole billionths of a dollar, half to even."""
    return usd.quantize(NUSD, rounding=ROUND_HALF_EVEN)


def to_nusd(usd: Decimal) -> int:
    """Return an amount as storage keeps it.

    Raises:
        ValueError: It is not a number from 0 to MOST_USD.
    """
    if not usd.is_finite() or not 0 <= usd <= MOST_USD:
        raise ValueError(f"{usd} is no amount of US dollars from 0 to {MOST_USD}")
    return int(rounded(usd).scaleb(9))


def from_nusd(nusd: int) -> Decimal:
    """Return the amount that storage keeps."""
    return Decimal(nusd).scaleb(-9)


def usd_text(usd: Decimal) -> str:
    """Return an amount as a plain decimal without needless zeros: `0.000123`, `12`."""
    text = f"{rounded(usd):f}"
    return text.rstrip("0").rstrip(".")


def parse_usd(text: str | None) -> Decimal | None:
    """Return the amount of a decimal string; None where it is not known, or the text is no amount."""
    if text is None:
        return None
    try:
        usd = Decimal(text)
    except InvalidOperation:
        return None
    return usd if usd.is_finite() and 0 <= usd <= MOST_USD else None


def cost_json(usd: Decimal | None) -> dict[str, Any] | None:
    """Return a cost as the API shows it; unknown is null."""
    return None if usd is None else {"usd": usd_text(usd)}


def plus(a: Decimal | None, b: Decimal | None) -> Decimal | None:
    """Return the sum, which is not known where either is not."""
    return None if a is None or b is None else a + b

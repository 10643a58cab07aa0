"""What the tokens of each model cost.

A price is looked for in `legato.toml` first, under the model's name here and under its name at its server, then in the
list that comes with genai-prices (policies.price_list), where the address of the server says whose prices hold. The
embedded model costs nothing, which is known. Of every other model the price is unknown: its calls cost None, not 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Final, Protocol

from legato.core.money import ZERO, rounded
from legato.core.usage import Usage

MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars for a million tokens of each kind; no token is charged twice.

    Attributes:
        input: Of what the model is given and its server does not have still.
        cached_input: Of what it has.
        output: Of what the model makes for the answer.
        reasoning: Of what it makes beside the answer.
        call: For each call, in US dollars.
    """

    input: Decimal
    cached_input: Decimal
    output: Decimal
    reasoning: Decimal
    call: Decimal = ZERO

    def cost(self, usage: Usage) -> Decimal | None:
        """Return what a call cost, in whole billionths of a dollar; None where its tokens are not known."""
        inputs, outputs = usage.input_tokens, usage.output_tokens
        if inputs is None or outputs is None:
            return None
        # Servers count what was cached in the input, and the reasoning in the output.
        cached = min(usage.cache_read_tokens or 0, inputs)
        reasoning = min(usage.reasoning_tokens or 0, outputs)
        tokens = (
            (inputs - cached) * self.input
            + cached * self.cached_input
            + (outputs - reasoning) * self.output
            + reasoning * self.reasoning
        )
        return rounded(tokens / MILLION + self.call)

    def most(self, *, input_tokens: int, output_tokens: int) -> Decimal:
        """Return the most that a call with so many tokens at most can cost."""
        tokens = input_tokens * max(self.input, self.cached_input) + output_tokens * max(self.output, self.reasoning)
        return tokens / MILLION + self.call


FREE: Final = Rates(input=ZERO, cached_input=ZERO, output=ZERO, reasoning=ZERO)


class Price(Protocol):
    """The price of a model, which may depend on the time and on how much it is given."""

    @property
    def source(self) -> str:
        """Where it is from: `legato.toml`, `embedded`, or the list's provider and model."""
        ...

    def rates(self, input_tokens: int, at: datetime) -> Rates:
        """Return what holds at a time for a call that is given so much."""
        ...

    def highest(self, input_tokens: int, at: datetime) -> Iterable[Rates]:
        """Return all rates that may hold for a call that is given so much at most and begins at a time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPrice:
    """The same at all times and for all sizes."""

    held: Rates
    source: str

    def rates(self, input_tokens: int, at: datetime) -> Rates:
        return self.held

    def highest(self, input_tokens: int, at: datetime) -> Iterable[Rates]:
        return (self.held,)


class Prices:
    """The prices of the configured models, by the names that they have here.

    Args:
        prices: Of those whose price is known.
        now: What time it is; some prices change by the hour.
    """

    def __init__(self, prices: Mapping[str, Price] | None = None, *, now: Callable[[], datetime] | None = None) -> None:
        self._prices = dict(prices or {})
        self._now = now or _utc_now

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model; None where it is not known."""
        return self._prices.get(model)

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """Return what a call of a model cost in US dollars; None where the price or the tokens are not known."""
        price = self._prices.get(model)
        return None if price is None else price.rates(usage.input_tokens or 0, self._now()).cost(usage)

    def most_nusd(self, model: str, *, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most that a call can cost, in billionths of a dollar, rounded up; None where that is not known."""
        price = self._prices.get(model)
        if price is None:
            return None
        all_rates = price.highest(input_tokens, self._now())
        most = max(rates.most(input_tokens=input_tokens, output_tokens=output_tokens) for rates in all_rates)
        return int(most.scaleb(9).to_integral_value(rounding=ROUND_CEILING))

    def missing(self, models: Iterable[str]) -> list[str]:
        """Return those of some models whose price is not known, in their order."""
        return [model for model in models if model not in self._prices]


def _utc_now() -> datetime:
    return datetime.now(UTC)


_DATE = re.compile(r"-(?:20\d{2}-?[01]\d-?[0-3]\d|[01]\d[0-3]\d)$")


def spellings(*names: str) -> list[str]:
    """Return the names under which the price of a model may stand, the most exact first: those that it is called by,
    then the same without their date (`gpt-5-mini-2025-08-07`)."""
    return list(dict.fromkeys((*names, *(_DATE.sub("", name) for name in names))))


def without_maker(*names: str) -> list[str]:
    """Return names without what stands before them (`openai/gpt-5-mini`), those that have it."""
    return [name.rpartition("/")[2] for name in names if "/" in name]

"""What a reply used: token counts, where unknown is None and never 0."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from legato.core.money import usd_text

MOST_TOKENS = 10**9
"""No call has as many; a server that reports more has reported nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more model calls. None means not known.

    Attributes:
        input_tokens: All that the model was given.
        output_tokens: All that it made, its reasoning too.
        cache_read_tokens: Of the input, what its server still had.
        reasoning_tokens: Of the output, what is not part of the answer.
        counted: They, or some of them, were counted here: the model's server has not told them.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None
    counted: bool = False

    def plus(self, other: Usage) -> Usage:
        """Return the sum; a count that either side lacks is what the other side has."""
        return Usage(
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            cache_read_tokens=_sum(self.cache_read_tokens, other.cache_read_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, other.reasoning_tokens),
            counted=self.counted or other.counted,
        )


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a call of a model used, and what it cost in US dollars: None where the price is not known."""

    usage: Usage
    cost: Decimal | None


UsageBy = Literal["day", "model", "session", "key", "purpose", "owner", "none"]
"""What usage can be grouped by; the key is the API key by which messages were posted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFigures:
    """What the calls of models of one day, model, session, key, purpose or owner used, or all of them.

    Attributes:
        key: The day (UTC, `YYYY-MM-DD`), model, session and so on; None where calls have none.
        calls: How many used something.
        counted: Of how many some tokens were counted here, because the model's server has not told them.
        input_tokens, cache_read_tokens, output_tokens, reasoning_tokens: Sums of what is known.
        cost: US dollars, the sum of what is known; None where there are calls and nothing is.
        unpriced: How many calls have no known cost.
    """

    key: str | None
    calls: int
    counted: int
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: Decimal | None
    unpriced: int


USAGE_COLUMNS: Final = (
    "calls",
    "counted",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced",
)
"""Of a table of usage, behind the column that groups it."""


def usage_cells(figures: UsageFigures) -> list[str | int | None]:
    """Return a row of a table of usage: the key, then USAGE_COLUMNS."""
    return [
        figures.key,
        figures.calls,
        figures.counted,
        figures.input_tokens,
        figures.cache_read_tokens,
        figures.output_tokens,
        figures.reasoning_tokens,
        None if figures.cost is None else usd_text(figures.cost),
        figures.unpriced,
    ]


def usage_json(usage: Usage | None) -> dict[str, int | bool | None] | None:
    """Return a usage as the API shows it: camelCase, unknown is null; `counted` stands there where it is so."""
    if usage is None:
        return None
    shown: dict[str, int | bool | None] = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cacheReadTokens": usage.cache_read_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    return shown | {"counted": True} if usage.counted else shown

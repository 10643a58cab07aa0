"""Which budgets hold for a call of a model, what it can cost at most, and what is said where too little is left.

Budgets come from two places. Those of legato.toml are fixed: they cannot be set or removed while the server runs, and
go before one of the same name that was set. Of all others there is what `legato budgets` and the admin's routes set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Final

from legato.core.budget import Budget, Payer, Use, uses_of
from legato.core.errors import BudgetExceeded, ConfigurationError
from legato.core.event import UsageReported
from legato.core.money import parse_usd, to_nusd
from legato.policies.prices import Prices
from legato.settings import Settings
from legato.storage.budget_holds import Reserved, Room

BUSY_S: Final = 5.0
"""When to come again where the rest of a budget is only reserved: replies that end give back what they did not use."""
NUSD_A_USD: Final = 10**9


def fixed_budgets(settings: Settings) -> tuple[Budget, ...]:
    """Return the budgets of legato.toml.

    Raises:
        ConfigurationError: Two of them are for the same; names it.
    """
    found: dict[object, Budget] = {}
    for each in settings.budgets:
        budget = each.budget()
        if budget.key in found:
            raise ConfigurationError(
                f"[[budgets]] of legato.toml has two with per = {budget.per!r}, name = {budget.name!r}, "
                f"period = {budget.period!r}: leave one out"
            )
        found[budget.key] = budget
    return tuple(found.values())


def merged(fixed: Sequence[Budget], added: Sequence[Budget]) -> tuple[Budget, ...]:
    """Return the budgets that hold: those of the file, and of the others those that the file does not name."""
    keys = {budget.key for budget in fixed}
    return (*fixed, *(budget for budget in added if budget.key not in keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a call needs of its budgets.

    Attributes:
        most_nusd: The most that it can cost.
        least_nusd: What it can cost at most where it may have as few tokens as are still worth a call.
        input_tokens, max_tokens: At most.
        cause: Which model it is about, for messages.
    """

    uses: tuple[Use, ...]
    model: str
    input_tokens: int
    max_tokens: int
    most_nusd: int
    least_nusd: int


class Spending:
    """What calls of models take of the budgets.

    Attributes:
        budgets: Those that hold now.
    """

    def __init__(self, settings: Settings, prices: Prices) -> None:
        self.fixed = fixed_budgets(settings)
        self.budgets: tuple[Budget, ...] = self.fixed
        self._prices = prices
        self._settings = settings.spending

    def take(self, added: Sequence[Budget]) -> None:
        """Have those hold that were set, beside those of the file."""
        self.budgets = merged(self.fixed, added)

    def want(self, payer: Payer, *, input_tokens: int, max_tokens: int, now_ms: int) -> Wanted | None:
        """Return what a call needs; None where no budget is touched, or it costs nothing.

        Raises:
            BudgetExceeded: The model's price is not known, and no ceiling is set for that.
        """
        uses = uses_of(self.budgets, payer, now_ms)
        if not uses:
            return None
        model = payer.model
        most = self._most(model, input_tokens, max_tokens)
        if most is None:
            raise BudgetExceeded(
                f"the price of {model} is not known, and a budget holds here: an administrator has to set "
                "[prices] or [spending] in legato.toml"
            )
        if most == 0:
            return None
        least = self._most(model, input_tokens, min(max_tokens, self._settings.least_tokens))
        assert least is not None
        return Wanted(
            uses=uses,
            model=model,
            input_tokens=input_tokens,
            max_tokens=max_tokens,
            most_nusd=most,
            least_nusd=least,
        )

    def tokens_for(self, wanted: Wanted, amount_nusd: int) -> int:
        """Return how many tokens of output an amount pays for, `wanted.max_tokens` at most."""
        if amount_nusd >= wanted.most_nusd:
            return wanted.max_tokens
        # The cost grows with each token; prices are per million, so a few looks find the last that is paid for.
        low, high = 0, wanted.max_tokens
        while low < high:
            middle = (low + high + 1) // 2
            cost = self._most(wanted.model, wanted.input_tokens, middle)
            low, high = (middle, high) if cost is not None and cost <= amount_nusd else (low, middle - 1)
        return low

    def cost_nusd(self, event: UsageReported) -> int:
        """Return what a call that is over takes of its budgets: its cost, or the ceiling where that is not known."""
        usd = parse_usd(event.cost)
        if usd is not None:
            return to_nusd(usd)
        ceiling = self._settings.unknown_million_usd
        if ceiling is not None and event.input_tokens is not None and event.output_tokens is not None:
            return _of_million(ceiling, event.input_tokens + event.output_tokens)
        call = self._settings.unknown_call_usd
        return 0 if call is None else to_nusd(call)

    def _most(self, model: str, input_tokens: int, output_tokens: int) -> int | None:
        known = self._prices.most_nusd(model, input_tokens=input_tokens, output_tokens=output_tokens)
        if known is not None:
            return known
        if self._settings.unknown_million_usd is not None:
            return _of_million(self._settings.unknown_million_usd, input_tokens + output_tokens)
        return None if self._settings.unknown_call_usd is None else to_nusd(self._settings.unknown_call_usd)


def exceeded(reserved: Reserved, wanted: Wanted, now_ms: int) -> BudgetExceeded:
    """Return the error of a call for which too little is left: which budget, and when to come again."""
    spent = spent_rooms(reserved, wanted)
    if not spent:
        room = min(reserved.rooms, key=lambda room: room.left_nusd)
        return BudgetExceeded(
            f"{room.use.budget.words} is used up by the replies that are being made: try again when one has ended",
            BUSY_S,
        )
    # The one that is the last to begin anew.
    room = max(spent, key=lambda room: room.use.until_ms or 2**62)
    until_ms = room.use.until_ms
    is_out = room.spent_nusd >= room.use.budget.limit_nusd
    what = f"{room.use.budget.words} {'is spent' if is_out else 'has too little left for this'}"
    if until_ms is None:
        return BudgetExceeded(f"{what}, and does not begin anew: ask an administrator")
    at = datetime.fromtimestamp(until_ms / 1000, UTC)
    return BudgetExceeded(
        f"{what}: it begins anew at {at:%Y-%m-%dT%H:%M:%SZ}",
        max(1.0, (until_ms - now_ms) / 1000),
    )


def spent_rooms(reserved: Reserved, wanted: Wanted) -> list[Room]:
    """Return those budgets that would have too little even if all that is reserved came back."""
    return [room for room in reserved.rooms if room.use.budget.limit_nusd - room.spent_nusd < wanted.least_nusd]


def _of_million(usd: Decimal, tokens: int) -> int:
    return int((usd * tokens / 1_000_000 * NUSD_A_USD).to_integral_value(rounding=ROUND_CEILING))

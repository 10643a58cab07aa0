"""Prices from genai-prices: the list that comes with it, which nothing here ever updates.

Its import takes a fifth of a second and 20 MB, so that it is imported only where a model's server may be in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from legato.core.money import ZERO
from legato.policies.prices import Price, Rates, spellings

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice


def may_be_listed(base_url: str) -> bool:
    """Return whether a server can be one whose prices are listed: none of this machine or of a private network is."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal", ".lan"))


def find_price(model: str, base_url: str) -> Price | None:
    """Return the price of a model at a server; None where the list has not got it.

    Args:
        model: By the server's name: `gpt-5-mini`, `openai/gpt-5-mini`, `gpt-5-mini-2025-08-07`.
        base_url: Of the server, which says whose prices hold.
    """
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        provider = snapshot.find_provider(None, None, base_url)
    except LookupError:
        return None
    maker, _, bare = model.partition("/")
    for name in spellings(model, *([bare] if bare and maker.lower() == provider.id else [])):
        if (found := provider.find_model(name, all_providers=snapshot.providers)) is not None:
            price = ListedPrice(found, source=f"genai-prices: {provider.id}/{found.id}")
            # Models of speech and pictures are charged by other things than tokens.
            return price if price.is_whole else None
    return None


class ListedPrice:
    """A price of the list, which may change at a date, by the hour, and with how much a model is given."""

    def __init__(self, model: ModelInfo, *, source: str) -> None:
        self._model = model
        self.source = source

    @property
    def is_whole(self) -> bool:
        """Whether input and output have a price."""
        return all(price.input_mtok is not None and price.output_mtok is not None for price in self._all())

    def rates(self, input_tokens: int, at: datetime) -> Rates:
        return _rates(self._model.get_prices(at), [input_tokens])

    def highest(self, input_tokens: int, at: datetime) -> Iterable[Rates]:
        return [_rates(price, range(input_tokens + 1)) for price in [self._model.get_prices(at), *self._by_hour()]]

    def _all(self) -> Sequence[ModelPrice]:
        prices: Any = self._model.prices
        return [each.prices for each in prices] if isinstance(prices, list) else [prices]

    def _by_hour(self) -> Sequence[ModelPrice]:
        """Return the prices that hold at some hours: a call may begin in one and end in another."""
        from genai_prices.types import TimeOfDateConstraint

        prices: Any = self._model.prices
        if not isinstance(prices, list):
            return []
        return [each.prices for each in prices if isinstance(each.constraint, TimeOfDateConstraint)]


def _rates(price: ModelPrice, inputs: Sequence[int]) -> Rates:
    """Return a price for calls that are given so many tokens: one number, or a range of which the highest is taken."""
    given, made = _rate(price.input_mtok, inputs), _rate(price.output_mtok, inputs)
    assert given is not None
    assert made is not None
    cached, reasoning = _rate(price.cache_read_mtok, inputs), _rate(price.output_reasoning_mtok, inputs)
    calls = _rate(price.requests_kcount, inputs)
    return Rates(
        input=given,
        cached_input=given if cached is None else cached,
        output=made,
        reasoning=made if reasoning is None else reasoning,
        call=ZERO if calls is None else calls / 1000,
    )


def _rate(price: Any, inputs: Sequence[int]) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    # Beyond a threshold all tokens have another price, not only those beyond it.
    steps = [(-1, price.base), *((tier.start, tier.price) for tier in price.tiers)]
    reached = [rate for start, rate in steps if inputs[-1] > start]
    found: Decimal = reached[-1] if len(inputs) == 1 else max(reached)
    return found

"""What tokens cost: from legato.toml, from the list of prices, and where nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from legato.adapters import create_models, create_prices
from legato.core.errors import ConfigurationError
from legato.core.usage import Usage
from legato.policies.price_list import find_price, may_be_listed
from legato.policies.prices import FixedPrice, Prices, Rates
from legato.settings import Settings, load_settings

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RATES = Rates(input=Decimal(2), cached_input=Decimal("0.5"), output=Decimal(8), reasoning=Decimal(4))
OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(input_tokens=0, output_tokens=0), "0"),
        (Usage(input_tokens=1_000_000, output_tokens=0), "2"),
        (Usage(input_tokens=0, output_tokens=1_000_000), "8"),
        # Cached tokens are part of the input: 900 at 2 and 100 at 0.5.
        (Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=100), "0.00185"),
        (Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=1000), "0.0005"),
        # Reasoning is part of the output: 30 at 8 and 70 at 4.
        (Usage(input_tokens=0, output_tokens=100, reasoning_tokens=70), "0.00052"),
        (Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=100, reasoning_tokens=70), "0.00237"),
        # More of a part than of the whole is all of it.
        (Usage(input_tokens=10, output_tokens=10, cache_read_tokens=99, reasoning_tokens=99), "0.000045"),
        (Usage(input_tokens=1, output_tokens=0, cache_read_tokens=1), "0.0000005"),
    ],
)
def test_no_token_is_charged_twice(usage: Usage, usd: str) -> None:
    """Each token has one rate, and the sum is exact."""
    assert RATES.cost(usage) == Decimal(usd)


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=1), Usage(output_tokens=1)])
def test_unknown_tokens_have_an_unknown_cost(usage: Usage) -> None:
    """What is not known costs None, not 0."""
    assert RATES.cost(usage) is None


def test_the_most_that_a_call_can_cost_is_never_less_than_what_it_costs() -> None:
    """However the tokens are split, and in whole billionths rounded up."""
    prices = Prices({"m": FixedPrice(held=RATES, source="legato.toml")}, now=lambda: NOW)
    most = prices.most_nusd("m", input_tokens=7, output_tokens=3)
    assert most == (7 * 2 + 3 * 8) * 1000
    for cached in range(8):
        for reasoning in range(4):
            usage = Usage(input_tokens=7, output_tokens=3, cache_read_tokens=cached, reasoning_tokens=reasoning)
            cost = prices.cost("m", usage)
            assert cost is not None
            assert cost * 10**9 <= most
    tiny = Rates(input=Decimal("0.0001"), cached_input=Decimal(0), output=Decimal(0), reasoning=Decimal(0))
    assert Prices({"m": FixedPrice(held=tiny, source="")}).most_nusd("m", input_tokens=1, output_tokens=0) == 1
    assert prices.most_nusd("other", input_tokens=1, output_tokens=1) is None
    assert prices.cost("other", Usage(input_tokens=0, output_tokens=0)) is None


@pytest.mark.parametrize(
    ("model", "base_url", "source"),
    [
        ("gpt-5-mini", OPENAI, "openai/gpt-5-mini"),
        ("GPT-5-mini", OPENAI, "openai/gpt-5-mini"),
        ("gpt-5-mini-2025-08-07", OPENAI, "openai/gpt-5-mini"),
        ("gpt-5-mini-20250807", OPENAI, "openai/gpt-5-mini"),
        ("gpt-5-mini-2031-02-03", OPENAI, "openai/gpt-5-mini"),
        ("openai/gpt-5-mini", OPENAI, "openai/gpt-5-mini"),
        ("openai/gpt-5-mini", "https://openrouter.ai/api/v1", "openrouter/openai/gpt-5-mini"),
        ("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai", "google/gemini-2.5-pro"),
        ("no-such-model", OPENAI, None),
        ("meta/gpt-5-mini", OPENAI, None),
        # What is charged by the minute has no price by the token.
        ("whisper-1", OPENAI, None),
        ("gpt-5-mini", "https://llm.example.com/v1", None),
    ],
)
def test_a_price_is_listed_by_the_servers_address(model: str, base_url: str, source: str | None) -> None:
    """The address says whose prices hold; names are taken as they are used in the wild."""
    price = find_price(model, base_url)
    assert (price.source if price else None) == (f"genai-prices: {source}" if source else None)


@pytest.mark.parametrize(
    ("base_url", "may_be"),
    [
        (OPENAI, True),
        ("https://8.8.8.8/v1", True),
        ("http://localhost:11434/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://[::1]:8000/v1", False),
        ("http://192.168.1.7/v1", False),
        ("http://vllm:8000/v1", False),
        ("http://gpu.internal/v1", False),
    ],
)
def test_local_servers_are_in_no_list(base_url: str, may_be: bool) -> None:
    """Of a server of one's own nobody knows the price; the list is not even loaded for it."""
    assert may_be_listed(base_url) is may_be


def test_a_price_of_the_list_may_have_steps() -> None:
    """Beyond the threshold all tokens have the higher rate, and the highest is reserved by it."""
    price = find_price("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai")
    assert price is not None
    low, high = price.rates(200_000, NOW), price.rates(200_001, NOW)
    assert high.input > low.input
    assert high.output > low.output
    assert [each.input for each in price.highest(300_000, NOW)] == [high.input]
    assert [each.input for each in price.highest(10, NOW)] == [low.input]


def test_the_list_knows_reasoning_and_cached_input() -> None:
    """Cached input is cheaper, and what has no rate of its own is charged as the rest."""
    price = find_price("gpt-5-mini", OPENAI)
    assert price is not None
    rates = price.rates(1000, NOW)
    assert 0 < rates.cached_input < rates.input
    assert rates.reasoning == rates.output


TOML = """
model = ["cheap", "local", "listed", "plain"]

[models.cheap]
model = "openai/gpt-5-mini-2025-08-07"
base_url = "https://api.openai.com/v1"

[models.local]
model = "llama3.3"
base_url = "http://localhost:11434/v1"

[models.listed]
model = "gpt-5-mini"
base_url = "https://api.openai.com/v1"

[models.plain]
provider = "scripted"

[models.inside]
provider = "embedded"

[prices."openai/gpt-5-mini"]
input = 1
output = "2.50"

[prices.local]
input = 0
output = 0.1
cached_input = 0
reasoning = 0.2
"""


def priced(tmp_path: Path, toml: str = TOML) -> Prices:
    (tmp_path / "legato.toml").write_text(toml)
    settings = load_settings(tmp_path)
    return create_prices(settings, create_models(settings).providers)


def test_what_is_configured_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the model's name here or at its server, dated or not; then the list; the embedded model is known to be free;
    of the others nobody knows."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.chdir(tmp_path)
    prices = priced(tmp_path)
    thousand = Usage(input_tokens=1000, output_tokens=1000, cache_read_tokens=500, reasoning_tokens=500)
    assert {name: prices.cost(name, thousand) for name in ("cheap", "local", "inside", "plain")} == {
        "cheap": Decimal("0.0035"),
        "local": Decimal("0.00015"),
        "inside": Decimal(0),
        "plain": None,
    }
    assert prices.missing(["cheap", "local", "listed", "inside", "plain"]) == ["plain"]
    sources = {name: price.source for name in ("cheap", "listed", "inside") if (price := prices.price_of(name))}
    assert sources == {"cheap": "legato.toml", "listed": "genai-prices: openai/gpt-5-mini", "inside": "embedded"}


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("input = -1\noutput = 1", "greater than or equal to 0"),
        ("input = nan\noutput = 1", "finite"),
        ("input = 1\noutput = inf", "finite"),
        ("input = 1", "output"),
        ("input = 1\noutput = 1e9", "less than or equal"),
        ("input = 1\noutput = 1\ncached = 1", "extra inputs"),
    ],
)
def test_a_wrong_price_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, fault: str) -> None:
    """Never negative, never infinite, no number that is none, and no field that nobody knows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legato.toml").write_text(f'[prices."gpt-5-mini"]\n{table}\n')
    with pytest.raises(ConfigurationError, match=fault):
        load_settings(tmp_path)


def test_settings_without_prices_load_no_list() -> None:
    """A server with the embedded model alone has nothing to look up."""
    settings = Settings(model=["scripted"])
    assert create_prices(settings, create_models(settings).providers).price_of("scripted") is None

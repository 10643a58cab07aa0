"""Tokens are counted by the model's own tokenizer, or not at all."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest

from legato.providers.openai import OpenAIProvider
from legato.providers.tokens import TokenCounter, encoding_for


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5.1-mini", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("openai/gpt-oss-20b", "o200k_harmony"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen3"),
        ("qwen3:8b", "qwen3"),
        ("meta-llama/Llama-3.1-8B", "llama3"),
        ("llama3.2", "llama3"),
        ("llama-4-scout", None),
        ("gpt-40", None),
        ("gpt-4.2", None),
        ("qwen3.5-9b", None),
        ("o11y", None),
        ("mistral-small", None),
        ("", None),
    ],
)
def test_a_model_has_the_encoding_of_its_maker(model: str, encoding: str | None) -> None:
    """What is not known for certain is None: a wrong count is worse than an estimate."""
    assert encoding_for(model) == encoding


class Library(SimpleNamespace):
    """Stands for the optional package: counts characters, and how often it was loaded."""

    def __init__(self) -> None:
        super().__init__(loads=[])

    def get_encoding(self, name: str) -> SimpleNamespace:
        self.loads.append(name)
        return SimpleNamespace(count=lambda text: len(text.encode()))


async def test_a_tokenizer_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that come at the same time share one load; long and odd texts are counted, too."""
    library = Library()
    monkeypatch.setitem(sys.modules, "quicktok", library)
    counter = TokenCounter("gpt-4o")
    assert await asyncio.gather(*map(counter.count, ["", "a", "añ", "a\ud800"])) == [0, 1, 3, 2]
    assert await counter.count("x" * 100_000) == 100_000
    assert library.loads == ["o200k_base"]


async def test_without_the_package_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional; its absence is found out once and is no error."""
    monkeypatch.setitem(sys.modules, "quicktok", None)
    counter = TokenCounter("gpt-4o")
    assert await asyncio.gather(*map(counter.count, ["a", "b"])) == [None, None]
    assert await counter.count("hello") is None


async def test_the_provider_counts_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's name for the model decides, not the one in the settings."""
    monkeypatch.setitem(sys.modules, "quicktok", Library())
    known = OpenAIProvider("mine", model="gpt-4o", base_url="http://model.test")
    unknown = OpenAIProvider("gpt-4o", model="mine", base_url="http://model.test")
    assert await known.count_tokens("hello") == 5
    assert await unknown.count_tokens("hello") is None

"""Words of texts, what queries ask for, and the pieces of texts that are shown."""

from __future__ import annotations

import pytest

from legato.core.search_text import (
    MATCH_BEGIN,
    MATCH_END,
    MAX_PHRASE_WORDS,
    MAX_PHRASES,
    MAX_WORD_CHARS,
    SNIPPET_CHARS,
    Phrase,
    phrases_of,
    snippet_of,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The quick_brown fox's 42", ["the", "quick", "brown", "fox", "s", "42"]),
        ("Müller STRASSE Straße", ["muller", "strasse", "strasse"]),
        ("Mu\u0308ller Ünïcödé Čapek Ёлка", ["muller", "unicode", "capek", "елка"]),
        ("ﬁsh ＷＩＤＥ １２", ["fish", "wide", "12"]),
        ("我喜欢猫and dogs", ["我", "喜", "欢", "猫", "and", "dogs"]),
        ("がぎ ﾊﾝｶｸ", ["が", "ぎ", "ハ", "ン", "カ", "ク"]),
        ("한국어", ["한", "국", "어"]),
        ("हिन्दी।", ["हिन्दी"]),
        ("שָׁלוֹם", ["שלום"]),
        ("x" * 100, ["x" * MAX_WORD_CHARS]),
        ("\x00 — “” ·", []),
    ],
)
def test_words_are_compared_without_case_accents_and_width(text: str, words: list[str]) -> None:
    """What people write in different ways is one word; scripts without spaces are taken by the character."""
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("Dat", [Phrase(words=("dat",), prefix=True)]),
        ("Grüne Bäume", [Phrase(words=("grune",), prefix=True), Phrase(words=("baume",), prefix=True)]),
        ('"Grüne Bäu"', [Phrase(words=("grune", "bau"), prefix=False)]),
        ("喜欢", [Phrase(words=("喜", "欢"), prefix=False)]),
        ("foo-bar", [Phrase(words=("foo", "bar"), prefix=True)]),
        ("x x X", [Phrase(words=("x",), prefix=False)]),
        ('" ? * AND', [Phrase(words=("and",), prefix=True)]),
        ("?!", []),
    ],
)
def test_a_query_is_beginnings_of_words_and_phrases(query: str, phrases: list[Phrase]) -> None:
    """Nothing that is typed is an operator."""
    assert phrases_of(query) == phrases


def test_a_query_asks_for_so_much_and_no_more() -> None:
    """However long it is."""
    assert len(phrases_of(" ".join(f"w{number}" for number in range(100)))) == MAX_PHRASES
    assert len(phrases_of("好" * 100)[0].words) == MAX_PHRASE_WORDS


def shown(text: str, query: str) -> str:
    return snippet_of(text, phrases_of(query)).replace(MATCH_BEGIN, "[").replace(MATCH_END, "]")


@pytest.mark.parametrize(
    ("text", "query", "snippet"),
    [
        ("Herr Müller\n wohnt hier", "muller", "Herr [Müller] wohnt hier"),
        ("Herr Mu\u0308ller", "müll", "Herr [Müller]"),
        ("今天我喜欢猫,你喜欢狗", "喜欢", "今天我[喜欢]猫,你[喜欢]狗"),
        ("喜 alone", "喜欢", "喜 alone"),
        ("New York, new yorkers", '"new york"', "[New York], new yorkers"),
        ("data: Datenbank data", "dat", "[data]: [Datenbank] [data]"),
        ("nothing", "x", "nothing"),
        (f"{MATCH_BEGIN}a{MATCH_END} bc", "bc", "a [bc]"),
    ],
)
def test_a_snippet_marks_what_was_found(text: str, query: str, snippet: str) -> None:
    """As it was written, on one line; marks of its own are none."""
    assert shown(text, query) == snippet


def test_a_snippet_of_a_long_text_is_the_piece_around_the_match() -> None:
    """It begins and ends at words, and says that there is more."""
    piece = shown("eins zwei drei " * 100 + "Zielwort " + "vier fünf " * 100, "ziel")
    assert piece.startswith("…")
    assert piece.endswith("…")
    assert "[Zielwort]" in piece
    assert len(piece) <= SNIPPET_CHARS + 4
    assert set(piece.strip("…").split()) <= {"eins", "zwei", "drei", "[Zielwort]", "vier", "fünf"}
    assert shown("好" * 5000 + "目标" + "好" * 5000, "目标").count("[目标]") == 1

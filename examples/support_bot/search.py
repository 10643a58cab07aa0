"""The handbook as passages, found by SQLite's full-text search and ranked by BM25: nothing to install or to build."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TITLE_WEIGHT = 3.0
"""A word in a heading counts for as much as three in the text."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One section of a page.

    Attributes:
        source: What is cited: page and section, such as `battery.md#low-battery`.
    """

    source: str
    title: str
    text: str


class Handbook:
    """All Markdown pages of a folder, cut at their headings."""

    def __init__(self, folder: Path) -> None:
        passages = [passage for page in sorted(folder.glob("*.md")) for passage in _sections(page)]
        self.sources = frozenset(passage.source for passage in passages)
        # The server's thread is not always the one that imports this.
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(
            "CREATE VIRTUAL TABLE passage USING fts5(source UNINDEXED, title, text, tokenize='porter unicode61')"
        )
        self._index.executemany(
            "INSERT INTO passage VALUES (?, ?, ?)", [(each.source, each.title, each.text) for each in passages]
        )

    def search(self, query: str, limit: int) -> list[Passage]:
        """Return the passages that fit best, the best first; any of the words may be in them."""
        words = re.findall(r"\w+", query)
        rows = self._index.execute(
            "SELECT source, title, text FROM passage WHERE passage MATCH ? ORDER BY bm25(passage, 0, ?, 1) LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words) or '""', _TITLE_WEIGHT, limit),
        )
        return [Passage(*row) for row in rows]


def _sections(page: Path) -> Iterator[Passage]:
    head, *sections = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    of_page = head.strip().removeprefix("# ")
    for section in sections:
        title, _, text = section.partition("\n")
        anchor = re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))
        yield Passage(f"{page.name}#{anchor}", f"{of_page}: {title}", " ".join(text.split()))

"""The few forms of Markdown that reference pages are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

DASH = "–"
"""Stands in a cell that has nothing to say."""


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells may hold Markdown, but no line end counts."""
    lines = [list(heading), ["---"] * len(heading), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(text: object) -> str:
    """Return `text` as code inside a line."""
    return f"`{text}`"


def docstring(thing: object) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(inspect.cleandoc(getattr(thing, "__doc__", None) or "").split("\n\n")[0].split())


def fence(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def _cell(text: str) -> str:
    # A bar ends a cell even inside code.
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split())) or DASH

"""Makes docs/reference/ from the code: `python -m docs.generate`, or `--check` to see whether a page has drifted.

The pages are functions of the code alone: no clock, no environment, no width of a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.from_code import cli, errors, events, http, run_states, settings, steps, topics

REFERENCE: Final = Path(__file__).parent / "reference"
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "errors.md": errors.render,
    "settings.md": settings.render,
    "events.md": events.render,
    "run-states.md": run_states.render,
    "cli.md": cli.render,
    "http.md": http.render,
    "steps.md": steps.render,
    "topics.md": topics.render,
}
NOTE: Final = "<!-- Made from {source} by `make docs`: edit that, not this page. -->\n\n"
SOURCES: Final[Mapping[str, str]] = {
    "errors.md": "src/legato/core/errors.py",
    "settings.md": "src/legato/settings.py",
    "events.md": "src/legato/core/event.py and src/legato/wire/native.py",
    "run-states.md": "src/legato/core/run.py",
    "cli.md": "src/legato/cli/",
    "http.md": "src/legato/http/ and src/legato/steps/builtin/",
    "steps.md": "the docstrings of what legato/__init__.py exports",
    "topics.md": "src/legato/steps/payloads.py",
}


def render(name: str) -> str:
    """Return a page as it should be."""
    return NOTE.format(source=SOURCES[name]) + PAGES[name]()


def drifted(folder: Path = REFERENCE) -> list[str]:
    """Return the names of the pages that are not as the code says."""
    return [
        name for name in PAGES if not (folder / name).is_file() or (folder / name).read_text("utf-8") != render(name)
    ]


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` compare them; return the exit code."""
    if arguments == ["--check"]:
        found = drifted()
        for name in found:
            print(f"docs/reference/{name} is not what the code says: run make docs", file=sys.stderr)
        return 1 if found else 0
    if arguments:
        print("usage: python -m docs.generate [--check]", file=sys.stderr)
        return 2
    REFERENCE.mkdir(exist_ok=True)
    for name in drifted():
        (REFERENCE / name).write_text(render(name), "utf-8")
        print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

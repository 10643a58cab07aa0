"""Makes docs/reference/ and the table in docs/security.md from the code: `python -m docs.generate`.

With `--check` it says whether a page has drifted.

The pages are functions of the code alone: no clock, no environment, no width of a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.from_code import access, cli, errors, events, http, run_states, settings, steps, topics

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
    "errors.md": "src/legato/core/errors.py and run_errors.py",
    "settings.md": "src/legato/settings.py",
    "events.md": "src/legato/core/event.py and src/legato/wire/native.py",
    "run-states.md": "src/legato/core/run.py",
    "cli.md": "src/legato/cli/",
    "http.md": "src/legato/http/ and src/legato/steps/builtin/",
    "steps.md": "the docstrings of what legato/__init__.py exports",
    "topics.md": "src/legato/steps/payloads.py",
}


SECTIONS: Final[Mapping[str, Callable[[], str]]] = {"security.md": access.render}
"""Pages that are written by hand but for what stands between the two marks."""
BEGIN: Final = "<!-- Made from src/legato/http/roles.py by `make docs`. -->\n\n"
END: Final = "\n<!-- Until here. -->"


def with_section(name: str, text: str) -> str:
    """Return a page with its section as it should be."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/{name} has lost the marks of its section")
    return before + begin + SECTIONS[name]() + end + after


def stale_sections() -> list[str]:
    """Return the names of pages whose section is not as the code says."""
    pages = {name: (REFERENCE.parent / name).read_text("utf-8") for name in SECTIONS}
    return [name for name, text in pages.items() if with_section(name, text) != text]


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
        stale = stale_sections()
        for name in stale:
            print(f"docs/{name} is not what the code says: run make docs", file=sys.stderr)
        return 1 if found or stale else 0
    if arguments:
        print("usage: python -m docs.generate [--check]", file=sys.stderr)
        return 2
    REFERENCE.mkdir(exist_ok=True)
    for name in drifted():
        (REFERENCE / name).write_text(render(name), "utf-8")
        print(f"docs/reference/{name}")
    for name in stale_sections():
        page = REFERENCE.parent / name
        page.write_text(with_section(name, page.read_text("utf-8")), "utf-8")
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Patches: unified diffs with a head that names the promise they break and the tests that must notice.

    promise: A cursor is exclusive
    tests: tests/faults/test_faults.py::test_…
    --- a/src/legato/runs/tail.py
    +++ b/src/legato/runs/tail.py
    @@ … @@

A hunk is found by its lines, not by its number: a patch goes stale only when the lines that it is about change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class StalePatch(Exception):
    """A hunk's lines stand no longer, or no longer only once, in its file."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines of a file, and what they become."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    promise: str
    tests: tuple[str, ...]
    hunks: tuple[Hunk, ...]

    def apply(self, root: Path) -> None:
        """Plant the bug in the tree below `root`.

        Raises:
            StalePatch: It does not fit the tree.
        """
        for hunk in self.hunks:
            file = root / hunk.path
            text = file.read_text("utf-8")
            if (times := text.count(hunk.before)) != 1:
                raise StalePatch(f"{self.name}: its lines stand {times} times in {hunk.path}, not once")
            file.write_text(text.replace(hunk.before, hunk.after), "utf-8")


def read_mutants(folder: Path) -> list[Mutant]:
    """Return the mutants of all patches in `folder`, by name."""
    return [_parse(path) for path in sorted(folder.glob("*.patch"))]


def _parse(path: Path) -> Mutant:
    head: dict[str, str] = {}
    hunks: list[Hunk] = []
    file = ""
    before: list[str] = []
    after: list[str] = []

    def close() -> None:
        if before or after:
            hunks.append(Hunk(file, "".join(before), "".join(after)))
            before.clear()
            after.clear()

    for line in path.read_text("utf-8").splitlines(keepends=True):
        if line.startswith("+++ b/"):
            file = line[6:].strip()
        elif line.startswith(("--- a/", "@@")):
            close()
        elif not file:
            name, _, value = line.partition(": ")
            head[name] = value.strip()
        elif line[0] in " -+":
            if line[0] != "+":
                before.append(line[1:])
            if line[0] != "-":
                after.append(line[1:])
    close()
    return Mutant(path.stem, head["promise"], tuple(head["tests"].split()), tuple(hunks))

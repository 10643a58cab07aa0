"""A place in a run's log: `<run>.<epoch>.<seq>`, as it stands in every `id:` line."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"([0-9a-z-]{1,64})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """`seq` of the last event that a reader has; `epoch` in which that event was written."""

    run_id: str
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.run_id}.{self.epoch}.{self.seq}"


def parse_cursor(text: str) -> Cursor | None:
    """Return the cursor that `text` spells, or None where it spells none."""
    match = _PATTERN.fullmatch(text)
    return Cursor(match[1], int(match[2]), int(match[3])) if match else None

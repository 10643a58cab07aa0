"""One thing that `legato doctor` looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "wrong", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found. `wrong` keeps the server from starting or answering; `note` does not."""

    name: str
    state: State
    found: str
    mend: str | None = None

"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["admin", "member"]
"""What a key can be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The owner of rows: every query names its id.

    Attributes:
        role: `app` is the server itself, which alone may look after the rows of all owners; no key has it.
    """

    id: str
    role: Role | Literal["app"]


LOCAL: Final = Principal(id="local", role="admin")
"""The one principal of a server without authentication, which serves loopback only."""
APP: Final = Principal(id="app", role="app")
"""The server itself, in what it does on nobody's behalf."""

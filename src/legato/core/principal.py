"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["admin", "member"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The owner of rows: every query names its id."""

    id: str
    role: Role


LOCAL = Principal(id="local", role="admin")
"""The one principal of a server without authentication, which serves loopback only."""

"""Who may use which route: the table of http.roles, as docs/security.md shows it."""

from __future__ import annotations

from typing import Final

from docs.from_code.markdown import DASH, table
from legato.http.roles import ROUTES, Access

_COLUMNS: Final = ("route", "nobody", "visitor", "member", "admin")
_CELLS: Final[dict[Access, tuple[str, str, str, str]]] = {
    "everybody": ("yes", "yes", "yes", "yes"),
    "page": ("pages of this server", "pages of this server", "pages of this server", "pages of this server"),
    "widget": ("publishable keys alone", DASH, DASH, DASH),
    "visitor": (DASH, "own", "own", "own"),
    "member": (DASH, DASH, "own", "own"),
    "admin": (DASH, DASH, DASH, "all owners"),
}


def render() -> str:
    """Return the table, one row a route."""
    return table(_COLUMNS, [(f"`{route.replace(':path}', '}')}`", *_CELLS[access]) for route, access in ROUTES.items()])

"""Which routes are open to everybody, and which to the visitors of a widget. All others want a key or a sign-in.

Pure. docs/security.md has the table of routes and roles; tests/integration/test_widget.py walks through it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from legato.core.errors import Forbidden
from legato.core.principal import Principal, Via

READS: Final = frozenset(("GET", "HEAD"))
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_FILES: Final = frozenset(("/", "/admin", "/widget", "/widget.js", "/favicon.ico"))
_OPEN_POSTS: Final = frozenset(("/sign-in", "/sign-out"))
VISITORS: Final = "/widget/visitors"
_SETTINGS: Final = ("system_prompt", "model", "temperature", "max_tokens")

_PART: Final = "[^/]+"
# Routed with SLASH (http.guard) for a slash inside a part.
_OF_VISITORS: Final[dict[str, re.Pattern[str]]] = {
    "GET": re.compile(rf"/me|/chat/stream/{_PART}|/runs/{_PART}|/conversations(/{_PART}(/messages)?)?"),
    "POST": re.compile(rf"/chat/stream(/{_PART}/stop)?|/messages/{_PART}/regenerate"),
    "PUT": re.compile(rf"/messages/{_PART}/feedback"),
}


def is_open(method: str, path: str) -> bool:
    """Whether a route wants no credential: the page's files, and the door to sign in and out by."""
    if method in READS:
        return path in _FILES or path.startswith("/assets/") or (path.startswith("/c/") and path.count("/") == 2)
    return method == "POST" and path in _OPEN_POSTS


def may_call(via: Via, method: str, path: str) -> bool:
    """Whether a caller from a widget may use a route: a visitor chats, a publishable key makes visitors."""
    if via == "widget":
        return method == "POST" and path == VISITORS
    pattern = _OF_VISITORS.get("GET" if method == "HEAD" else method)
    return pattern is not None and pattern.fullmatch(path) is not None


def check_settings(principal: Principal, given: Collection[str]) -> None:
    """Refuse a visitor's own settings of a reply: the owner of the server pays for it, and answers for it.

    Args:
        given: Names of the fields of the body that were given.

    Raises:
        Forbidden: A visitor gave one; names it.
    """
    if principal.role == "visitor":
        for name in _SETTINGS:
            if name in given:
                raise Forbidden(f"a visitor of a widget may not choose {name}: leave it out")

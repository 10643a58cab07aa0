"""Who may use which route: one table. What is not in it wants a key or a sign-in, and is nothing for visitors.

Pure. docs/security.md shows the table (docs/from_code/access.py makes it); tests/integration/test_access_table.py walks
through the routes of the application, and finds one that is missing here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal

from legato.core.errors import Forbidden
from legato.core.principal import Principal, Via

READS: Final = frozenset(("GET", "HEAD"))
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_SETTINGS: Final = ("system_prompt", "model", "temperature", "max_tokens")

Access = Literal["everybody", "page", "widget", "visitor", "member", "admin"]
"""`everybody`: no credential is looked at. `page`: the same, but it must be a page of this server that asks, or a
browser on its way. `widget`: publishable keys alone. `visitor`: everybody who is known, of what is their own.
`member`: who has a secret key or an account, of what is their own. `admin`: of all owners."""

ROUTES: Final[Mapping[str, Access]] = {
    # The page and its files.
    "GET /": "everybody",
    "GET /c/{conversation_id}": "everybody",
    "GET /admin": "everybody",
    "GET /widget": "everybody",
    "GET /widget.js": "everybody",
    "GET /favicon.ico": "everybody",
    "GET /assets/{path:path}": "everybody",
    # Monitoring.
    "GET /health/live": "everybody",
    "GET /health/ready": "everybody",
    "GET /metrics": "admin",
    # Coming in and going out.
    "GET /sign-in": "everybody",
    "POST /sign-in": "page",
    "POST /sign-in/issuer": "page",
    "GET /sign-in/issuer/callback": "page",
    "POST /sign-out": "page",
    "POST /widget/visitors": "widget",
    # Oneself.
    "GET /me": "visitor",
    "DELETE /me": "member",
    "GET /me/export": "member",
    "GET /me/retention": "member",
    "PUT /me/retention": "member",
    "PUT /me/password": "member",
    "GET /me/sessions": "member",
    "DELETE /me/sessions": "member",
    "DELETE /me/sessions/{session_id}": "member",
    # Chat.
    "POST /chat/stream": "visitor",
    "GET /chat/stream/{run_id}": "visitor",
    "POST /chat/stream/{run_id}/stop": "visitor",
    "POST /chat/stream/{run_id}/approvals/{call_id:path}": "member",
    "GET /runs/{run_id}": "visitor",
    "POST /messages/{message_id}/regenerate": "visitor",
    "PUT /messages/{message_id}/feedback": "visitor",
    # Conversations.
    "GET /conversations": "visitor",
    "POST /conversations": "member",
    "POST /conversations/import": "member",
    "GET /conversations/{conversation_id}": "visitor",
    "PATCH /conversations/{conversation_id}": "member",
    "DELETE /conversations/{conversation_id}": "member",
    "GET /conversations/{conversation_id}/messages": "visitor",
    "GET /conversations/{conversation_id}/export": "member",
    "POST /conversations/{conversation_id}/fork": "member",
    "GET /search": "member",
    # The steps that come with the server; those of a bot are as these.
    "GET /messages": "member",
    "GET /analytics": "member",
    "GET /session-stats/{session_id}": "member",
    # What it has cost: oneself; an admin sees that of all.
    "GET /usage": "member",
    # The server.
    "GET /models": "member",
    "GET /openapi.json": "member",
    "GET /admin/audit": "admin",
    "GET /admin/audit/export": "admin",
    "GET /admin/audit/verify": "admin",
    "GET /admin/principals/{owner}": "admin",
    "DELETE /admin/principals/{owner}": "admin",
    "PUT /admin/principals/{owner}/retention": "admin",
    "PUT /admin/principals/{owner}/hold": "admin",
    "DELETE /admin/principals/{owner}/hold": "admin",
    "PUT /admin/principals/{owner}/conversations/{conversation_id}/hold": "admin",
    "DELETE /admin/principals/{owner}/conversations/{conversation_id}/hold": "admin",
    "GET /admin/principals/{owner}/export": "admin",
    "GET /admin/erasures": "admin",
    "GET /admin/review": "admin",
    "GET /admin/review/{review_id}": "admin",
    "POST /admin/review/{review_id}": "admin",
    "GET /admin/budgets": "admin",
    "PUT /admin/budgets": "admin",
    "DELETE /admin/budgets": "admin",
    "GET /admin/figures": "admin",
    "GET /admin/queue": "admin",
    "GET /admin/dead-letters": "admin",
    "GET /admin/dead-letters/{letter_id}": "admin",
    "POST /admin/dead-letters/{letter_id}/redrive": "admin",
    "DELETE /admin/dead-letters/{letter_id}": "admin",
    "GET /admin/steps": "admin",
    "GET /admin/runs": "admin",
    "GET /admin/sessions": "admin",
}


def _pattern(template: str) -> str:
    # Routed with SLASH (http.guard) for a slash inside a part.
    return "".join(
        re.escape(part) if not part.startswith("{") else ".*" if part.endswith(":path}") else "[^/]+"
        for part in re.split(r"(\{[^}]+\})", template)
    )


_FIXED: Final = {route: access for route, access in ROUTES.items() if "{" not in route}
_PATTERNS: Final = [(re.compile(_pattern(route)), access) for route, access in ROUTES.items() if route not in _FIXED]


def access_of(method: str, path: str) -> Access | None:
    """Return who may use a route; None where the table does not know it."""
    asked = f"{'GET' if method == 'HEAD' else method} {path}"
    found = _FIXED.get(asked)
    if found is not None:
        return found
    return next((access for pattern, access in _PATTERNS if pattern.fullmatch(asked)), None)


def is_open(method: str, path: str) -> bool:
    """Whether a route wants no credential: the page's files, and the door to sign in and out by."""
    return access_of(method, path) in ("everybody", "page")


def may_call(via: Via, method: str, path: str) -> bool:
    """Whether a caller from a widget may use a route: a visitor chats, a publishable key makes visitors."""
    return access_of(method, path) == ("widget" if via == "widget" else "visitor")


def check_role(principal: Principal, method: str, path: str) -> None:
    """Refuse what is for admins; their routes look again themselves.

    Raises:
        Forbidden: The principal is none.
    """
    if principal.role != "admin" and (path.startswith("/admin/") or access_of(method, path) == "admin"):
        raise Forbidden("this is for admins: make a key with legato keys create --role admin")


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

"""What OpenAPI says beside the code: bodies that are read by hand, and the errors of a route."""

from __future__ import annotations

from typing import Any

from legato.http.bodies import Body
from legato.http.problems import Problem

_STATUS = {
    400: "The body is absent, not UTF-8, or not JSON (`invalid_json`).",
    401: "No credential, or a wrong one (`unauthenticated`).",
    402: "The budget is spent (reserved; not used yet).",
    403: "The host, the origin or the role is not allowed (`forbidden`).",
    404: "There is no such thing, or it is another's (`not_found`).",
    409: "The present state does not allow it (`conflict`, `cursor_diverged`).",
    410: "The key's run has been deleted (`run_gone`).",
    413: "The body or the message is too large (`body_too_large`, `message_too_long`).",
    415: "The body is not application/json (`unsupported_media_type`).",
    422: "Fields are wrong; each is named (`invalid_request`, `idempotency_key_reused`).",
    429: "Too many turns wait in this conversation (`conversation_busy`); see Retry-After.",
    503: "Shutting down, full, or without its database (`draining`, `overloaded`, `storage_unavailable`).",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for errors with these statuses."""
    return {
        status: {
            "description": _STATUS[status],
            "model": Problem,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def json_body(model: type[Body], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the route reads through http.bodies."""
    schema = model.model_json_schema(by_alias=True)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}

"""What OpenAPI says beside the code: bodies that are read by hand, and the errors of a route."""

from __future__ import annotations

from typing import Any

from legato.http.bodies import Body
from legato.http.cookies import SESSION
from legato.http.problems import Problem

_STATUS = {
    400: "The body is absent, not UTF-8, or not JSON (`invalid_json`).",
    401: "No credential, or a wrong one (`unauthenticated`).",
    402: "A budget has too little left for it.",
    403: "The host, the origin or the role is not allowed (`forbidden`).",
    404: "There is no such thing, or it is another's (`not_found`).",
    409: "The present state does not allow it (`conflict`, `cursor_diverged`, `legal_hold`), or all that "
    "the caller had is being erased (`being_erased`; see Retry-After).",
    410: "The key's run has been deleted (`run_gone`).",
    413: "The body or the message is too large (`body_too_large`, `message_too_long`).",
    415: "The body is not application/json (`unsupported_media_type`).",
    422: "Fields are wrong; each is named (`invalid_request`, `idempotency_key_reused`).",
    429: "Too many turns wait in this conversation (`conversation_busy`), or a limit on posted messages is reached "
    "(`rate_limited`); see Retry-After.",
    503: "Shutting down, full, or without its database (`draining`, `overloaded`, `storage_unavailable`).",
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_EVENT: dict[str, Any] = {"text/event-stream": {}}
_WAIT = {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}}


def problems(*statuses: int, stream: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for errors with these statuses; `stream` tells them as `event: error` too.

    Where a caller must be known (401), one whose data are being erased is refused (409).
    """
    if 401 in statuses:
        statuses = tuple(sorted({*statuses, 409}))
    return {
        status: {
            "description": _STATUS[status],
            "model": Problem,
            "content": _PROBLEM | _EVENT if stream else _PROBLEM,
        }
        | ({"headers": _WAIT} if status in (409, 429, 503) else {})
        for status in statuses
    }


def json_body(model: type[Body], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the route reads through http.bodies."""
    schema = model.model_json_schema(by_alias=True)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def describe(schema: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's description of the routes without what is not so: errors are problems, and a key is needed."""
    for route in schema["paths"].values():
        for operation in route.values():
            for status, response in list(operation["responses"].items()):
                content = response.get("content", {})
                if "HTTPValidationError" in str(content):
                    del operation["responses"][status]
                elif int(status) >= 400:
                    content.pop("application/json", None)
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of `legato keys create`, with LEGATO_AUTH=keys; or the token of a widget's visitor.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": SESSION,
            "description": "A page of this server that is signed in (`POST /sign-in`); over https `__Host-…`.",
        },
    }
    schema["security"] = [{"key": []}, {"session": []}, {}]
    return schema

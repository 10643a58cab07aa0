"""A step's own `HTTPException`, as its caller is told of it: the status and the words that the step gave."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from legato.core.errors import (
    Conflict,
    Forbidden,
    Gone,
    LegatoError,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from legato.wire.native import encode_json

_CODES: Final = {
    error.http_status: error.code
    for error in (
        Unauthenticated,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        Conflict,
        Gone,
        TooLarge,
        UnsupportedMediaType,
        RateLimited,
        Unavailable,
    )
}
_RETRYABLE: Final = frozenset({408, 425, 429, 502, 503, 504})
_BODY_HEADERS: Final = frozenset({"content-type", "content-length"})


def problem_of(error: HTTPException) -> dict[str, Any]:
    """Return the problem details of a status from 400 on; its `detail` is the step's, JSON where it is no text."""
    status = error.status_code
    detail = error.detail if isinstance(error.detail, str) else json.dumps(error.detail, default=str)
    return {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "code": _CODES.get(status, Refused.code if status < 500 else LegatoError.code),
        "detail": detail,
        "retryable": status in _RETRYABLE,
    }


def respond_as_raised(error: HTTPException) -> Response:
    """Return the response that a step asked for: problem+json, or nothing but headers below 400."""
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() not in _BODY_HEADERS}
    if error.status_code < 400:
        return Response(None, error.status_code, headers)
    body = encode_json(problem_of(error))
    return Response(body, error.status_code, {"Cache-Control": "no-store"} | headers, "application/problem+json")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"

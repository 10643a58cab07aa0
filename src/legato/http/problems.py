"""Errors on the wire: problem+json (RFC 9457) everywhere, an `error` event where a naive stream client asks."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from legato.core.errors import (
    FieldError,
    InvalidRequest,
    LegatoError,
    MethodNotAllowed,
    NotFound,
    Refused,
    SealBroken,
)
from legato.core.json_value import MAX_SHOWN_CHARS
from legato.http.bodies import wrong_fields
from legato.wire.native import encode_json, error_event

log = structlog.get_logger(__name__)

MAX_MESSAGE_CHARS: Final = 500
"""Of what is said of one wrong parameter."""


class Cut(Exception):
    """A stream was cut on purpose: the server must close the connection without a proper end."""


class ProblemField(BaseModel):
    """One wrong field."""

    field: str
    message: str
    nearest: str | None = Field(None, description="The known name that an unknown one was probably meant to be.")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="Stable name of the error; docs/reference/errors.md lists all.")
    detail: str
    retryable: bool
    errors: list[ProblemField] | None = None


def problem_response(error: LegatoError, *, as_event: bool = False, conversation_id: str | None = None) -> Response:
    """Return the response that tells a client of `error`, with its status."""
    status = error.http_status
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="legato"'
    fields = (
        [{"field": f.field, "message": f.message, "nearest": f.nearest} for f in error.fields]
        if isinstance(error, InvalidRequest)
        else None
    )
    if as_event:
        more: dict[str, Any] = {"status": status} | ({"errors": fields} if fields else {})
        body = error_event(error.code, error.message, error.retryable, conversation_id, **more)
        return Response(body, status, headers | {"X-Accel-Buffering": "no"}, "text/event-stream; charset=utf-8")
    data: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.message,
        "retryable": error.retryable,
    }
    if fields:
        data["errors"] = fields
    return Response(encode_json(data), status, headers, "application/problem+json")


def wants_event(method: str, path: str, accept: str) -> bool:
    """Whether a failure is told as an `error` event: on the stream's own routes, to whoever did not ask for JSON."""
    if "application/json" in accept or "application/problem+json" in accept:
        return False
    streams = path == "/chat/stream" or (path.startswith("/chat/stream/") and path.count("/") == 3)
    return streams and method in ("POST", "GET")


def respond_to_fault(request: Request, error: Exception) -> Response:
    """Log what nobody foresaw, and return the response that says no more than that."""
    if not isinstance(error, Cut):
        log.error("request failed", path=request.url.path, exc_info=error)
    return respond(request, LegatoError("the server made a mistake; its log says more"))


def install_problem_handlers(api: FastAPI) -> None:
    """Answer every error of this application in one form."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, LegatoError)
        if isinstance(error, SealBroken):
            # Whoever looks after the server is to know of it.
            log.error("request failed", path=request.url.path, error=error.code)
        return respond(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, wrong_fields(error.errors(), _parameter_error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            response = respond(request, MethodNotAllowed("this method is not allowed here"))
            response.headers["Allow"] = ", ".join(sorted(_methods(request)))
            return response
        if error.status_code == 404:
            return respond(request, NotFound("there is nothing at this address"))
        return respond(request, Refused(str(error.detail).lower()))

    async def fault(request: Request, error: Exception) -> Response:
        return respond_to_fault(request, error)

    api.add_exception_handler(LegatoError, refused)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, http)
    api.add_exception_handler(Exception, fault)


def _methods(request: Request) -> set[str]:
    """Return all methods that a path has; Starlette tells those of the first route that it finds."""
    routes: list[BaseRoute] = request.app.state.routes
    return {
        method
        for route in routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


def _parameter_error(each: Any) -> FieldError:
    return FieldError(
        field=".".join(str(part)[:MAX_SHOWN_CHARS] for part in each["loc"][1:]) or str(each["loc"][0]),
        message=each["msg"].lower()[:MAX_MESSAGE_CHARS],
    )


def respond(request: Request, error: LegatoError) -> Response:
    """Return the response to a request that is refused, in the form that its sender asked for."""
    return problem_response(
        error,
        as_event=wants_event(request.method, request.url.path, request.headers.get("accept", "")),
        conversation_id=request.scope.get("state", {}).get("conversation_id"),
    )

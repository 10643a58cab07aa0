"""HTTP steps as routes: FastAPI reads their parameters and bodies, within the server's own limits."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute

from legato.core.errors import ConfigurationError, InvalidBody, LegatoError, NotFound
from legato.core.principal import Principal
from legato.http.bodies import decode_body, read_bytes
from legato.http.documents import problems
from legato.http.guard import SLASH
from legato.http.problems import respond
from legato.http.step_problems import respond_as_raised
from legato.http.step_stream import FAULT, StepStream
from legato.http.trace import TRACE_HEADER, trace_id_of
from legato.runs.node import Node
from legato.steps.context import Context
from legato.steps.registry import Registry, shadows
from legato.steps.runner import passes
from legato.steps.slow_spots import Timed, timed_items
from legato.steps.step import Step, hints_of, streams
from legato.steps.triggers import HttpTrigger, Occasion

log = structlog.get_logger(__name__)

MOST_DEPTH: Final = 200
"""Levels of a body. What a step answers may have 255, and often holds what it was given."""


class StepRoute(APIRoute):
    """Takes the body as every route does: bounded, and JSON only, so that no other site's form can post it."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            node: Node = request.app.state.node
            data = await read_bytes(request, node.settings.max_body_bytes)
            if data:
                value = decode_body(data, request.headers.get("content-type", ""))
                # Counting is a thousand times cheaper than looking, and enough for almost every body.
                if data.count(b"[") + data.count(b"{") > MOST_DEPTH and _levels(value) > MOST_DEPTH:
                    raise InvalidBody(f"the body is nested more than {MOST_DEPTH} levels deep")
            # Where Starlette keeps a body that was read.
            request._body = data
            request.scope["path_params"] = {
                name: value.replace(SLASH, "/") if isinstance(value, str) else value
                for name, value in request.path_params.items()
            }
            trace_id = trace_id_of(request, node.clock.now_ms())
            try:
                response: Response = await handle(request)
            except (LegatoError, RequestValidationError):
                raise
            except HTTPException as error:
                response = respond_as_raised(error)
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                # What a step waits for may be cancelled without the request being so.
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                # Answered here: what goes on is logged again by each layer that it passes.
                log.exception("an http step failed", step=self.name, trace_id=trace_id)
                response = respond(request, LegatoError(FAULT))
            response.headers[TRACE_HEADER] = trace_id
            return response

        return bounded


def _levels(value: Any) -> int:
    """Return how many arrays and objects of a JSON value stand in one another at most."""
    levels, inner = 0, [value]
    while inner := [each for each in inner if isinstance(each, dict | list)]:
        levels += 1
        inner = [item for each in inner for item in (each.values() if isinstance(each, dict) else each)]
    return levels


def mount_steps(api: FastAPI, node: Node, registry: Registry, own: Sequence[BaseRoute]) -> None:
    """Add the routes of all http steps.

    Args:
        own: The server's routes, one by one: FastAPI keeps a router that was included as a whole.

    Raises:
        ConfigurationError: A path belongs to the server, or a function cannot be a route.
    """
    routes = [route for route in own if isinstance(route, APIRoute)]
    # Where a HEAD is answered, a GET is too.
    owned = [(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"]
    owned.append(("GET", "/openapi.json"))
    for step in registry.steps:
        if step.function is None:
            continue
        for trigger in step.http:
            # What has its method is named, where there is such a one.
            for method, path in sorted(owned, key=lambda each: each[0] != trigger.method):
                if shadows(path, trigger.path):
                    raise ConfigurationError(
                        f"step {step.name}: {trigger.method} {trigger.path} is Legato's own ({method} {path}): "
                        "take another path"
                    )
            _mount(api, node, step, trigger)


def _mount(api: FastAPI, node: Node, step: Step, trigger: HttpTrigger) -> None:
    responses = problems(400, 401, 403, 404, 413, 415, 422, 503)
    shape: dict[str, Any] = {}
    if _streams(step):
        endpoint = _streaming(node, step, trigger)
        responses[200] = {"content": {"text/event-stream": {}}}
        shape = {"response_class": Response, "response_model": None}
    else:
        endpoint = _answering(node, step, trigger)
    try:
        route = StepRoute(
            trigger.path,
            endpoint,
            methods=[trigger.method],
            name=step.name,
            summary=step.description or None,
            tags=list(step.flows) or ["steps"],
            operation_id=f"{step.name}_{trigger.method.lower()}",
            responses=responses,
            **shape,
        )
    except Exception as error:
        raise ConfigurationError(f"step {step.name}: it cannot be a route: {str(error).splitlines()[0]}") from error
    if form := [each.name for each in route.dependant.body_params if isinstance(each.field_info, Form)]:
        raise ConfigurationError(f"step {step.name}: {', '.join(form)} would come in a form, and bodies are JSON alone")
    if trigger.method == "GET" and (body := [each.name for each in route.dependant.body_params]):
        raise ConfigurationError(
            f"step {step.name}: {', '.join(body)} would be the body of a GET, which has none: for the query write "
            f"`{body[0]}: Annotated[…, Query()]`"
        )
    api.router.routes.append(route)


def _streams(step: Step) -> bool:
    assert step.function is not None
    return streams(step.function)


def _answering(node: Node, step: Step, trigger: HttpTrigger) -> Callable[..., Any]:
    function = step.function
    assert function is not None

    async def endpoint(**arguments: Any) -> Any:
        context = arguments.pop(_CONTEXT)
        await _check(trigger, arguments, context)
        return await Timed(step.name, function(**_with_context(step, arguments, context)))

    return _signed(node, step, trigger, endpoint)


def _streaming(node: Node, step: Step, trigger: HttpTrigger) -> Callable[..., Any]:
    function = step.function
    assert function is not None

    async def endpoint(**arguments: Any) -> Any:
        context = arguments.pop(_CONTEXT)
        await _check(trigger, arguments, context)
        items = timed_items(step.name, function(**_with_context(step, arguments, context)))
        settings = node.settings
        return StepStream(
            items,
            step=step.name,
            trace_id=context.trace_id,
            heartbeat_s=settings.heartbeat_s,
            send_timeout_s=settings.send_timeout_s,
            stopping=node.stopping,
        )

    return _signed(node, step, trigger, endpoint)


_CONTEXT = "legato_context"


async def _check(trigger: HttpTrigger, arguments: dict[str, Any], context: Context) -> None:
    if not await passes(trigger.condition, arguments, context):
        raise NotFound("there is nothing at this address")


def _with_context(step: Step, arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    name = step.input.context
    return arguments if name is None else arguments | {name: context}


def _signed(node: Node, step: Step, trigger: HttpTrigger, endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Give an endpoint the parameters of the step's function, and the context as what FastAPI brings along."""
    function = step.function
    assert function is not None
    hints = hints_of(step.name, function)

    def context(request: Request) -> Context:
        principal: Principal = request.scope["state"]["principal"]
        return Context(
            node,
            step,
            trigger=Occasion(kind="http", name=f"{trigger.method} {trigger.path}", at_ms=node.clock.now_ms()),
            principal=principal,
            trace_id=trace_id_of(request, node.clock.now_ms()),
        )

    parameters = [
        each.replace(annotation=hints.get(each.name, each.annotation), kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(function).parameters.values()
        if each.name != step.input.context
    ]
    parameters.append(
        inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, default=Depends(context), annotation=Context)
    )
    functools.update_wrapper(endpoint, function)
    del endpoint.__wrapped__  # type: ignore[attr-defined]
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters,
        return_annotation=inspect.Signature.empty if _streams(step) else hints.get("return", inspect.Signature.empty),
    )
    endpoint.__annotations__ = {}
    return endpoint

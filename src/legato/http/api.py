"""The HTTP application: every route, behind the guard."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from legato.core.errors import LegatoError
from legato.http import (
    accounts,
    admin,
    audit,
    budgets,
    chat,
    conversations,
    health,
    me,
    metrics,
    models,
    oidc,
    pages,
    principals,
    reviews,
    search,
    sign_in,
    transfer,
    usage,
    widget,
)
from legato.http.credentials import Credentials
from legato.http.documents import describe
from legato.http.doors import create_doors
from legato.http.guard import Guard
from legato.http.headers import StrictHeaders
from legato.http.own_page import LOOPBACK
from legato.http.page_files import FOLDER, PageFiles
from legato.http.problems import install_problem_handlers, respond, respond_to_fault
from legato.http.rate_limits import RateLimitFields
from legato.http.step_routes import mount_steps
from legato.http.throttle import VISITORS, Throttle
from legato.runs.node import Node
from legato.steps.registry import Registry
from legato.steps.service import StepService
from legato.version import __version__

ROUTERS = (
    chat,
    transfer,
    conversations,
    search,
    usage,
    models,
    sign_in,
    accounts,
    oidc,
    admin,
    audit,
    budgets,
    me,
    principals,
    reviews,
    widget,
    health,
    metrics,
    pages,
)
"""In the order in which they are asked: `transfer` before conversations, one of which might be called `import`."""


class _Straight:
    """Takes a posted message past the framework's layers, which cost more than starting its run does.

    The route stands in the framework all the same, for its description; both call the same function.
    """

    def __init__(self, api: FastAPI) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/chat/stream" or scope["method"] != "POST":
            await self._api(scope, receive, send)
            return
        scope["app"] = self._api
        request = Request(scope, receive, send)
        try:
            response = await chat.post_message(request, request.headers.get("idempotency-key"))
        except LegatoError as error:
            response = respond(request, error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request; it is logged
            response = respond_to_fault(request, error)
        await response(scope, receive, send)


def create_api(
    node: Node, registry: Registry | None = None, steps: StepService | None = None, *, page: Path = FOLDER
) -> ASGIApp:
    """Return the ASGI application of a node.

    Args:
        registry: Whose http steps are served too.
        steps: The queue that an admin looks into.
        page: Folder of the built page; it need not be there.

    Raises:
        ConfigurationError: A step's path is the server's own.
    """
    api = FastAPI(
        title="Legato",
        version=__version__,
        description="A streaming chat server: a reply that has begun reaches its reader whole.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # It would make spans of its own of every request, with what was wrong in a body.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    settings = node.settings
    credentials = Credentials(node) if settings.auth != "none" else None
    state = api.state
    state.node, state.registry, state.steps, state.credentials = node, registry, steps, credentials
    state.page_files = PageFiles(page)
    state.readiness = health.Readiness(node, steps)
    state.doors = create_doors(node)
    state.visitor_throttle = Throttle(node, "visitors", VISITORS, "new visitors")
    install_problem_handlers(api)
    for each in ROUTERS:
        api.include_router(each.router)
    # One by one: FastAPI keeps a router that was included as a whole.
    own = [route for each in ROUTERS for route in each.router.routes]
    if registry is not None:
        mount_steps(api, node, registry, [*own, *api.routes])
    state.routes = [*own, *api.routes]
    metrics.expect_all(node, state.routes, registry)
    plain = api.openapi
    api.openapi = lambda: api.openapi_schema or describe(plain())  # type: ignore[method-assign]
    # A key is proof enough, whatever name the server was called by, unless names were given.
    hosts = [*LOOPBACK, *settings.allowed_hosts] if settings.allowed_hosts or credentials is None else []
    routes: ASGIApp = _Straight(api)
    if node.limits is not None or node.visitor_limits is not None:
        routes = RateLimitFields(routes, node.limits, node.visitor_limits)
    guard = Guard(routes, credentials=credentials, erasing=node.erasing, hosts=hosts, origins=settings.allowed_origins)
    watched = metrics.WatchersDoor(guard, api, settings.metrics_token)
    return StrictHeaders(metrics.RequestCounter(watched, node))

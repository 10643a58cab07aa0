"""The HTTP application: every route, behind the guard."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from legato.core.errors import LegatoError
from legato.core.principal import Principal
from legato.http import chat, conversations
from legato.http.documents import describe
from legato.http.guard import LOOPBACK, Guard
from legato.http.problems import install_problem_handlers, respond, respond_to_fault
from legato.http.rate_limits import RateLimitFields
from legato.http.step_routes import mount_steps
from legato.runs.node import Node
from legato.steps.registry import Registry
from legato.storage.keys import find_principal
from legato.version import __version__

WELCOME = """\
Legato answers here. Try:

  curl -N http://{host}/chat/stream -H 'content-type: application/json' -d '{{"message": "Hello!"}}'

GET /openapi.json describes every route.
"""


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


def create_api(node: Node, registry: Registry | None = None) -> ASGIApp:
    """Return the ASGI application of a node.

    Args:
        registry: Whose http steps are served too.

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
    )
    api.state.node = node
    install_problem_handlers(api)
    api.include_router(chat.router)
    api.include_router(conversations.router)

    @api.get("/", include_in_schema=False)
    async def welcome(request: Request) -> Response:
        return PlainTextResponse(WELCOME.format(host=request.headers.get("host", "localhost")))

    if registry is not None:
        own = [*chat.router.routes, *conversations.router.routes, *api.routes]
        mount_steps(api, node, registry, own)
    plain = api.openapi
    api.openapi = lambda: api.openapi_schema or describe(plain())  # type: ignore[method-assign]
    settings = node.settings

    async def principal(key: str) -> Principal | None:
        return await node.database.read(lambda tx: find_principal(tx, key))

    with_keys = settings.auth == "keys"
    # A key is proof enough, whatever name the server was called by, unless names were given.
    hosts = [*LOOPBACK, *settings.allowed_hosts] if settings.allowed_hosts or not with_keys else []
    routes: ASGIApp = _Straight(api)
    if node.limits is not None:
        routes = RateLimitFields(routes, node.limits)
    return Guard(
        routes,
        find_principal=principal if with_keys else None,
        hosts=hosts,
        origins=settings.allowed_origins,
        clock=node.clock,
    )

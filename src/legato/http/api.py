"""The HTTP application: every route, behind the guard."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from legato import __version__
from legato.core.principal import Principal
from legato.http import chat, conversations
from legato.http.documents import describe
from legato.http.guard import LOOPBACK, Guard
from legato.http.problems import install_problem_handlers
from legato.runs.node import Node
from legato.storage.keys import find_principal

WELCOME = """\
Legato answers here. Try:

  curl -N http://{host}/chat/stream -H 'content-type: application/json' -d '{{"message": "Hello!"}}'

GET /openapi.json describes every route.
"""


def create_api(node: Node) -> ASGIApp:
    """Return the ASGI application of a node."""
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

    plain = api.openapi
    api.openapi = lambda: api.openapi_schema or describe(plain())  # type: ignore[method-assign]
    settings = node.settings

    async def principal(key: str) -> Principal | None:
        return await node.database.read(lambda tx: find_principal(tx, key))

    with_keys = settings.auth == "keys"
    # A key is proof enough, whatever name the server was called by, unless names were given.
    hosts = [*LOOPBACK, *settings.allowed_hosts] if settings.allowed_hosts or not with_keys else []
    return Guard(
        api,
        find_principal=principal if with_keys else None,
        hosts=hosts,
        origins=settings.allowed_origins,
        clock=node.clock,
    )

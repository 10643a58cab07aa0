"""`/metrics` for Prometheus, and what is counted of requests."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Final

import structlog
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.errors import LegatoError
from legato.http.documents import problems
from legato.http.health import PROBES
from legato.http.roles import READS
from legato.http.trace import parent_of
from legato.runs.admin import Admin
from legato.runs.count import count_now
from legato.runs.node import Node
from legato.steps.registry import Registry
from legato.steps.service import StepService
from legato.storage.probe import find_waiting
from legato.telemetry.metrics import CONTENT_TYPE, OTHER

log = structlog.get_logger(__name__)

PATH: Final = "/metrics"
PATIENCE_S: Final = 2.0
"""How long the database and the queue are waited for; what they tell is then that of the answer before."""
_SCRAPER: Final = "scraper"
"""Key in a request's state: it brought the token of LEGATO_METRICS_TOKEN."""

router = APIRouter(tags=["monitoring"])


@router.get(
    PATH,
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 403, 503)},
)
async def get_metrics(request: Request) -> Response:
    """Return what is counted, in Prometheus' text format: for admins, and for the token of LEGATO_METRICS_TOKEN."""
    state = request.scope["state"]
    node: Node = request.app.state.node
    if not state.get(_SCRAPER):
        Admin(node, state["principal"])
    await _look(node, request.app.state.steps)
    # A thread: hundreds of lines are milliseconds, for which no token waits.
    text = await asyncio.to_thread(node.metrics.render)
    return Response(text, headers={"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE})


async def _look(node: Node, steps: StepService | None) -> None:
    """Note what is so now."""
    count_now(node)
    up = False
    try:
        async with asyncio.timeout(PATIENCE_S):
            now_ms = node.clock.now_ms()
            waiting = await node.database.read(find_waiting)
            oldest_ms = now_ms if waiting.oldest_ms is None else waiting.oldest_ms
            node.metrics.set_outbox(waiting.events, max(0.0, (now_ms - oldest_ms) / 1000))
            if node.budgets is not None:
                node.metrics.set_budgets(await node.budgets.shares())
            if steps is not None:
                counts = await steps.engine.counts()
                oldest = await steps.engine.oldest_ms()
                node.metrics.set_jobs(
                    {name: (each.waiting, each.taken, each.dead) for name, each in counts.items()},
                    {name: max(0.0, (now_ms - at_ms) / 1000) for name, at_ms in oldest.items()},
                )
                up = True
    except (LegatoError, TimeoutError) as error:
        log.warning("the queue cannot be counted", error=type(error).__name__)
    node.metrics.set_queue_up(up)


class WatchersDoor:
    """ASGI in front of the guard: lets in what watches the server, which is no caller.

    Args:
        guard: For everything else.
        routes: What is behind the guard.
        token: That of LEGATO_METRICS_TOKEN, which opens `/metrics` and nothing else.
    """

    def __init__(self, guard: ASGIApp, routes: ASGIApp, token: SecretStr | None) -> None:
        self._guard = guard
        self._routes = routes
        self._bearer = None if token is None else b"bearer " + token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in READS and self._lets_in(scope):
            await self._routes(scope, receive, send)
        else:
            await self._guard(scope, receive, send)

    def _lets_in(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path in PROBES:
            return True
        if path != PATH or self._bearer is None:
            return False
        given = Headers(scope=scope).get("authorization", "")
        scheme, _, token = given.partition(" ")
        found = f"{scheme.lower()} {token.strip()}".encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(found, self._bearer):
            return False
        scope.setdefault("state", {})[_SCRAPER] = True
        return True


class RequestCounter:
    """ASGI around everything: counts each request once its answer begins, and tells the traces of some.

    A request has a span where it has a trace: where it posts a message, or calls a step.
    """

    def __init__(self, app: ASGIApp, node: Node) -> None:
        self._app = app
        self._metrics = node.metrics
        self._traces = node.traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        span_id = 0
        began_ns = 0
        traces = self._traces
        if traces is not None:
            span_id, began_ns = traces.new_span_id(), time.time_ns()

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.request(scope["method"], route_of(scope), status)
                if traces is not None and scope["method"] == "POST":
                    run_id = Headers(raw=message["headers"]).get("x-run-id")
                    if run_id is not None:
                        traces.run_begun_by(run_id, span_id)
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            if traces is not None and (trace_id := scope.get("state", {}).get("trace_id")) is not None:
                traces.request(
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_id=parent_of(Headers(scope=scope)),
                    method=scope["method"],
                    route=route_of(scope),
                    status=status or 500,
                    began_ns=began_ns,
                )


def route_of(scope: Scope) -> str | None:
    """Return the template of the route that a request came to, None where it came to none."""
    if scope["path"] == "/chat/stream":
        # Posted messages go past the framework.
        return "/chat/stream"
    found: str | None = getattr(scope.get("route"), "path", None)
    return found


def expect_all(node: Node, routes: list[BaseRoute], registry: Registry | None) -> None:
    """Have series for all routes, with the answers that they are described with, and for all steps."""
    for route in routes:
        if isinstance(route, APIRoute):
            statuses = {int(status) for status in route.responses if str(status).isdigit()}
            for method in route.methods or ():
                for status in sorted(statuses | {route.status_code or 200}):
                    node.metrics.expect_request(method, route.path, status)
    for status in (401, 403, 404, 405):
        node.metrics.expect_request(OTHER, OTHER, status)
    node.metrics.expect_steps([job.name for job in registry.jobs] if registry is not None else [])

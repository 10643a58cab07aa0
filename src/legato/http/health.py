"""Whether the server lives, and whether it should be sent requests. Open to everybody, and cheap.

A probe comes with an address as Host, from a load balancer or a kubelet: it is let in past the guard, whatever it is
called by, and learns no more than what stands here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from legato.core.errors import LegatoError
from legato.runs.node import Node
from legato.steps.service import StepService
from legato.storage.probe import answers
from legato.wire.native import encode_json

log = structlog.get_logger(__name__)

PROBES: Final = frozenset(("/health/live", "/health/ready"))
KEEP_S: Final = 1.0
"""For how long an answer of the database is good: probes, however many, ask it once in that time."""
PATIENCE_S: Final = 2.0
"""A database that has not answered for so long does not answer."""
HEADERS: Final = {"Cache-Control": "no-store"}

router = APIRouter(prefix="/health", tags=["monitoring"])


class Live(BaseModel):
    """The event loop turns."""

    status: Literal["live"]


class Ready(BaseModel):
    """Whether requests should be sent here, and what of it is not so."""

    status: Literal["ready", "not ready"]
    database: Literal["ok", "takes no writes", "does not answer"] = Field(description="Where conversations are kept.")
    queue: Literal["ok", "not open"] = Field(description="Of the steps; it opens a moment after the server listens.")
    server: Literal["ok", "draining"] = Field(description="Draining: it is being stopped, and begins no new reply.")


class Readiness:
    """Looks at a node for probes."""

    def __init__(self, node: Node, steps: StepService | None) -> None:
        self._node = node
        self._steps = steps
        self._answers = True
        self._until_s = -1.0
        self._asking: asyncio.Task[bool] | None = None

    async def look(self) -> Ready:
        """Return how things are."""
        node = self._node
        database: Literal["ok", "takes no writes", "does not answer"] = "ok"
        if node.committer.stalled_s > 0 or node.suspended:
            database = "takes no writes"
        elif not await self._database_answers():
            database = "does not answer"
        queue: Literal["ok", "not open"] = "ok"
        if self._steps is not None and not self._steps.engine.is_open:
            queue = "not open"
        server: Literal["ok", "draining"] = "draining" if node.draining else "ok"
        ready = database == queue == server == "ok"
        return Ready(status="ready" if ready else "not ready", database=database, queue=queue, server=server)

    async def _database_answers(self) -> bool:
        now_s = self._node.clock.monotonic_s()
        if now_s >= self._until_s:
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask())
            done, _ = await asyncio.wait({self._asking}, timeout=PATIENCE_S)
            if not done:
                return False
        return self._answers

    async def _ask(self) -> bool:
        """Ask the database, once for all who want to know."""
        try:
            self._answers = await self._node.database.read(answers)
        except LegatoError as error:
            log.warning("the database does not answer", error=error.code)
            self._answers = False
        except Exception:
            log.exception("the database does not answer")
            self._answers = False
        finally:
            self._until_s = self._node.clock.monotonic_s() + KEEP_S
            self._asking = None
        return self._answers


@router.get("/live", response_model=Live)
async def get_live() -> Response:
    """Say that the process answers. One that does not within seconds is stuck: start it anew."""
    return _respond(200, {"status": "live"})


@router.get(
    "/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Send requests elsewhere."}}
)
async def get_ready(request: Request) -> Response:
    """Say whether requests should be sent here, and what is not ready; a server that is not needs no new start."""
    readiness: Readiness = request.app.state.readiness
    found = await readiness.look()
    return _respond(200 if found.status == "ready" else 503, found.model_dump())


def _respond(status: int, body: dict[str, Any]) -> Response:
    return Response(encode_json(body), status, HEADERS, "application/json")

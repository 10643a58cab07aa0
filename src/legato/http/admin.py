"""What an admin sees and does: figures, the queue with its dead letters, steps, live runs, sessions."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AfterValidator
from starlette.responses import Response

from legato.core.errors import StorageUnavailable
from legato.http import admin_shapes as shapes
from legato.http.chat import context
from legato.http.documents import problems
from legato.http.guard import SLASH
from legato.http.resources import respond
from legato.runs.admin import Admin
from legato.runs.audit import Action, actor_of, audit
from legato.steps.engine import Engine
from legato.steps.graph import as_json, graph_of
from legato.steps.jobs import DeadLetter, JobCounts
from legato.steps.registry import Registry
from legato.steps.service import StepService
from legato.storage.server_figures import OwnedSession, ServerFigures, Span

TIMES: Final = 2
"""Next times of each cron step."""


def admin_only(request: Request) -> None:
    """Raise Forbidden for everybody else, before anything else of the request is looked at."""
    Admin(*context(request))


router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(admin_only)])

LetterId = Annotated[
    str, Path(description="Id of a dead letter."), AfterValidator(lambda value: value.replace(SLASH, "/"))
]


@router.get("/figures", response_model=shapes.FiguresOut, responses=problems(401, 403, 422, 503))
async def get_figures(
    request: Request,
    from_ms: Annotated[
        int | None, Query(alias="from", ge=0, le=2**53, description="Epoch milliseconds; by default 30 days ago.")
    ] = None,
    to_ms: Annotated[
        int | None, Query(alias="to", ge=0, le=2**53, description="Epoch milliseconds, exclusive; by default now.")
    ] = None,
    by: Annotated[Span, Query(description="By hour a span begins 2 days ago by default, and has 32 at most.")] = "day",
) -> Response:
    """Return what is counted of the replies of all owners that ended in a span of time."""
    report = await Admin(*context(request)).figures(from_ms, to_ms, by)
    node, _ = context(request)
    unpriced = node.prices.missing(node.models.names)
    shown = {"from_ms": report.from_ms, "to_ms": report.to_ms, "by": by, "unpriced": unpriced}
    groups = [_figure(each) for each in report.groups]
    return respond(shapes.FiguresOut, shown | {"total": _figure(report.total), "groups": groups})


@router.get("/queue", response_model=shapes.QueueOut, responses=problems(401, 403, 503))
async def get_queue(request: Request) -> Response:
    """Return how many jobs each step has."""
    found = await _engine(request).counts()
    registry: Registry | None = request.app.state.registry
    known = [job.name for job in registry.jobs] if registry is not None else []
    names = dict.fromkeys([*known, *found])
    counts = {name: found.get(name, JobCounts()) for name in names}
    sums = {kind: sum(getattr(each, kind) for each in counts.values()) for kind in JobCounts.__slots__}
    steps = [{"step": name} | {kind: getattr(each, kind) for kind in sums} for name, each in counts.items()]
    return respond(shapes.QueueOut, sums | {"steps": steps})


@router.get("/dead-letters", response_model=shapes.LetterPage, responses=problems(401, 403, 422, 503))
async def get_dead_letters(
    request: Request,
    step: Annotated[str | None, Query(max_length=200, description="Only those of this step.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most entries of a page.")] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9, description="Leave out so many first.")] = 0,
) -> Response:
    """List dead letters, the oldest jobs first, without their input."""
    # One more than is shown tells whether there are more.
    found = await _engine(request).dead_letters(step, limit=limit + 1, offset=offset)
    following = offset + limit if len(found) > limit else None
    return respond(
        shapes.LetterPage, {"dead_letters": [_letter(each) for each in found[:limit]], "next_offset": following}
    )


@router.get("/dead-letters/{letter_id}", response_model=shapes.LetterWithEvents, responses=problems(401, 403, 404, 503))
async def get_dead_letter(request: Request, letter_id: LetterId) -> Response:
    """Return a dead letter with its input."""
    letter = await _engine(request).dead_letter(letter_id)
    owners = {event.owner for event in letter.events}
    await _note(request, "admin.read", letter_id, owners.pop() if len(owners) == 1 else None)
    return respond(shapes.LetterWithEvents, _letter(letter) | {"events": list(letter.events)})


@router.post(
    "/dead-letters/{letter_id}/redrive",
    status_code=202,
    responses={202: {"description": "It is a job again."}, **problems(401, 403, 404, 503)},
)
async def redrive_dead_letter(request: Request, letter_id: LetterId) -> dict[str, str]:
    """Make a dead letter a job again, with all its attempts before it."""
    await _engine(request).redrive(letter_id)
    await _note(request, "dead-letter.redrive", letter_id)
    return {"id": letter_id, "status": "waiting"}


@router.delete("/dead-letters/{letter_id}", status_code=204, responses=problems(401, 403, 404, 503))
async def discard_dead_letter(request: Request, letter_id: LetterId) -> Response:
    """Delete a dead letter with its input; it cannot be had back."""
    await _engine(request).discard(letter_id)
    await _note(request, "dead-letter.discard", letter_id)
    return Response(status_code=204)


@router.get("/steps", response_model=shapes.StepsOut, responses=problems(401, 403, 503))
async def get_steps(request: Request) -> Response:
    """Return all steps with what sets them off, the topics between them, and both as a graph."""
    registry: Registry = request.app.state.registry or Registry()
    now_ms = request.app.state.node.clock.now_ms()
    graph = graph_of(registry)
    steps = [as_json(step, registry, now_ms, TIMES) for step in registry.steps]
    return respond(
        shapes.StepsOut,
        {
            "steps": [each | {"built_in": each["builtIn"]} for each in steps],
            "flows": list(dict.fromkeys(flow for step in registry.steps for flow in step.flows)),
            "topics": registry.topics,
            "unheard": [{"step": step, "topic": topic} for step, topic in registry.unheard()],
            "graph": {
                "nodes": list(graph.nodes),
                "edges": [{"start": start, "end": end} for start, end in graph.edges],
            },
        },
    )


@router.get("/runs", response_model=shapes.LiveRunsOut, responses=problems(401, 403, 422, 503))
async def get_runs(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000, description="Most entries.")] = 200
) -> Response:
    """List the replies that are being made now, of all owners, the oldest first, without what they say."""
    found = await Admin(*context(request)).runs(limit)
    return respond(shapes.LiveRunsOut, {"count": found.total, "runs": list(found.oldest)})


@router.get("/sessions", response_model=shapes.SessionsOut, responses=problems(401, 403, 422, 503))
async def get_sessions(
    request: Request, limit: Annotated[int, Query(ge=1, le=200, description="Most entries.")] = 50
) -> Response:
    """List the sessions with the latest replies, of all owners, the latest first."""
    found = await Admin(*context(request)).sessions(limit)
    return respond(shapes.SessionsOut, {"sessions": [_session(each) for each in found]})


async def _note(request: Request, action: Action, letter_id: str, owner: str | None = None) -> None:
    """Tell the audit log what an admin did to a dead letter, which may hold what somebody has written."""
    node = request.app.state.node
    actor, now_ms = actor_of(request.scope["state"]["caller"]), node.clock.now_ms()
    await node.committer.write(
        lambda tx: audit(tx, actor=actor, action=action, subject=letter_id, owner=owner, at_ms=now_ms),
        wait_s=node.settings.storage_wait_s,
    )


def _engine(request: Request) -> Engine:
    service: StepService | None = request.app.state.steps
    if service is None:
        raise StorageUnavailable("this server has no queue")
    return service.engine


def _figure(figures: ServerFigures) -> dict[str, Any]:
    shown = {name: getattr(figures, name) for name in ServerFigures.__slots__}
    return shown | {"cost": None if figures.cost_usd is None else {"usd": figures.cost_usd}}


def _letter(letter: DeadLetter) -> dict[str, Any]:
    shown = {name: getattr(letter, name) for name in DeadLetter.__slots__ if name not in ("events", "tick")}
    return shown | {"tick_ms": letter.tick.at_ms if letter.tick else None}


def _session(session: OwnedSession) -> dict[str, Any]:
    figures = session.figures
    return {
        "owner": session.owner,
        "session_id": figures.session_id,
        "messages": figures.total_messages,
        "errors": figures.errors,
        "stops": figures.stops,
        "tokens": figures.total_tokens,
        "conversations": figures.conversation_count,
        "average_response_ms": figures.average_response_time_ms,
        "feedback": figures.feedback,
        "last_at_ms": figures.last_message_at_ms,
    }

"""How the admin's figures, queue, steps and lists look as JSON: camelCase, times in epoch milliseconds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from legato.http.resources import Resource


class DurationsOut(Resource):
    mean_ms: float | None = Field(serialization_alias="mean")
    p50_ms: int | None = Field(serialization_alias="p50")
    p95_ms: int | None = Field(serialization_alias="p95")


class SpentOut(Resource):
    usd: str = Field(description="A decimal of US dollars.")


class ThumbsOut(Resource):
    up: int
    down: int


class FigureOut(Resource):
    """What is counted of the replies of one day, hour or model, or of all."""

    at_ms: int | None = Field(description="Beginning of the day or hour, UTC; `null` where the model groups them.")
    model: str | None = Field(description="Where the model groups them; `null` too where a reply had none.")
    messages: int = Field(description="Replies that were completed.")
    errors: int = Field(description="Replies that failed.")
    stops: int = Field(description="Replies that were stopped.")
    error_rate: float | None = Field(description="Share of the three that failed, 0 to 1.")
    sessions: int
    conversations: int
    owners: int
    input_tokens: int | None
    output_tokens: int | None
    estimated: int = Field(description="Replies whose output tokens are a guess.")
    cost: SpentOut | None = Field(description="Of what is known; `null` where nothing is.")
    cost_unknown: int = Field(description="Replies whose cost is not known.")
    response_time: DurationsOut = Field(
        serialization_alias="responseTimeMs", description="Milliseconds, of completed replies."
    )
    first_token: DurationsOut = Field(
        serialization_alias="firstTokenMs", description="Milliseconds to the first token, of completed replies."
    )
    feedback: ThumbsOut
    satisfaction: float | None = Field(description="Share of thumbs that are up, 0 to 1.")


class FiguresOut(Resource):
    from_ms: int = Field(serialization_alias="from")
    to_ms: int = Field(serialization_alias="to")
    by: Literal["day", "hour", "model"]
    unpriced: list[str] = Field(description="Configured models whose price is not known.")
    total: FigureOut
    groups: list[FigureOut] = Field(description="In order; days, hours and models without replies are left out.")


class StepCountsOut(Resource):
    step: str
    waiting: int = Field(description="Not taken yet.")
    taken: int = Field(description="Running, about to, or between two attempts.")
    dead: int = Field(description="Dead letters.")


class QueueOut(Resource):
    waiting: int
    taken: int
    dead: int
    steps: list[StepCountsOut] = Field(description="All that take events or times, and those that still have jobs.")


class LetterOut(Resource):
    id: str
    kind: Literal["queue", "cron"]
    step: str
    topic: str
    error_type: str
    error: str = Field(description="It may hold what the job is about.")
    attempts: int
    first_ms: int | None = Field(serialization_alias="firstAt", description="When it was first tried.")
    last_ms: int = Field(serialization_alias="lastAt", description="When it was last tried.")
    tick_ms: int | None = Field(serialization_alias="tickAt", description="The time that a cron step's job was for.")


class LetterPage(Resource):
    dead_letters: list[LetterOut]
    next_offset: int | None


class JobEventOut(Resource):
    id: str
    topic: str
    owner: str
    payload: Any
    trace_id: str | None
    at_ms: int


class LetterWithEvents(LetterOut):
    events: list[JobEventOut] = Field(description="Its input: it may hold what people wrote.")


class CronOut(Resource):
    expression: str
    timezone: str
    missed: Literal["once", "skip"]
    next: list[str] = Field(description="The next times, ISO 8601.")


class StepOut(Resource):
    name: str
    description: str
    flows: list[str]
    built_in: bool = Field(description="Whether it comes with Legato.")
    http: list[str] = Field(description="Method and path of each route.")
    topics: list[str] = Field(description="What it listens to.")
    cron: list[CronOut]
    enqueues: list[str] = Field(description="Topics of the events that it makes.")


class NodeOut(Resource):
    id: str
    kind: Literal["step", "topic", "http", "cron"]
    label: str
    flow: str | None
    built_in: bool


class EdgeOut(Resource):
    start: str = Field(serialization_alias="from", description="Id of a node.")
    end: str = Field(serialization_alias="to", description="Id of a node.")


class GraphOut(Resource):
    nodes: list[NodeOut]
    edges: list[EdgeOut]


class UnheardOut(Resource):
    step: str
    topic: str


class StepsOut(Resource):
    steps: list[StepOut]
    flows: list[str]
    topics: list[str]
    unheard: list[UnheardOut] = Field(description="Topics that a step enqueues and nobody listens to.")
    graph: GraphOut


class LiveRunOut(Resource):
    id: str
    conversation_id: str
    session_id: str
    owner: str
    state: Literal["queued", "running"]
    model: str | None = Field(description="The one that is called now.")
    started_at_ms: int
    elapsed_ms: int = Field(serialization_alias="elapsedMs")
    events: int = Field(description="Of its log so far.")
    calls: int = Field(description="Of models, so far.")
    takeovers: int
    approvals: int = Field(description="Tool calls that wait for a person.")


class LiveRunsOut(Resource):
    count: int = Field(description="All of them, also where `runs` has not.")
    runs: list[LiveRunOut]


class SessionOut(Resource):
    owner: str
    session_id: str
    messages: int
    errors: int
    stops: int
    tokens: int
    conversations: int
    average_response_ms: float | None = Field(serialization_alias="averageResponseMs")
    feedback: ThumbsOut
    last_at_ms: int | None


class SessionsOut(Resource):
    sessions: list[SessionOut]

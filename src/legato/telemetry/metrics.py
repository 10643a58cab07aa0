"""What is counted of this server, for Prometheus: names, labels and bounds in one place.

A label has few values, known before: models are those of the settings, routes and steps those that there are, anything
else is `other`. No id, no owner, no text is a label. Every series is there from the start, with 0, so that an alert
never waits for a first time. Nothing here is called for a chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from legato.core.budget import Per, Period
from legato.core.event import CallReason, FinishReason, StopCause
from legato.core.run_errors import RunError
from legato.core.usage import Spent

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
OTHER: Final = "other"
"""Stands for a value that was not known before."""

FIRST_TOKEN_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
GAP_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RUN_S: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
BATCH_ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
Over = Literal["livesum", "livemax", "mostrecent"]
"""What is told of a gauge that several workers of one server have: their sum, the largest, or what was set last."""
LAG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
DIRECTIONS: Final = ("input", "output", "cache_read", "reasoning")

# One more series for each, which says when it was made: nobody looks at it.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The counters of one node. Made and used on its event loop; `render` may run in a thread.

    Args:
        models: Names of the configured models.
    """

    def __init__(self, models: Collection[str] = ()) -> None:
        self._registry = registry = CollectorRegistry()
        self._models = frozenset(models)
        self._routes: dict[tuple[str, str, int], Counter] = {}
        self._methods: set[tuple[str, str]] = set()
        self._steps: frozenset[str] = frozenset()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"legato_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, over: Over, *labels: str) -> Gauge:
            return Gauge(f"legato_{name}", text, labels, registry=registry, multiprocess_mode=over)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"legato_{name}", text, labels, registry=registry, buckets=buckets)

        self._requests = counter("http_requests", "Requests by the head of their answer.", "method", "route", "status")
        self._runs = gauge("runs", "Replies that are being made, or wait for the turn before them.", "livesum", "state")
        self._ended = counter("runs_ended", "Replies that ended.", "state", "reason")
        self._run_s = histogram("run_seconds", "Duration of replies.", RUN_S, "state")
        self._first_s = histogram(
            "first_token_seconds", "From a turn's beginning to its first text.", FIRST_TOKEN_S, "model"
        )
        self._gap_s = histogram("token_gap_seconds", "Time between two tokens, sampled.", GAP_S, "model")
        self._tokens = counter("tokens", "Tokens that calls of models used.", "direction", "model")
        self._cost = counter("cost_usd", "Cost of the calls whose price is known.", "model")
        self._unpriced = counter("replies_without_price", "Replies whose cost is not known.", "model")
        self._calls = counter("model_calls", "Calls of models that were begun.", "model", "reason")
        self._faults = counter("upstream_errors", "Calls of models that failed.", "model", "code")
        self._refused = counter("budget_refusals", "Calls of models that a budget had too little left for.", "per")
        spent = "Spent share of the limit, of whoever has spent the most of it."
        self._budgets = gauge("budget_spent_ratio", spent, "mostrecent", "per", "period")
        self._budget_kinds: set[tuple[Per, Period]] = set()
        self._tools = counter("tool_calls", "Calls of tools that ended.", "outcome")
        self._verdicts = counter(
            "policy_verdicts", "What policies have decided, but for nothing.", "policy", "stage", "verdict"
        )
        self._policy_faults = counter("policy_failures", "Policies that gave no verdict.", "policy", "stage", "kind")
        self._takeovers = counter("takeovers", "Running replies that were taken up from another process.")
        self._batch_items = histogram(
            "commit_batch_items", "Runs and commands that one transaction wrote.", BATCH_ITEMS
        )
        self._batch_s = histogram("commit_batch_seconds", "Duration of a transaction of the group commit.", BATCH_S)
        self._lag_s = histogram("event_loop_lag_seconds", "How late the event loop wakes.", LAG_S)
        self._readers = gauge("readers", "Open streams.", "livesum")
        self._stalled = gauge("database_stalled_seconds", "For how long the database has taken no writes.", "livemax")
        self._outbox = gauge("outbox_events", "Events that the queue has not got yet.", "mostrecent")
        self._outbox_age = gauge("outbox_age_seconds", "Age of the oldest of them.", "mostrecent")
        self._jobs = gauge("queue_jobs", "Jobs of a step.", "mostrecent", "step", "state")
        self._job_age = gauge(
            "queue_oldest_seconds", "Age of a step's oldest job that nobody has taken.", "mostrecent", "step"
        )
        self._queue_up = gauge("queue_up", "Whether the queue could be read for this answer.", "mostrecent")
        self._draining = gauge("draining", "Whether the server begins no new replies.", "livemax")
        self._begin()

    def _begin(self) -> None:
        """Have every series that may come."""
        models = [*self._models, OTHER]
        for state in ("queued", "running"):
            self._runs.labels(state)
        for reason in get_args(FinishReason):
            self._ended.labels("finished", reason)
        for cause in get_args(StopCause):
            self._ended.labels("stopped", cause)
        codes = sorted({each.code for each in _below(RunError)})
        for code in codes:
            self._ended.labels("failed", code)
        for state in ("finished", "stopped", "failed"):
            self._run_s.labels(state)
        for model in models:
            for each in (self._first_s, self._gap_s, self._cost, self._unpriced):
                each.labels(model)
            for direction in DIRECTIONS:
                self._tokens.labels(direction, model)
            for reason in get_args(CallReason):
                self._calls.labels(model, reason)
            for code in codes:
                self._faults.labels(model, code)
        self._gaps = {model: self._gap_s.labels(model) for model in models}
        for per in get_args(Per):
            self._refused.labels(per)
        self.set_budgets({})
        for outcome in ("ok", "error"):
            self._tools.labels(outcome)
        self.expect_policies([OTHER])

    # What happens

    def expect_request(self, method: str, route: str, status: int) -> None:
        """Have a series for a route that there is; others are `other`."""
        self._routes[method, route, status] = self._requests.labels(method, route, str(status))
        self._methods.add((method, route))

    def request(self, method: str, route: str | None, status: int) -> None:
        """Count a request.

        Args:
            route: The route's template, None where none was found.
        """
        if route is None or (method, route) not in self._methods:
            method = route = OTHER
        known = self._routes.get((method, route, status))
        if known is None:
            # Statuses are this server's own, a few dozen at most.
            known = self._routes[method, route, status] = self._requests.labels(method, route, str(status))
        known.inc()

    def run_ended(
        self,
        *,
        state: str,
        reason: str,
        model: str | None,
        first_token_ms: int | None,
        response_ms: int,
        unpriced: bool,
    ) -> None:
        """Count a reply that ended.

        Args:
            state: `finished`, `stopped` or `failed`.
            reason: Its finish reason, who stopped it, or the error's code.
            model: The last that was called, None where none was.
            first_token_ms: Milliseconds to the first text; None where there was none, or another process showed it.
            unpriced: It has called a model, and what that cost is not known.
        """
        self._ended.labels(state, reason).inc()
        self._run_s.labels(state).observe(response_ms / 1000)
        name = self._model(model)
        if first_token_ms is not None:
            self._first_s.labels(name).observe(first_token_ms / 1000)
        if unpriced:
            self._unpriced.labels(name).inc()

    def call_begun(self, model: str, reason: CallReason) -> None:
        """Count a call of a model."""
        self._calls.labels(self._model(model), reason).inc()

    def call_failed(self, model: str, code: str) -> None:
        """Count a call of a model that ended with an error."""
        self._faults.labels(self._model(model), code).inc()

    def call_used(self, model: str, spent: Spent) -> None:
        """Count what a call used and cost; what is not known is not counted."""
        name = self._model(model)
        for direction in DIRECTIONS:
            if amount := getattr(spent.usage, f"{direction}_tokens"):
                self._tokens.labels(direction, name).inc(amount)
        if spent.cost is not None:
            self._cost.labels(name).inc(float(spent.cost))

    def budget_refused(self, per: Per) -> None:
        """Count a call, or a post, that was refused because a budget had too little left."""
        self._refused.labels(per).inc()

    def tool_ended(self, *, is_error: bool) -> None:
        """Count a call of a tool."""
        self._tools.labels("error" if is_error else "ok").inc()

    def expect_policies(self, names: Collection[str]) -> None:
        """Have series for the policies that there are."""
        for name in names:
            for stage in ("request", "reply"):
                for verdict in ("block", "redact", "flag"):
                    self._verdicts.labels(name, stage, verdict)
                for kind in ("timeout", "error"):
                    self._policy_faults.labels(name, stage, kind)

    def policy_decided(self, policy: str, stage: str, verdict: str) -> None:
        """Count a text that a policy did not simply allow."""
        self._verdicts.labels(policy, stage, verdict).inc()

    def policy_failed(self, policy: str, stage: str, kind: str) -> None:
        """Count a policy that gave no verdict."""
        self._policy_faults.labels(policy, stage, kind).inc()

    def taken_over(self, count: int) -> None:
        """Count running replies that this process took up."""
        self._takeovers.inc(count)

    def batch_committed(self, items: int, elapsed_s: float) -> None:
        """Note one transaction of the group commit."""
        self._batch_items.observe(items)
        self._batch_s.observe(elapsed_s)

    def gap(self, model: str | None, gap_s: float) -> None:
        """Note a time between two tokens."""
        self._gaps[self._model(model)].observe(gap_s)

    def lag(self, lag_s: float) -> None:
        """Note how late the event loop woke."""
        self._lag_s.observe(lag_s)

    # What is so when somebody asks

    def set_budgets(self, shares: Mapping[tuple[Per, Period], float]) -> None:
        """Set how much of the budgets is spent; 0 where there is none."""
        for per in get_args(Per):
            for period in get_args(Period):
                self._budgets.labels(per, period).set(shares.get((per, period), 0.0))

    def set_node(self, *, queued: int, running: int, readers: int, stalled_s: float, draining: bool) -> None:
        """Set what a node holds now."""
        self._runs.labels("queued").set(queued)
        self._runs.labels("running").set(running)
        self._readers.set(readers)
        self._stalled.set(stalled_s)
        self._draining.set(draining)

    def set_outbox(self, events: int, oldest_s: float) -> None:
        """Set what waits for the queue."""
        self._outbox.set(events)
        self._outbox_age.set(oldest_s)

    def expect_steps(self, names: Collection[str]) -> None:
        """Have series for the steps that there are; others are `other`."""
        self._steps = frozenset(names)
        self.set_jobs({}, {})

    def set_queue_up(self, up: bool) -> None:
        """Set whether what stands of the queue's jobs is of now."""
        self._queue_up.set(up)

    def set_jobs(self, counts: dict[str, tuple[int, int, int]], oldest_s: dict[str, float]) -> None:
        """Set the jobs of all steps.

        Args:
            counts: Those that wait, are taken, and are dead, by step.
            oldest_s: Seconds for which the oldest has waited; a step without one is left out.
        """
        sums = dict.fromkeys((*self._steps, OTHER), (0, 0, 0))
        ages = dict.fromkeys(sums, 0.0)
        for name, (waiting, taken, dead) in counts.items():
            step = name if name in self._steps else OTHER
            before = sums[step]
            sums[step] = (before[0] + waiting, before[1] + taken, before[2] + dead)
        for name, age_s in oldest_s.items():
            step = name if name in self._steps else OTHER
            ages[step] = max(ages[step], age_s)
        for step, (waiting, taken, dead) in sums.items():
            self._jobs.labels(step, "waiting").set(waiting)
            self._jobs.labels(step, "taken").set(taken)
            self._jobs.labels(step, "dead").set(dead)
            self._job_age.labels(step).set(ages[step])

    def render(self) -> bytes:
        """Return all of it as text, with what else is in prometheus_client's own registry, and what the process uses.

        Of several workers it is what all of them counted, and what each process uses is left out.
        """
        if values.ValueClass._multiprocess:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry) + generate_latest(REGISTRY)

    def _model(self, name: str | None) -> str:
        return name if name is not None and name in self._models else OTHER


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)

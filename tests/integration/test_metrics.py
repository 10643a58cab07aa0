"""/metrics: what is counted after real replies, who may read it, and that it stays small."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from legato.app import Legato, open_node
from legato.core.event import CallStarted, RunStarted
from legato.core.principal import Principal
from legato.http.api import create_api
from legato.providers.scripted import reply
from legato.runs.replies import Runs
from legato.runs.tail import Tail
from legato.settings import Settings
from legato.telemetry.metrics import Metrics
from legato.telemetry.watch import MOST_RUNS, GapWatch
from tests.asgi import call
from tests.client import Client
from tests.conftest import StartServer
from tests.integration.held_models import HeldModels
from tests.page_world import SHOP, Site, open_site, until
from tests.tool_world import Bench, open_world

Labels = frozenset[tuple[str, str]]
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "operations.md"
TOKEN: Final = "a-token-of-prometheus"


class Sample:
    """What one answer of /metrics says."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.values: dict[tuple[str, Labels], float] = {
            (each.name, frozenset(each.labels.items())): each.value
            for family in self.families
            for each in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[f"legato_{name}", frozenset(labels.items())]

    def sum(self, name: str) -> float:
        """Return the sum over all labels."""
        return sum(value for (known, _), value in self.values.items() if known == f"legato_{name}")


async def scrape(api: Any, **headers: str) -> Sample:
    answer = await call(api, "GET", "/metrics", headers=headers)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Sample(answer.body.decode())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys and a token for Prometheus, its queue at work."""
    async with open_site(tmp_path, bot=Legato(), metrics_token=TOKEN) as opened:
        await opened.make_keys(ann="admin", ben="member")
        yield opened


def test_a_fresh_process_shows_every_series(start_server: StartServer) -> None:
    """An alert on a counter sees 0 before the first time: errors, takeovers, dead letters, of each model and step."""
    server = start_server()
    with Client(server.port) as client:
        text = client.ask("GET", "/metrics").body.decode()
    found = Sample(text)
    documented = set(re.findall(r"^\| `(legato_\w+)`", DOCUMENT.read_text("utf-8"), re.MULTILINE))
    told = {f"{each.name}_total" if each.type == "counter" else each.name for each in found.families}
    assert {name for name in told if name.startswith("legato_")} == documented
    assert found("takeovers_total") == 0
    assert found("runs_ended_total", state="failed", reason="upstream_timeout") == 0
    assert found("upstream_errors_total", model="scripted", code="upstream_rate_limited") == 0
    assert found("model_calls_total", model="other", reason="failover") == 0
    assert found("tokens_total", model="tiny", direction="output") == 0
    assert found("first_token_seconds_count", model="scripted") == 0
    assert found("token_gap_seconds_count", model="scripted") == 0
    assert found("http_requests_total", method="POST", route="/chat/stream", status="503") == 0
    assert found("queue_jobs", step="analytics", state="dead") == 0
    assert found("commit_batch_items_count") >= 0
    empty = [each.name for each in found.families if not each.samples]
    assert not empty
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert found.values[name, frozenset()] > 0


async def test_replies_are_counted_as_they_were(site: Site) -> None:
    """Requests, ends, tokens, first tokens and calls are exact; a reply without a price is counted as one."""
    key = site.keys["ben"]
    for tokens in (3, 5):
        assert (await site.ask("POST", "/chat/stream", {"message": f"script: tokens={tokens}"}, key=key)).status == 200
    answer = await site.ask("POST", "/chat/stream", {"message": " "}, key=key)
    assert answer.status == 422
    found = await scrape(site.api, authorization=f"Bearer {TOKEN}")
    assert found("http_requests_total", method="POST", route="/chat/stream", status="200") == 2
    assert found("http_requests_total", method="POST", route="/chat/stream", status="422") == 1
    assert found("runs_ended_total", state="finished", reason="stop") == 2
    assert found.sum("runs_ended_total") == 2
    assert found("run_seconds_count", state="finished") == 2
    assert found("first_token_seconds_count", model="scripted") == 2
    assert found("tokens_total", direction="output", model="scripted") == 8
    assert found("model_calls_total", model="scripted", reason="first") == 2
    assert found.sum("model_calls_total") == 2
    assert found("replies_without_price_total", model="scripted") == 2
    assert found.sum("cost_usd_total") == 0
    assert (found("runs", state="running"), found("runs", state="queued"), found("readers")) == (0, 0, 0)
    assert found("queue_up") == 1
    assert found("database_stalled_seconds") == 0


async def test_what_is_under_way_is_a_gauge(site: Site) -> None:
    """A reply that runs, one that waits for it, and their end by a stop."""
    runs = Runs(site.node, Principal(id="ben", role="member"))
    tasks = [
        asyncio.ensure_future(runs.reply("script: tokens=500 delay_ms=20", conversation_id="c-both")) for _ in range(2)
    ]
    await until(lambda: len(site.node.live) == 2)
    found = await scrape(site.api, authorization=f"Bearer {TOKEN}")
    assert (found("runs", state="running"), found("runs", state="queued")) == (1, 1)
    for run_id in reversed(list(site.node.live)):
        assert (await site.ask("POST", f"/chat/stream/{run_id}/stop", {}, key=site.keys["ben"])).status < 300
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not site.node.live)
    found = await scrape(site.api, authorization=f"Bearer {TOKEN}")
    assert (found("runs", state="running"), found("runs", state="queued")) == (0, 0)
    assert found("runs_ended_total", state="stopped", reason="user") == 2


async def test_failures_retries_and_failovers_are_counted_by_code(tmp_path: Path) -> None:
    """The first model refuses and the second one answers; a break is a retry of the same model."""
    models: dict[str, Any] = {
        "a": {"provider": "scripted", "script": {"faults": {"fail": (400, 1)}}},
        "b": {"provider": "scripted"},
    }
    settings = Settings(models=models, model=["a", "b"], data_dir=tmp_path, retry_base_s=0.01, titles="words")
    async with open_node(settings) as node:
        api = create_api(node)
        await call(api, "POST", "/chat/stream", {"message": "script: tokens=2"})
        await call(api, "POST", "/chat/stream", {"message": "script: tokens=9 cut=4@1", "model": "b"})
        found = await scrape(api)
    assert found("upstream_errors_total", model="a", code="upstream_refused") == 1
    assert found("model_calls_total", model="a", reason="first") == 1
    assert found("model_calls_total", model="b", reason="failover") == 1
    assert found("upstream_errors_total", model="b", code="upstream_broken") == 1
    assert found("model_calls_total", model="b", reason="retry") == 1
    assert found.sum("upstream_errors_total") == 2
    assert found("runs_ended_total", state="finished", reason="stop") == 2


async def test_calls_of_tools_are_counted(tmp_path: Path) -> None:
    """One that worked, one that failed, and the call of the model after them."""
    bench = Bench()
    async with open_world(tmp_path, bench) as world:
        await world.say('script: tokens=2 tool=search:{"query":"x"} tool=fail:{"words":"y"}')
        found = await scrape(world.api)
    assert (found("tool_calls_total", outcome="ok"), found("tool_calls_total", outcome="error")) == (1, 1)
    assert found("model_calls_total", model="scripted", reason="tools") == 1


def test_a_killed_server_s_reply_is_one_takeover(start_server: StartServer) -> None:
    """The server that goes on with it counts it, and its end."""
    server = start_server()
    with Client(server.port) as client:
        stream = client.post("script: tokens=60 delay_ms=20 stall=30@1")
        stream.take(5)
        server.restart()
    with Client(server.port) as client:
        client.follow(stream.run_id).rest()
        found = Sample(client.ask("GET", "/metrics").body.decode())
    assert found("takeovers_total") == 1
    assert found("model_calls_total", model="scripted", reason="takeover") == 1
    assert found("runs_ended_total", state="finished", reason="stop") == 1
    assert found("first_token_seconds_count", model="scripted") == 0, "the server that was killed showed it"


@pytest.mark.parametrize(
    ("proof", "status"),
    [
        ({}, 401),
        ({"key": "ben"}, 403),
        ({"key": "ann"}, 200),
        ({"bearer": TOKEN}, 200),
        ({"bearer": TOKEN[:-1]}, 401),
        ({"bearer": TOKEN + "x"}, 401),
        ({"bearer": ""}, 401),
        ({"basic": TOKEN}, 401),
        ({"bearer": "t\u00f6ken" * 4}, 401),
    ],
)
async def test_metrics_are_for_admins_and_the_token(site: Site, proof: dict[str, str], status: int) -> None:
    """With keys nobody else reads them."""
    headers = {}
    if "key" in proof:
        headers["authorization"] = f"Bearer {site.keys[proof['key']]}"
    for scheme in ("bearer", "basic"):
        if scheme in proof:
            headers["authorization"] = f"{scheme} {proof[scheme]}"
    assert (await site.ask("GET", "/metrics", **headers)).status == status


@pytest.mark.parametrize("route", ["/me", "/admin/runs", "/conversations", "/metrics/", "/metrics/x", "//metrics"])
async def test_the_token_opens_nothing_else(site: Site, route: str) -> None:
    """It is no key."""
    assert (await site.ask("GET", route, key=TOKEN)).status in (401, 404)
    assert (await site.ask("POST", "/metrics", {}, key=TOKEN)).status == 401
    assert (await site.ask("GET", "/me", key=TOKEN)).status == 401


async def test_a_visitor_reads_no_metrics(site: Site) -> None:
    """Nor does a publishable key."""
    key = await site.make_publishable()
    token = await site.visitor(key)
    for proof in (key, token):
        assert (await site.ask("GET", "/metrics", key=proof, origin=SHOP)).status == 403


@pytest.mark.parametrize("token", ["", "short"])
def test_a_weak_token_is_refused_at_the_start(token: str) -> None:
    """An empty variable opens nothing by mistake."""
    with pytest.raises(ValueError, match="metrics_token"):
        Settings(metrics_token=token)


async def test_labels_are_bounded(site: Site) -> None:
    """Ids, unknown paths, methods and models make no series; no owner, id or secret is told."""
    key = site.keys["ben"]
    await site.ask("POST", "/chat/stream", {"message": "script: tokens=1", "conversationId": "c-mine"}, key=key)
    await scrape(site.api, authorization=f"Bearer {TOKEN}")
    before = await scrape(site.api, authorization=f"Bearer {TOKEN}")
    for number in range(30):
        await site.ask("GET", f"/conversations/c-{number}", key=key)
        await site.ask("GET", f"/nowhere/{number}", key=key)
        await site.ask(f"VERB{number}", "/me", key=key)
        await site.ask("POST", "/chat/stream", {"message": "x", "model": f"m{number}"}, key=key)
        site.node.metrics.call_begun(f"m{number}", "first")
    answer = await site.ask("GET", "/metrics", key=TOKEN)
    after = Sample(answer.body.decode())
    assert after("model_calls_total", model="other", reason="first") == 30
    assert after("http_requests_total", method="GET", route="/conversations/{conversation_id}", status="404") == 30
    assert after("http_requests_total", method="other", route="other", status="404") == 30
    assert len(after.values) - len(before.values) <= 2, set(after.values) - set(before.values)
    for word in (b"ben", b"c-mine", b"c-1", TOKEN.encode(), key.encode()):
        assert word not in answer.body


class Speaking:
    """A run whose log grows as a test says."""

    def __init__(self, name: str, model: str) -> None:
        self.id = name
        self.call: object | None = object()
        self.tail = Tail(run_id=name, owner="ann")
        self.tail.publish([_STARTED, CallStarted(epoch=0, provider="scripted", model=model, reason="first")])


_STARTED: Final = RunStarted(conversation_id="c", session_id="s", user_message_id="u", message_id="m", at_ms=1)


@pytest.mark.parametrize(
    ("grown", "gaps"),
    [
        pytest.param([0, 0, 0], [], id="no first token yet"),
        pytest.param([1, 5, 10], [0.1, 0.05], id="an even stream"),
        pytest.param([1, 0, 0, 1], [1.5], id="a pause is measured whole"),
    ],
)
def test_gaps_are_measured_between_two_looks(grown: list[int], gaps: list[float]) -> None:
    """Half a second between two looks, divided by what came; the wait for the first token is none of it."""
    metrics = Metrics(["m"])
    found: list[float] = []
    metrics.gap = lambda model, gap_s: found.append(gap_s)  # type: ignore[method-assign]
    run = Speaking("r", "m")
    gaps_watch = GapWatch(metrics)
    for place, count in enumerate(grown):
        if count:
            run.tail.publish(["x"] * count)
        gaps_watch.look({"r": run}, place * 0.5)
    assert found == pytest.approx(gaps)


def test_a_look_at_a_thousand_runs_costs_no_more_than_at_few() -> None:
    """What is looked at is bounded, and all have their turn."""
    metrics = Metrics(["m"])
    live = {f"r{number}": Speaking(f"r{number}", "m") for number in range(1000)}
    gaps_watch = GapWatch(metrics)
    for look in range(12):
        for run in live.values():
            run.tail.publish(["x"])
        gaps_watch.look(live, look * 0.5)
        assert len(gaps_watch._marks) <= MOST_RUNS
    found = Sample(metrics.render().decode())
    assert found("token_gap_seconds_count", model="m") == 11 * MOST_RUNS
    assert found("token_gap_seconds_sum", model="m") == pytest.approx(11 * MOST_RUNS * 0.5)


class Looks:
    """The time of what looks at live replies: it stands still, but for half a second before each look of a test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._now_s = 0.0
        self._asleep = 0
        self._due = asyncio.Semaphore(0)
        patch.setattr("legato.telemetry.watch.asyncio", self)

    def get_running_loop(self) -> Looks:
        return self

    def time(self) -> float:
        return self._now_s

    async def sleep(self, delay_s: float) -> None:
        self._asleep += 1
        await self._due.acquire()
        self._now_s += delay_s

    async def look(self) -> None:
        """Have the next one be over."""
        asleep = self._asleep
        self._due.release()
        await until(lambda: self._asleep > asleep)


@pytest.fixture
async def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


async def test_a_stream_s_gaps_come_to_the_metrics(looks: Looks, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of a second, 20 ms between its tokens: what is told is near that."""
    model = HeldModels(monkeypatch)
    words = {"message": "script: tokens=90 delay_ms=20"}
    posted = asyncio.create_task(site.ask("POST", "/chat/stream", words, key=site.keys["ben"]))
    for said in (15, 40, 65):
        model.tokens = said
        await until(lambda: any(run.tail.log.text == reply(0, said) for run in site.node.live.values()))  # noqa: B023
        await looks.look()
    model.let_go()
    answer = await posted
    assert answer.status == 200
    found = await scrape(site.api, authorization=f"Bearer {TOKEN}")
    count = found("token_gap_seconds_count", model="scripted")
    assert 1 <= count <= 4
    assert found("event_loop_lag_seconds_count") >= 3
    assert 0.015 < found("token_gap_seconds_sum", model="scripted") / count < 0.1


async def test_the_queue_is_counted_by_step(tmp_path: Path) -> None:
    """Dead letters of a step that fails, and none of the others."""
    bot = Legato()

    @bot.queue("chat.message.completed", attempts=1)
    async def ship(event: dict[str, Any]) -> None:
        raise RuntimeError("no ship")

    async with open_site(tmp_path, bot=bot, metrics_token=TOKEN) as site:
        assert (await site.ask("POST", "/chat/stream", {"message": "script: tokens=1"}, key=TOKEN)).status == 401
        await site.make_keys(ben="member")
        await site.ask("POST", "/chat/stream", {"message": "script: tokens=1"}, key=site.keys["ben"])
        for _ in range(100):
            found = await scrape(site.api, authorization=f"Bearer {TOKEN}")
            if found("queue_jobs", step="ship", state="dead"):
                break
            await asyncio.sleep(0.05)
    assert found("queue_jobs", step="ship", state="dead") == 1
    assert found("queue_jobs", step="ship", state="waiting") == 0
    assert found("queue_jobs", step="analytics", state="dead") == 0
    assert found("queue_oldest_seconds", step="ship") == 0

"""What an admin sees and does over HTTP: the figures of all owners, the queue, the steps, what is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from legato import Context, Legato, QueueEvent
from legato.core.errors import InvalidJob
from legato.steps.graph import mermaid
from legato.steps.jobs import JobEvent
from tests.asgi import AsgiAnswer
from tests.page_world import OWN, Site, open_site, until

ROUTES = [
    ("GET", "/admin/figures"),
    ("GET", "/admin/queue"),
    ("GET", "/admin/dead-letters"),
    ("GET", "/admin/dead-letters/x"),
    ("POST", "/admin/dead-letters/x/redrive"),
    ("DELETE", "/admin/dead-letters/x"),
    ("GET", "/admin/steps"),
    ("GET", "/admin/runs"),
    ("GET", "/admin/sessions"),
]
healed: list[str] = []


def make_bot() -> Legato:
    """A bot whose queue step refuses everything until it is healed."""
    bot = Legato()

    @bot.http("POST", "/leads/{name}", flows=["crm"], enqueues=["crm.lead", "crm.unheard"])
    async def add_lead(name: str, ctx: Context) -> str:
        """Takes a lead."""
        return await ctx.enqueue("crm.lead", {"name": name})

    @bot.queue("crm.lead", flows=["crm"])
    async def sync_lead(event: QueueEvent, ctx: Context) -> None:
        """Brings a lead to the other side."""
        if not healed:
            raise InvalidJob("payload.name: is nobody")
        healed.append(event.payload["name"])

    @bot.cron("0 3 * * *", timezone="Europe/Berlin")
    async def report(ctx: Context) -> None:
        """Reports."""

    return bot


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys for ann, an admin, and ben, a member; its steps are not at work."""
    async with open_site(tmp_path) as opened:
        await opened.make_keys(ann="admin", ben="member")
        yield opened


async def ask(site: Site, path: str, method: str = "GET") -> AsgiAnswer:
    return await site.ask(method, path, key=site.keys["ann"])


async def get(site: Site, path: str) -> Any:
    answer = await ask(site, path)
    assert answer.status == 200, (path, answer.status, answer.body)
    return answer.json


# Who may


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_only_an_admin_may(site: Site, method: str, path: str) -> None:
    """A member is refused whatever is there, and who has no credential too; an admin may who is signed in."""
    refused = await site.ask(method, path, key=site.keys["ben"])
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert (await site.ask(method, path)).status == 401
    cookie = await site.sign_in("ann")
    taken = await site.ask(method, path, cookie=cookie, origin=OWN)
    assert taken.status in (200, 503)
    assert (await site.ask(method, path, cookie=await site.sign_in("ben"), origin=OWN)).status == 403
    foreign = await site.ask(method, path, cookie=cookie, origin="https://evil.example")
    assert foreign.status == 403


async def test_the_queue_is_not_there_before_it_is_open(site: Site) -> None:
    """503 tells to come again; the rest is answered."""
    for path in ("/admin/queue", "/admin/dead-letters"):
        answer = await ask(site, path)
        assert (answer.status, answer.json["code"]) == (503, "storage_unavailable")


@pytest.mark.parametrize(
    "query",
    [
        "figures?by=week",
        "figures?from=yesterday",
        "figures?from=-1",
        "figures?to=99999999999999999999",
        "figures?from=2&to=1",
        "figures?from=0",
        "figures?by=hour&from=0&to=9000000000",
        "figures?from=1.5",
        "dead-letters?limit=0",
        "dead-letters?limit=501",
        "dead-letters?offset=-1",
        "dead-letters?offset=99999999999",
        "runs?limit=0",
        "sessions?limit=201",
        "sessions?limit=x",
    ],
)
async def test_a_wrong_question_is_named(site: Site, query: str) -> None:
    """422 with the parameter, never a fault of the server."""
    answer = await ask(site, f"/admin/{query}")
    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"][0]["field"] in query


# What is at work


async def test_live_runs_are_shown_without_what_they_say(site: Site) -> None:
    """Of all owners, those too that wait for the turn before them."""
    secret = "script: tokens=3 stall=1"
    posts = [
        asyncio.create_task(
            site.ask("POST", "/chat/stream", {"message": secret, "conversationId": "c-1"}, key=site.keys["ben"])
        )
        for _ in range(2)
    ]
    await until(lambda: len(site.node.live) == 2 and any(run.tail.end > 2 for run in site.node.live.values()))
    answer = await ask(site, "/admin/runs")
    first, second = answer.json["runs"]
    assert (answer.json["count"], first["state"], second["state"]) == (2, "running", "queued")
    assert (first["owner"], first["conversationId"], first["model"], first["calls"]) == ("ben", "c-1", "scripted", 1)
    assert first["elapsedMs"] >= 0
    assert first["events"] > 2
    assert b"stall" not in answer.body
    assert len((await get(site, "/admin/runs?limit=1"))["runs"]) == 1
    for run in (first, second):
        stop = f"/chat/stream/{run['id']}/stop"
        assert (await site.ask("POST", stop, key=site.keys["ben"])).status == 202
    await asyncio.gather(*posts)
    assert (await get(site, "/admin/runs")) == {"count": 0, "runs": []}


async def test_steps_are_shown_as_they_are_declared(tmp_path: Path) -> None:
    """What sets each off, the next times, flows, topics, and the graph that `legato steps --graph` draws."""
    bot = make_bot()
    async with open_site(tmp_path, bot=bot, auth="none") as site:
        found = (await site.ask("GET", "/admin/steps")).json
    steps = {step["name"]: step for step in found["steps"]}
    assert (steps["add_lead"]["http"], steps["add_lead"]["builtIn"]) == (["POST /leads/{name}"], False)
    assert (steps["sync_lead"]["topics"], steps["sync_lead"]["flows"]) == (["crm.lead"], ["crm"])
    (cron,) = steps["report"]["cron"]
    assert (cron["expression"], cron["timezone"], len(cron["next"])) == ("0 3 * * *", "Europe/Berlin", 2)
    assert steps["chat"]["builtIn"]
    assert found["flows"] == ["ai-chatbot", "crm"]
    assert found["unheard"] == [{"step": "add_lead", "topic": "crm.unheard"}]
    nodes = {node["id"]: node for node in found["graph"]["nodes"]}
    assert len(nodes) == len(found["graph"]["nodes"])
    edges = {(nodes[edge["from"]]["label"], nodes[edge["to"]]["label"]) for edge in found["graph"]["edges"]}
    assert {
        ("POST /leads/{name}", "add_lead"),
        ("add_lead", "crm.lead"),
        ("crm.lead", "sync_lead"),
        ("cron 0 3 * * * Europe/Berlin", "report"),
        ("chat", "chat.message.completed"),
    } <= edges
    picture = mermaid(bot.registry())
    assert picture.count(" --> ") == len(found["graph"]["edges"])
    assert all(f"{node['id']}" in picture and node["label"] in picture for node in nodes.values())


async def test_dead_letters_are_read_redriven_and_discarded(tmp_path: Path) -> None:
    """With their input, by whatever id; what is redriven is tried anew, what is discarded is gone."""
    healed.clear()
    async with open_site(tmp_path, bot=make_bot()) as site:
        await site.make_keys(ann="admin")
        names = ["one", "two/three", "four"]
        events = [
            JobEvent(id=f"e-{name}", topic="crm.lead", owner="ben", payload={"name": name}, trace_id="t", at_ms=7)
            for name in names
        ]
        await site.steps.engine.hand_over("b", events)

        async with asyncio.timeout(20):
            while (await get(site, "/admin/queue"))["dead"] < 3:  # noqa: ASYNC110 - the queue is asked over HTTP
                await asyncio.sleep(0.05)
        queue = await get(site, "/admin/queue")
        counts = {step["step"]: step for step in queue["steps"]}
        assert counts["sync_lead"] == {"step": "sync_lead", "waiting": 0, "taken": 0, "dead": 3}
        assert {"analytics", "cleanup", "report"} <= set(counts)
        page = await get(site, "/admin/dead-letters?limit=2")
        rest = await get(site, f"/admin/dead-letters?limit=2&offset={page['nextOffset']}")
        letters = page["deadLetters"] + rest["deadLetters"]
        assert rest["nextOffset"] is None
        assert [letter["id"] for letter in letters] == [f"sync_lead:e-{name}" for name in names]
        assert {(each["errorType"], each["error"], each["topic"], each["attempts"]) for each in letters} == {
            ("InvalidJob", "payload.name: is nobody", "crm.lead", 1)
        }
        assert "events" not in letters[0]
        assert (await get(site, "/admin/dead-letters?step=report"))["deadLetters"] == []
        place = "/admin/dead-letters/sync_lead:e-two%2Fthree"
        shown = await get(site, place)
        assert shown["events"] == [
            {
                "id": "e-two/three",
                "topic": "crm.lead",
                "owner": "ben",
                "payload": {"name": "two/three"},
                "traceId": "t",
                "at": 7,
            }
        ]
        healed.append("now")
        redriven = await ask(site, f"{place}/redrive", "POST")
        assert (redriven.status, redriven.json) == (202, {"id": "sync_lead:e-two/three", "status": "waiting"})
        await until(lambda: "two/three" in healed)
        assert (await ask(site, "/admin/dead-letters/sync_lead:e-one", "DELETE")).status == 204
        for method, path in (
            ("GET", place),
            ("POST", f"{place}/redrive"),
            ("DELETE", "/admin/dead-letters/sync_lead:e-one"),
            ("GET", "/admin/dead-letters/%00"),
            ("DELETE", "/admin/dead-letters/" + "x" * 3000),
        ):
            assert (await ask(site, path, method)).status == 404, (method, path)
        assert [letter["id"] for letter in (await get(site, "/admin/dead-letters"))["deadLetters"]] == [
            "sync_lead:e-four"
        ]

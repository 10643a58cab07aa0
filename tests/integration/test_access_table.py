"""Every route that /openapi.json names, with every kind of credential, with ids of others and with bad input.

A route that is added is in these tables by itself: whoever may use it has to be said here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from legato.app import Legato
from legato.http.credentials import KEY_CACHE_S
from legato.http.visitor_tokens import LIFE_MS
from legato.storage.sign_ins import IDLE_MS
from tests.asgi import AsgiAnswer
from tests.page_world import OWN, SHOP, Site, open_site

Route = tuple[str, str]
OPEN: Final = {
    ("POST", "/sign-in"),
    ("POST", "/sign-out"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
}
OF_PUBLISHABLE_KEYS: Final = {("POST", "/widget/visitors")}
OF_VISITORS: Final = {
    ("GET", "/me"),
    ("POST", "/chat/stream"),
    ("GET", "/chat/stream/{run_id}"),
    ("POST", "/chat/stream/{run_id}/stop"),
    ("GET", "/conversations"),
    ("GET", "/conversations/{conversation_id}"),
    ("GET", "/conversations/{conversation_id}/messages"),
    ("POST", "/messages/{message_id}/regenerate"),
    ("PUT", "/messages/{message_id}/feedback"),
    ("GET", "/runs/{run_id}"),
}
BODIES: Final[dict[Route, object]] = {
    ("PUT", "/messages/{message_id}/feedback"): {"thumb": "up"},
    ("POST", "/chat/stream/{run_id}/approvals/{call_id}"): {"granted": True},
}
ABSENT: Final = {
    "run_id": "r-absent",
    "conversation_id": "c-absent",
    "message_id": "m-absent",
    "session_id": "s-absent",
    "call_id": "t-absent",
    "letter_id": "l-absent",
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys for ann, an admin, ben and eve."""
    async with open_site(tmp_path) as opened:
        await opened.make_keys(ann="admin", ben="member", eve="member")
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def any_site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """The same, on each database: what cannot be kept, or not even looked for, is not the same in both."""
    settings = {} if request.param == "sqlite" else {"database_url": request.getfixturevalue("postgres_url")}
    async with open_site(tmp_path, bot=Legato(), **settings) as opened:
        await opened.make_keys(ann="admin", ben="member", eve="member")
        yield opened


async def routes_of(site: Site) -> list[Route]:
    document = (await site.ask("GET", "/openapi.json", key=site.keys["ann"])).json
    found = [(method.upper(), path) for path, operations in document["paths"].items() for method in operations]
    assert len(found) > 30
    return [route for route in found if route not in OPEN]


async def ask(site: Site, route: Route, ids: dict[str, str], query: str = "", **proof: Any) -> AsgiAnswer:
    method, path = route
    body = BODIES.get(route, {}) if method in ("POST", "PUT", "PATCH") else None
    return await site.ask(method, path.format(**ids) + query, body, accept="application/json", **proof)


async def proof_of(site: Site, kind: str) -> dict[str, Any]:
    """Make a credential that is as its name says."""
    match kind:
        case "none":
            return {}
        case "an unknown key":
            return {"key": f"lk_{'0' * 12}_{'x' * 43}"}
        case "a key with another's secret":
            return {"key": site.keys["ann"].rpartition("_")[0] + "_" + site.keys["ben"].split("_", 2)[2]}
        case "a revoked key":
            await site.revoke(site.keys["eve"])
            return {"key": site.keys["eve"]}
        case "a member" | "an admin":
            return {"key": site.keys["ben" if kind == "a member" else "ann"]}
        case "a sign-in":
            return {"cookie": await site.sign_in("ben"), "origin": OWN}
        case "a sign-in that was not used for long":
            cookie = await site.sign_in("ben")
            site.clock.shift_ms += IDLE_MS
            return {"cookie": cookie, "origin": OWN}
        case "a sign-in of a revoked key":
            cookie = await site.sign_in("eve")
            await site.revoke(site.keys["eve"])
            return {"cookie": cookie, "origin": OWN}
    key = await site.make_publishable()
    if kind == "a publishable key":
        return {"key": key, "origin": SHOP}
    token = await site.visitor(key)
    if kind == "a visitor of long ago":
        site.clock.shift_ms += LIFE_MS
    if kind == "a visitor of a revoked key":
        await site.revoke(key)
        site.clock.shift_ms += int(KEY_CACHE_S * 1000)
        return {"key": token, "origin": OWN}
    return {"key": token, "origin": SHOP}


def is_allowed(kind: str, route: Route) -> bool:
    match kind:
        case "a publishable key":
            return route in OF_PUBLISHABLE_KEYS
        case "a visitor":
            return route in OF_VISITORS
        case "an admin":
            return route not in OF_PUBLISHABLE_KEYS
        case _:
            return route not in OF_PUBLISHABLE_KEYS and not route[1].startswith(("/admin", "/metrics"))


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "an unknown key",
        "a key with another's secret",
        "a revoked key",
        "a sign-in that was not used for long",
        "a sign-in of a revoked key",
        "a visitor of long ago",
        "a visitor of a revoked key",
    ],
)
async def test_what_proves_nothing_opens_nothing(site: Site, kind: str) -> None:
    """401 on every route, before anything of the request is looked at."""
    routes = await routes_of(site)
    proof = await proof_of(site, kind)
    answers = {route: await ask(site, route, ABSENT, **proof) for route in routes}
    assert {route: answer.status for route, answer in answers.items()} == dict.fromkeys(routes, 401)
    assert len({answer.body for answer in answers.values()}) == 1, "it tells nothing of the routes"


@pytest.mark.parametrize("kind", ["a publishable key", "a visitor", "a member", "a sign-in", "an admin"])
async def test_each_kind_of_caller_may_do_what_it_is_for(site: Site, kind: str) -> None:
    """403 on every other route; what is allowed is answered as what was asked for deserves."""
    routes = await routes_of(site)
    proof = await proof_of(site, kind)
    refused = {route for route in routes if (await ask(site, route, ABSENT, **proof)).status in (401, 403)}
    assert refused == {route for route in routes if not is_allowed(kind, route)}


@pytest.mark.parametrize("kind", ["a visitor", "a member", "an admin"])
async def test_what_is_anothers_is_as_if_it_were_not_there(site: Site, kind: str) -> None:
    """On every route with an id: the same status and the same bytes, for an admin too, and nothing is changed."""
    posted = await site.ask("POST", "/chat/stream", {"message": "script: tokens=2"}, key=site.keys["eve"])
    heads = {"run_id": "x-run-id", "conversation_id": "x-conversation-id", "message_id": "x-message-id"}
    theirs = ABSENT | {name: posted.headers[head] for name, head in (heads | {"session_id": "x-session-id"}).items()}
    before = site.rows("SELECT * FROM message"), site.rows("SELECT * FROM run"), site.rows("SELECT * FROM conversation")
    proof = await proof_of(site, kind)
    # What an admin looks after is nobody's own.
    routes = [each for each in await routes_of(site) if "{" in each[1] and not each[1].startswith("/admin")]
    routes = [route for route in routes if is_allowed(kind, route)]
    assert len(routes) >= 7
    for route in routes:
        for query in ("", f"?leafId={theirs['message_id']}", "?after=1"):
            answer = await ask(site, route, theirs, query, **proof)
            assert (answer.status, answer.json["code"]) == (404, "not_found"), (route, query)
            assert answer.body == (await ask(site, route, ABSENT, query, **proof)).body, (route, query)
    assert before == (
        site.rows("SELECT * FROM message"),
        site.rows("SELECT * FROM run"),
        site.rows("SELECT * FROM conversation"),
    )


BOMBS: Final[dict[str, bytes]] = {
    "brackets": b"[" * 100_000,
    "objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "nested metadata": b'{"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "NaN": b'{"temperature":NaN}',
    "huge numbers": b'{"temperature":1e400,"maxTokens":' + b"9" * 5000 + b"}",
    "half a surrogate pair": b'{"title":"\\ud800","key":"\\ud800","message":"\\ud800","token":"\\ud800"}',
    "NUL": b'{"title":"a\\u0000","key":"a\\u0000","message":"a\\u0000","token":"a\\u0000"}',
    "a name twice": b'{"title":"a","title":5,"key":"a","key":5,"message":"a","message":5,"token":"a","token":5}',
    "invalid UTF-8": b'{"title":"\xff\xfe"}',
    "wrong types": b'{"title":[],"id":{},"key":1,"message":null,"granted":"yes","thumb":1,"messages":{},"token":{}}',
    "no object": b"null",
    "5 MB": b'{"title":"' + b"x" * 5_000_000 + b'"}',
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bad_body_is_refused_by_every_route(any_site: Site, name: str) -> None:
    """With 4xx and few words, also where none is read; nothing is stored."""
    site = any_site
    bodies = [each for each in (*await routes_of(site), *OPEN) if each[0] in ("POST", "PUT", "PATCH")]
    # No route of an admin's reads a body.
    bodies = [route for route in bodies if not route[1].startswith("/admin")]
    key = await site.make_publishable()
    for route in bodies:
        proof = {"key": key} if route in OF_PUBLISHABLE_KEYS else {"key": site.keys["ann"]}
        path = re.sub(r"\{(\w+)\}", "x-1", route[1])
        answer = await site.ask(route[0], path, BOMBS[name], accept="application/json", origin=OWN, **proof)
        taken = route == ("POST", "/sign-out")
        assert (answer.status == 204) if taken else (400 <= answer.status < 500), (route, answer.status, answer.body)
        assert len(answer.body) < 8000, route
    assert site.rows("SELECT count(*) FROM conversation") == [(0,)]


VALUES: Final = (
    *("", "-1", "0", "1e9", "9" * 30, "9" * 5000, "NaN", "null", "%00", "%ff", "%ED%A0%80", "1.5", "..%2F..", "%D9%A3"),
    *("%F0%9F%98%80" * 40, "-9223372036854775808", "9223372036854775808", "9223372036854775807.9223372036854775807"),
    *("2026-13-45", "9999-12-31", "10000-01-01", "-271821-04-20", "2026-01-01T00:00:00Z", "'%22;--"),
)


async def test_no_id_is_the_servers_fault(any_site: Site) -> None:
    """Whatever stands in a path in place of an id, there is nothing of this name, or it is refused: there is no 5xx."""
    for route in await routes_of(any_site):
        if "{" not in route[1]:
            continue
        for value in filter(None, VALUES):
            answer = await ask(any_site, route, dict.fromkeys(ABSENT, value), key=any_site.keys["ann"])
            assert 400 <= answer.status < 500, (route, value, answer.body)


async def test_no_question_is_the_servers_fault(any_site: Site) -> None:
    """Whatever the parameters of a route say, the answer is what was asked for, or 4xx: there is no 5xx."""
    await ask_badly(any_site)


async def ask_badly(site: Site) -> None:
    document = (await site.ask("GET", "/openapi.json", key=site.keys["ann"])).json
    asked = 0
    for path, operations in document["paths"].items():
        given = [each["name"] for each in operations.get("get", {}).get("parameters", []) if each["in"] == "query"]
        for query in [f"{name}={value}" for name in given for value in VALUES]:
            more = "&q=x" if path == "/search" and not query.startswith("q=") else ""
            for grouped in ("&by=model", "&by=session", "") if path == "/analytics" else ("",):
                answer = await site.ask("GET", f"{path.format(**ABSENT)}?{query}{more}{grouped}", key=site.keys["ann"])
                assert answer.status in (200, 404, 422), (path, query, answer.body)
                asked += 1
    assert asked > 500

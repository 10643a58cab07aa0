"""Every route that the application has, with every kind of credential and with bad input, against the table of roles.

A route that is added is in these tests by itself: whoever may use it has to be said in http/roles.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from legato.app import Legato
from legato.http.credentials import KEY_CACHE_S
from legato.http.roles import ROUTES
from legato.http.visitor_tokens import LIFE_MS
from legato.storage.accounts import create_account, disable_account, find_by_name, remove_account
from legato.storage.sign_ins import IDLE_MS, create_sign_in
from legato.storage.statement import Transaction
from tests.asgi import AsgiAnswer
from tests.page_world import OWN, SHOP, Site, open_site, routes_of_api
from tests.postgres import Postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")
Route = tuple[str, str]
BODIES: Final[dict[Route, object]] = {
    ("PUT", "/messages/{message_id}/feedback"): {"thumb": "up"},
    ("POST", "/chat/stream/{run_id}/approvals/{call_id}"): {"granted": True},
}
ENDS: Final[list[Route]] = [("DELETE", "/me/sessions"), ("DELETE", "/me"), ("POST", "/me/erase")]
"""After these the caller is nobody any more; those that there are."""
ABSENT: Final = {
    "run_id": "r-absent",
    "conversation_id": "c-absent",
    "message_id": "m-absent",
    "session_id": "s-absent",
    "call_id": "t-absent",
    "letter_id": "l-absent",
}


class Ids(dict[str, str]):
    """Ids by the names of parameters; one that a later route brings is absent too."""

    def __missing__(self, name: str) -> str:
        return "absent"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A server with accounts."""
    async with open_site(tmp_path_factory.mktemp("house"), auth="accounts") as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def site(house: Site) -> Site:
    """The server with new keys for ann, an admin, ben and eve, and a new account of ben's, an hour later."""
    house.clock.shift_ms += 3_600_000

    def make_account(tx: Transaction) -> None:
        if (former := find_by_name(tx, "ben")) is not None:
            remove_account(tx, former.id)
        create_account(tx, now_ms=1, label="ben", name="ben", owner="ben", role="member")

    await house.make_keys(ann="admin", ben="member", eve="member")
    await house.node.committer.write(make_account)
    return house


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def any_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One on each database: what cannot be kept, or not even looked for, is not the same in both."""
    postgres: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    url = postgres and postgres.make_database()
    settings: dict[str, Any] = {"database_url": url} if url else {}
    async with open_site(tmp_path_factory.mktemp("any"), bot=Legato(), auth="accounts", **settings) as opened:
        await opened.make_keys(ann="admin", ben="member", eve="member")
        yield opened
    if postgres and url:
        postgres.drop_database(url)


def access_by_route(site: Site) -> dict[Route, str | None]:
    """Return who may use each route that the application has, in whichever way it was added."""
    found: dict[Route, str | None] = {}
    for route in routes_of_api(site.api):
        for method in route.methods or ():
            if method != "HEAD":
                template = route.path.replace(":path}", "}")
                found[method, template] = ROUTES.get(f"{method} {route.path}")
    return found


def of(site: Site, *kinds: str) -> list[Route]:
    """Return the routes of these kinds of callers."""
    return [route for route, access in access_by_route(site).items() if access in kinds]


def closed(site: Site) -> list[Route]:
    """Return the routes that want a credential."""
    return of(site, "widget", "visitor", "member", "admin")


async def test_every_route_is_in_the_table(site: Site) -> None:
    """One that is added has to say whom it is for; one that is gone leaves nothing behind."""
    found = {f"{method} {route.path}" for route in routes_of_api(site.api) for method in route.methods or ()}
    assert {route for route in found if not route.startswith("HEAD ")} == set(ROUTES)
    document = (await site.ask("GET", "/openapi.json", key=site.keys["ann"])).json
    described = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    assert described <= set(access_by_route(site))
    assert len(closed(site)) > 40


async def ask(site: Site, route: Route, ids: dict[str, str], query: str = "", **proof: Any) -> AsgiAnswer:
    method, path = route
    body = BODIES.get(route, {}) if method in ("POST", "PUT", "PATCH") else None
    return await site.ask(method, path.format_map(Ids(ids)) + query, body, accept="application/json", **proof)


async def of_account(site: Site) -> str:
    """Sign ben in by his account; return the cookie's value."""
    found = site.node.database.transact(lambda tx: find_by_name(tx, "ben"), writes=False)
    assert found is not None
    account_id, now_ms = found.id, site.clock.now_ms()
    return await site.node.committer.write(
        lambda tx: create_sign_in(tx, now_ms, owner="ben", account_id=account_id, way="password")
    )


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
        case "an account":
            return {"cookie": await of_account(site), "origin": OWN}
        case "a disabled account" | "a removed account":
            cookie = await of_account(site)
            found = site.node.database.transact(lambda tx: find_by_name(tx, "ben"), writes=False)
            assert found is not None
            account_id = found.id
            if kind == "a disabled account":
                site.node.database.transact(lambda tx: disable_account(tx, account_id, 1), writes=True)
            else:
                site.node.database.transact(lambda tx: remove_account(tx, account_id), writes=True)
            return {"cookie": cookie, "origin": OWN}
        case "an account that was not used for long":
            cookie = await of_account(site)
            site.clock.shift_ms += IDLE_MS
            return {"cookie": cookie, "origin": OWN}
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


MAY: Final = {
    "a publishable key": ("widget",),
    "a visitor": ("visitor",),
    "a member": ("visitor", "member"),
    "a sign-in": ("visitor", "member"),
    "an account": ("visitor", "member"),
    "an admin": ("visitor", "member", "admin"),
}
"""What each kind of caller may use, of all routes that want a credential."""


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "an unknown key",
        "a key with another's secret",
        "a revoked key",
        "a sign-in that was not used for long",
        "a sign-in of a revoked key",
        "a disabled account",
        "a removed account",
        "an account that was not used for long",
        "a visitor of long ago",
        "a visitor of a revoked key",
    ],
)
async def test_what_proves_nothing_opens_nothing(site: Site, kind: str) -> None:
    """401 on every route, before anything of the request is looked at."""
    routes = closed(site)
    proof = await proof_of(site, kind)
    answers = {route: await ask(site, route, ABSENT, **proof) for route in routes}
    assert {route: answer.status for route, answer in answers.items()} == dict.fromkeys(routes, 401)
    assert len({answer.body for answer in answers.values()}) == 1, "it tells nothing of the routes"


@pytest.mark.parametrize("kind", MAY)
async def test_each_kind_of_caller_may_do_what_it_is_for(site: Site, kind: str) -> None:
    """403 on every other route; what is allowed is answered as what was asked for deserves."""
    found = access_by_route(site)
    routes = [route for route in closed(site) if route not in ENDS]
    proof = await proof_of(site, kind)
    refused = {route for route in routes if (await ask(site, route, ABSENT, **proof)).status in (401, 403)}
    assert refused == {route for route in routes if found[route] not in MAY[kind]}
    for route in [route for route in ENDS if route in found]:
        # Last, and in turn: with this the caller's own sign-in is over.
        status = (await ask(site, route, ABSENT, **await proof_of(site, kind))).status
        assert (status in (401, 403)) == (found[route] not in MAY[kind]), route


async def test_what_is_open_is_open_to_all(site: Site) -> None:
    """Files, probes and doors look at no credential: a wrong one changes nothing."""
    for route in of(site, "everybody"):
        method, path = route
        answers = [
            await site.ask(method, path.format_map(Ids(ABSENT)), None, **proof)
            for proof in ({}, {"key": "lk_wrong"}, {"cookie": "wrong"}, {"key": site.keys["ann"]})
        ]
        assert answers[0].status not in (401, 403) or path == "/widget", route
        assert len({(answer.status, answer.body) for answer in answers}) == 1, route
    for method, path in of(site, "page"):
        if method != "GET":
            assert (await site.ask(method, path, {}, origin="https://evil.example")).status == 403, path
            assert (await site.ask(method, path, {}, sec_fetch_site="cross-site")).status == 403, path


STRICT: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


async def test_every_answer_is_strict(site: Site) -> None:
    """Nothing of it is run, sniffed, framed or told to other sites: good ones, refusals, streams, files, preflights."""
    asks: list[tuple[str, str, dict[str, Any]]] = [
        (method, path.format_map(Ids(ABSENT)), proof)
        for method, path in access_by_route(site)
        for proof in ({}, {"key": site.keys["ann"], "origin": OWN})
        if (method, path) not in ENDS
    ]
    asks += [("GET", "/nothing", {"key": site.keys["ann"]}), ("PUT", "/me", {"key": site.keys["ann"]})]
    asks += [("OPTIONS", "/me", {"origin": OWN, "access_control_request_method": "GET"})]
    for method, path, proof in asks:
        body = {"message": "script: tokens=1"} if method == "POST" else None
        answer = await site.ask(method, path, body, **proof)
        found = {name: answer.headers.get(name) for name in STRICT}
        assert found == STRICT, (method, path, answer.status)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), (method, path)
        assert "base-uri 'none'; form-action 'none'; frame-ancestors" in policy, (method, path)
        framed = path == "/widget"
        assert ("frame-ancestors 'none'" in policy) != framed, (method, path)
        assert (answer.headers.get("x-frame-options") == "DENY") != framed, (method, path)
        assert "microphone=()" in answer.headers["permissions-policy"], (method, path)
        assert all(len(answer.fields(name)) == 1 for name in (*STRICT, "content-security-policy")), (method, path)
        assert "strict-transport-security" not in answer.headers


async def test_behind_tls_browsers_are_told_to_stay_there(site: Site) -> None:
    """For a year; where the proxy that ends TLS says that it does."""
    for path in ("/", "/me", "/nothing"):
        answer = await site.ask("GET", path, x_forwarded_proto="https")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


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
    "too large": b'{"title":"' + b"x" * 1_200_000 + b'"}',
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bad_body_is_refused_by_every_route(any_site: Site, name: str) -> None:
    """With 4xx and few words, also where none is read; nothing is stored."""
    site = any_site
    document = (await site.ask("GET", "/openapi.json", key=site.keys["ann"])).json
    bodies = [
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    assert len(bodies) > 10
    key = await site.make_publishable()
    for route in bodies:
        proof = {"key": key} if route[1] == "/widget/visitors" else {"key": site.keys["ann"]}
        path = re.sub(r"\{(\w+)\}", "x-1", route[1])
        answer = await site.ask(route[0], path, BOMBS[name], accept="application/json", origin=OWN, **proof)
        assert 400 <= answer.status < 500, (route, answer.status, answer.body)
        assert len(answer.body) < 8000, route
    assert site.rows("SELECT count(*) FROM conversation") == [(0,)]


VALUES: Final = (
    *("", "-1", "0", "1e9", "9" * 30, "9" * 5000, "NaN", "null", "%00", "%ff", "%ED%A0%80", "1.5", "..%2F..", "%D9%A3"),
    *("%F0%9F%98%80" * 40, "-9223372036854775808", "9223372036854775808", "9223372036854775807.9223372036854775807"),
    *("2026-13-45", "9999-12-31", "10000-01-01", "-271821-04-20", "2026-01-01T00:00:00Z", "'%22;--"),
)


async def test_no_id_is_the_servers_fault(any_site: Site) -> None:
    """Whatever stands in a path in place of an id, there is nothing of this name, or it is refused: there is no 5xx."""
    for route in closed(any_site):
        if "{" not in route[1]:
            continue
        values = [value for value in VALUES if value]
        key = any_site.keys["ann"]
        asked = [ask(any_site, route, dict.fromkeys(ABSENT, value), key=key) for value in values]
        # An admin asks about owners of whom nobody has heard.
        least = 200 if route[1].startswith("/admin/") else 400
        for value, answer in zip(values, await asyncio.gather(*asked), strict=True):
            assert least <= answer.status < 500, (route, value, answer.body)


REFUSED: Final[set[str]] = set()
"""Questions that the server on SQLite has refused before any database was asked: the other does so too."""


async def test_no_question_is_the_servers_fault(any_site: Site) -> None:
    """Whatever the parameters of a route say, the answer is what was asked for, or 4xx: there is no 5xx."""
    site = any_site
    document = (await site.ask("GET", "/openapi.json", key=site.keys["ann"])).json
    asked = 0
    for path, operations in document["paths"].items():
        given = [each["name"] for each in operations.get("get", {}).get("parameters", []) if each["in"] == "query"]
        groups = ("&by=model", "&by=session", "") if path == "/analytics" else ("",)
        for name in given:
            more = "&q=x" if path == "/search" and name != "q" else ""
            questions = [
                f"{path.format_map(Ids(ABSENT))}?{name}={value}{more}{grouped}"
                for value in VALUES
                for grouped in groups
            ]
            asked += len(questions)
            questions = [each for each in questions if each not in REFUSED]
            answers = await asyncio.gather(*(site.ask("GET", each, key=site.keys["ann"]) for each in questions))
            for question, answer in zip(questions, answers, strict=True):
                assert answer.status in (200, 303, 404, 422), (question, answer.body)
                if answer.status == 422 and site.node.database.kind == "sqlite":
                    REFUSED.add(question)
    assert asked > 500

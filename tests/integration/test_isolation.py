"""A thousand attempts to reach what is somebody else's: by every route that takes an id, a cursor or a name.

The routes are read from the application: one that is added is tried too. Each attempt is made twice, with what is Eve's
and with the same of nobody's. Both answers have to be alike: the same status, the same bytes where it is a refusal, the
same shape where it is not, as many statements of the database; and nothing of Eve's is told or changed.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import pytest
import pytest_asyncio
from sqlalchemy import Table

from legato.app import Legato
from legato.core.principal import Role
from legato.http.roles import ROUTES
from legato.runs import budget, care, erase, search
from legato.runs.search import write_next
from legato.storage.accounts import create_account
from legato.storage.outbox import first_events
from legato.storage.schema import metadata
from legato.storage.sign_ins import create_sign_in
from legato.storage.sqlite import SqliteTransaction
from legato.storage.statement import Prepared
from tests.asgi import AsgiAnswer
from tests.page_world import OWN, SHOP, Site, open_site, routes_of_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
ATTEMPTS: Final = 1000
SECRET: Final = "zwieback"
"""A word that nobody but Eve has ever said."""
EVE: Final = "eve-8f4c1d"
TRIES: Final = 4
"""The server's steps are at work meanwhile: a difference in statements has to be there each time, at last when they are
idle."""
LEFT_OUT: Final = {
    "POST /sign-out": "ends the caller's own sign-in",
    "DELETE /me/sessions": "ends the caller's own sign-ins",
    "DELETE /me": "deletes what is the caller's own",
    "POST /widget/visitors": "takes publishable keys alone",
    "POST /sign-in": "takes secrets, which are not ids: test_sign_in.py, test_account_sign_ins.py",
    "POST /sign-in/issuer": "has no ids: test_issuer.py",
    "GET /sign-in/issuer/callback": "has no ids: test_issuer.py",
    "GET /assets/{path:path}": "files",
    "GET /widget": "a page, the same for all but those with a publishable key",
    "GET /metrics": "figures of the whole server, for admins",
}
"""Routes that are not tried, and why."""


@dataclass
class World:
    """What is Eve's, with its twins that are nobody's, and those who want it."""

    site: Site
    theirs: dict[str, list[str]] = field(default_factory=dict)
    """Eve's ids and cursors, by the names of parameters that take them."""
    twins: dict[str, str] = field(default_factory=dict)
    callers: dict[str, dict[str, Any]] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, *values: str) -> None:
        for value in values:
            self.theirs.setdefault(name, []).append(value)
            self.twins.setdefault(value, twin_of(value, len(self.twins)))


def twin_of(value: str, number: int) -> str:
    """Return a value of the same shape that nobody has; of a place in a list, one that is as good."""
    rng = random.Random(number)
    if re.fullmatch(r"[\d.]+", value):
        return re.sub(r"\d{1,2}(?=\.|$)", lambda match: "".join(rng.choice("123456789") for _ in match[0]), value)
    head, dash, rest = value.rpartition("-")
    made = "".join(rng.choice("0123456789abcdef") if each in "abcdef0123456789" else each for each in rest)
    return f"{head}{dash}{made}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Eve has conversations, replies, a title, feedback, pages that are signed in and keys; others come in all ways."""
    # However slow the machine is: what a node does by itself every second is in no attempt's statements.
    with pytest.MonkeyPatch.context() as patch:
        for module, period in ((care, "PRUNE_S"), (search, "PERIOD_S"), (budget, "LOOK_S"), (erase, "GATHER_S")):
            patch.setattr(module, period, 3600.0)
        async with opened_world(tmp_path_factory) as opened:
            yield opened


@asynccontextmanager
async def opened_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_site(tmp_path_factory.mktemp("world"), auth="accounts", bot=Legato()) as site:
        owners: dict[str, Role] = {EVE: "member", "ann": "admin", "ben": "member"}
        await site.make_keys(**owners)
        world = World(site)
        key = site.keys[EVE]
        world.add("owner", EVE)
        world.add("key_id", key.split("_")[1])
        for number in range(3):
            body = {"message": f"script: tokens=3 {SECRET} {number}", "sessionId": f"s-{number}e7d9f1"}
            posted = await site.ask("POST", "/chat/stream", body, key=key)
            assert posted.status == 200, posted.body
            world.add("conversation_id", posted.headers["x-conversation-id"])
            world.add("run_id", posted.headers["x-run-id"])
            world.add("session_id", posted.headers["x-session-id"])
            world.add("message_id", posted.headers["x-message-id"])
            path = f"/conversations/{posted.headers['x-conversation-id']}/messages"
            messages = (await site.ask("GET", path, key=key)).json["messages"]
            world.add("message_id", messages[0]["id"])
        for path, name in (("/conversations?limit=1", "cursor"), (f"/search?q={SECRET}&limit=1", "cursor")):
            found = (await site.ask("GET", path, key=key)).json
            if found.get("nextCursor"):
                world.add(name, str(found["nextCursor"]))
        reply = world.theirs["message_id"][0]
        thumb = {"thumb": "down", "reason": SECRET}
        assert (await site.ask("PUT", f"/messages/{reply}/feedback", thumb, key=key)).status == 200
        await site.sign_in(EVE)
        world.add("session_id", *[row[0] for row in site.rows("SELECT id FROM sign_in")])
        await site.node.committer.write(
            lambda tx: create_account(tx, now_ms=1, label=SECRET, name="eve", owner=EVE, role="member")
        )
        ben = await site.node.committer.write(
            lambda tx: create_account(tx, now_ms=1, label="ben", name="ben", owner="ben", role="member")
        )
        assert ben is not None
        now_ms = site.clock.now_ms()
        cookie = await site.node.committer.write(
            lambda tx: create_sign_in(tx, now_ms, owner="ben", account_id=ben.id, way="password")
        )
        visitor = await site.visitor(await site.make_publishable())
        world.callers = {
            "nobody": {},
            "a member": {"key": site.keys["ben"], "origin": OWN},
            "an account": {"cookie": cookie, "origin": OWN},
            "a visitor": {"key": visitor, "origin": SHOP},
            "an admin": {"key": site.keys["ann"], "origin": OWN},
        }
        world.document = (await site.ask("GET", "/openapi.json", key=site.keys["ann"])).json
        yield world


@dataclass
class Attempt:
    """One request, with what is Eve's; `twin` is the same with what is nobody's."""

    caller: str
    method: str
    path: str
    body: Any
    used: list[str]

    def twin(self, twins: dict[str, str]) -> Attempt:
        def other(text: str) -> str:
            for each in self.used:
                text = text.replace(each, twins[each]).replace(quote(each, safe=""), quote(twins[each], safe=""))
            return text

        body = None if self.body is None else json.loads(other(json.dumps(self.body)))
        return Attempt(self.caller, self.method, other(self.path), body, [twins[each] for each in self.used])


class Plan:
    """Draws attempts: a caller, a route, and Eve's values wherever the route takes one."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.routes: list[tuple[str, str, dict[str, Any]]] = []
        for route in routes_of_api(world.site.api):
            for method in sorted(route.methods or ()):
                name = f"{method} {route.path}"
                if method == "HEAD" or name in LEFT_OUT:
                    continue
                template = route.path.replace(":path}", "}")
                described = world.document["paths"].get(template, {}).get(method.lower(), {})
                # A route that takes nothing is tried less often.
                takes = "{" in template or described.get("parameters") or "requestBody" in described
                self.routes += [(method, template, described)] * (6 if takes else 1)

    def draw(self) -> Attempt:
        method, template, described = self.rng.choice(self.routes)
        callers = sorted(self.world.callers)
        if ROUTES.get(f"{method} {template}") == "admin":
            # What an admin may see of all owners is another matter.
            callers.remove("an admin")
        used: list[str] = []
        path = template
        while "{" in path:
            before, _, rest = path.partition("{")
            name, _, after = rest.partition("}")
            path = before + quote(self._of(name, used), safe="") + after
        caller = self.rng.choice(callers)
        if query := self._query(described, used, admin=caller == "an admin"):
            path += "?" + "&".join(query)
        body = self._body(described, used) if method in ("POST", "PUT", "PATCH") else None
        return Attempt(caller, method, path, body, used)

    def _of(self, name: str, used: list[str]) -> str:
        kinds = [name] if name in self.world.theirs and self.rng.random() < 0.85 else sorted(self.world.theirs)
        value = self.rng.choice(self.world.theirs[self.rng.choice(kinds)])
        used.append(value)
        return value

    def _query(self, described: dict[str, Any], used: list[str], *, admin: bool) -> list[str]:
        words = []
        for each in described.get("parameters", []):
            name = each["name"]
            if each["in"] != "query" or (admin and name in ("owner", "keyId")):
                continue
            needed = each.get("required", False)
            if not needed and self.rng.random() < 0.6:
                continue
            value = self._value(name, each.get("schema", {}), used)
            words.append(f"{name}={quote(str(value), safe='')}")
        return words

    def _body(self, described: dict[str, Any], used: list[str]) -> Any:
        schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            return None
        required = schema.get("required", [])
        return {
            name: self._value(name, each, used)
            for name, each in schema.get("properties", {}).items()
            if name in required or (_names_a_thing(name) and self.rng.random() < 0.7)
        }

    def _value(self, name: str, schema: dict[str, Any], used: list[str]) -> Any:
        kinds = [schema, *schema.get("anyOf", [])]
        types = {each.get("type") for each in kinds}
        choices = next((each["enum"] for each in kinds if "enum" in each), None)
        if _names_a_thing(name) and types & {"string", None}:
            snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
            snake = {
                "leaf_id": "message_id",
                "parent_id": "message_id",
                "after": "cursor",
                "id": "conversation_id",
            }.get(snake, snake)
            return self._of(snake, used)
        if choices:
            return self.rng.choice(choices)
        if name == "q":
            return SECRET
        if name == "message":
            return "script: tokens=1"
        if "string" in types:
            return "x"
        return {"boolean": True, "integer": 1, "number": 1, "array": [], "object": {}}.get(
            str(next(iter(types - {None, "null"}), "object")), 1
        )


def _names_a_thing(name: str) -> bool:
    return name in ("cursor", "after", "owner", "id", "subject") or name.endswith("Id")


async def ask(site: Site, attempt: Attempt, proof: dict[str, Any]) -> AsgiAnswer:
    return await site.ask(attempt.method, attempt.path, attempt.body, accept="application/json", **proof)


def shape(value: Any) -> Any:
    """Return what kind of JSON something is, whatever stands in it."""
    if isinstance(value, dict):
        # By ids it is a table, of whatever length.
        named = bool(value) and not any("-" in name for name in value)
        return {name: shape(each) for name, each in value.items()} if named else "table"
    return "list" if isinstance(value, list) else "value"


def shape_of(answer: AsgiAnswer) -> Any:
    kind = answer.headers.get("content-type", "")
    return shape(answer.json) if "json" in kind and answer.body and "jsonl" not in kind else kind


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the statements that are run, by whichever thread."""
    found: list[int] = []

    def watch(name: str) -> None:
        original = getattr(SqliteTransaction, name)

        def watched(self: Any, statement: Prepared, *rest: Any, **values: Any) -> Any:
            found.append(id(statement))
            return original(self, statement, *rest, **values)

        monkeypatch.setattr(SqliteTransaction, name, watched)

    for name in ("run", "insert", "many", "one", "all", "tuples"):
        watch(name)
    return found


def rows_of(site: Site, owner: str) -> dict[str, list[Any]]:
    """Return all that somebody has, of every table whose rows have owners."""
    owned = [table for table in metadata.sorted_tables if isinstance(table, Table) and "owner" in table.columns]
    assert len(owned) > 8
    return {table.name: site.rows(f'SELECT * FROM "{table.name}" WHERE owner = ?', (owner,)) for table in owned}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_attempts_reach_nothing(world: World, asked: list[int]) -> None:
    """None succeeds, none tells what is there from what is not."""
    site, plan = world.site, Plan(world, random.Random(6))
    told = {SECRET.encode(), *(value.encode() for values in world.theirs.values() for value in values)} - {b""}
    # The search index is behind; what Eve has must not change under the test's hands.
    await _settled(site)
    before = rows_of(site, EVE)
    statuses: dict[int, int] = {}
    bens: set[bytes] = set()
    named = {caller: bens if caller in ("a member", "an account") else set() for caller in world.callers}
    for number in range(ATTEMPTS):
        attempt = plan.draw()
        twin = attempt.twin(world.twins)
        proof = world.callers[attempt.caller]
        context = (number, attempt)
        for last in [False] * (TRIES - 1) + [True]:
            asked.clear()
            answer = await ask(site, attempt, proof)
            cost = sorted(asked)
            asked.clear()
            none = await ask(site, twin, proof)
            assert answer.status == none.status, (context, answer.body, none.body)
            # What the caller has done itself may not be counted yet.
            same = cost == sorted(asked) if answer.status >= 300 else shape_of(answer) == shape_of(none)
            if same:
                break
            assert not last, (context, "it costs other statements, or looks otherwise", answer.body, none.body)
            await _until_idle(site)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.status >= 400:
            shown = answer.body
            for mine, other in zip(attempt.used, twin.used, strict=True):
                shown = shown.replace(mine.encode(), other.encode())
            assert shown == none.body, context
            assert sorted(answer.headers) == sorted(none.headers), context
            assert answer.status < 500, (context, answer.body)
        # What somebody has named is theirs too from then on: two may call their conversations alike.
        named[attempt.caller] |= {value.encode() for value in attempt.used}
        leaked = [each for each in told - named[attempt.caller] if each in answer.body]
        assert not leaked, (context, leaked, answer.body[:500])
    await _settled(site)
    assert rows_of(site, EVE) == before
    assert sum(statuses.values()) == ATTEMPTS
    # It was refused in all ways there are, and not by one door alone.
    assert {401, 403, 404, 422} <= set(statuses), statuses
    assert statuses[404] > ATTEMPTS / 10, statuses


async def test_the_attempts_would_be_seen(world: World) -> None:
    """What is looked for is there: Eve herself is told her ids and words by the same routes."""
    key = world.site.keys[EVE]
    found = await world.site.ask("GET", f"/conversations/{world.theirs['conversation_id'][0]}/messages", key=key)
    assert SECRET.encode() in found.body
    assert len(world.theirs) >= 6
    assert len(world.theirs["cursor"]) == 2
    assert all(value != twin and len(value) == len(twin) for value, twin in world.twins.items())


async def _settled(site: Site) -> None:
    """Wait until what is written behind the conversations is written."""
    await site.node.committer.flush()
    while await write_next(site.node):
        pass
    await _until_idle(site)


async def _until_idle(site: Site) -> None:
    """Wait until no reply is made, and steps have done all that they were told."""
    while not await _is_idle(site):  # noqa: ASYNC110 - neither replies nor steps tell it
        await asyncio.sleep(0.05)


async def _is_idle(site: Site) -> bool:
    # Events once more behind the jobs: what the last of them told.
    if site.node.live or site.node.tasks or await _has_events(site):
        return False
    return not (await _has_jobs(site) or await _has_events(site))


async def _has_events(site: Site) -> bool:
    return await site.node.database.read(lambda tx: first_events(tx, 1)) != []


async def _has_jobs(site: Site) -> bool:
    return any(each.waiting or each.taken for each in (await site.steps.engine.counts()).values())

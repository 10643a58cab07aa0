"""A built page that is small, an application that serves it, and browsers that say whose page asks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

from legato.app import Legato, open_node
from legato.core.clock import SystemClock
from legato.core.principal import Role
from legato.http.api import create_api
from legato.runs.node import Node
from legato.steps.service import StepService
from legato.storage.keys import create_key, create_publishable_key, revoke_key
from legato.storage.statement import Transaction
from tests.asgi import AsgiAnswer, call
from tests.conftest import node_settings
from tests.new_database import put_database
from tests.statements import query as query_rows

SHOP: Final = "https://shop.example"
OWN: Final = "http://localhost"
"""This server's origin, as tests.asgi calls it."""
DAY_MS: Final = 86_400_000


class ShiftedClock(SystemClock):
    """The machine's clocks, put forward by what a test says."""

    shift_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.shift_ms

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.shift_ms / 1000


@dataclass
class Site:
    """A node, its application and its clock."""

    node: Node
    api: ASGIApp
    clock: ShiftedClock
    steps: StepService
    keys: dict[str, str] = field(default_factory=dict)

    async def make_keys(self, **owners: Role) -> None:
        """Make a secret key for each owner."""

        def make(tx: Transaction) -> dict[str, str]:
            return {
                owner: create_key(tx, owner=owner, role=role, name=owner, now_ms=1) for owner, role in owners.items()
            }

        self.keys |= await self.node.committer.write(make)

    async def make_publishable(self, *origins: str) -> str:
        """Make a publishable key for these origins."""
        return await self.node.committer.write(
            lambda tx: create_publishable_key(tx, name="shop", origins=origins or (SHOP,), now_ms=1)
        )

    async def revoke(self, key: str) -> None:
        """Revoke a key, as `legato keys revoke` does."""
        key_id = key.split("_")[1]
        assert await self.node.committer.write(lambda tx: revoke_key(tx, key_id, 2))

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        cookie: str | None = None,
        cookie_name: str = "legato_session",
        origin: str | None = None,
        **headers: str,
    ) -> AsgiAnswer:
        """Make one request; `headers` are written with low lines."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            fields["authorization"] = f"Bearer {key}"
        if cookie is not None:
            fields["cookie"] = f"theme=dark; {cookie_name}={cookie}"
        if origin is not None:
            fields["origin"] = origin
        return await call(self.api, method, path, body, fields)

    async def sign_in(self, owner: str, **headers: str) -> str:
        """Sign in with an owner's key from a page of this server; return the cookie's value."""
        answer = await self.ask("POST", "/sign-in", {"key": self.keys[owner]}, origin=OWN, **headers)
        assert answer.status == 200, answer.body
        return cookie_of(answer)

    async def visitor(self, key: str, token: str | None = None) -> str:
        """Make a visitor of a publishable key, or renew one; return its token."""
        answer = await self.ask("POST", "/widget/visitors", {"token": token}, key=key, origin=SHOP)
        assert answer.status == 200, answer.body
        made: str = answer.json["token"]
        return made

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what is in the database; with parameters on SQLite alone."""
        if self.node.database.kind == "postgresql":
            return self.node.database.transact(lambda tx: query_rows(tx, query), writes=False)
        with closing(sqlite3.connect(self.node.settings.database_path)) as connection:
            return connection.execute(query, parameters).fetchall()


@asynccontextmanager
async def open_site(
    folder: Path, page: Path | None = None, *, bot: Legato | None = None, **settings: Any
) -> AsyncIterator[Site]:
    """Open a node, with keys unless `settings` say otherwise, and its application; with a bot its steps are at work."""
    values: Mapping[str, Any] = {"auth": "keys", "rate_limit": "off"} | settings
    if "database_url" not in values:
        put_database(folder / "node")
    clock = ShiftedClock()
    async with open_node(node_settings(folder / "node", **values), clock=clock) as node:
        registry = (bot or Legato()).registry()
        steps = StepService(node, registry)
        api = create_api(node, registry, steps, page=page or folder / "no-page")
        if bot is not None:
            await steps.start()
        try:
            yield Site(node, api, clock, steps)
        finally:
            await steps.close()


def routes_of_api(api: ASGIApp) -> list[Route]:
    """Return all routes of an application, in whichever way they were added."""
    inner: Any = api
    while not isinstance(inner, FastAPI):
        inner = getattr(inner, "_routes", None) or inner._app
    routes: list[Route] = [route for route in inner.state.routes if isinstance(route, Route)]
    assert routes
    return routes


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


def cookie_of(answer: AsgiAnswer) -> str:
    """Return the value of the cookie that an answer sets."""
    value = answer.headers["set-cookie"].partition(";")[0].removeprefix("__Host-")
    assert value.startswith("legato_session=")
    return value.removeprefix("legato_session=")


def build_page(folder: Path, *, script: str = "console.log(1)\n" * 500) -> Path:
    """Write what a build of the page leaves, small."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text('<!doctype html><script type="module" src="/assets/index-abcd1234.js"></script>')
    (folder / "widget.js").write_text("(() => {})();\n")
    (folder / "assets" / "index-abcd1234.js").write_text(script)
    (folder / "assets" / "small-abcd1234.css").write_text("a{}")
    (folder / "assets" / "font-abcd1234.woff2").write_bytes(bytes(4096))
    (folder / "secret.txt").write_text("beside the page")
    return folder

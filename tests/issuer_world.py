"""Browsers that sign in at an issuer, and one server and issuer for all tests of a file."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from legato.http.oidc import CALLBACK
from legato.http.oidc_issuer import KEEP_S
from tests.asgi import AsgiAnswer, call
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Claims, Issuer, open_issuer
from tests.page_world import OWN, Site, open_site

ANN: Claims = {
    "sub": "248289761001",
    "name": "Ann Example",
    "email": "ann@example.com",
    "email_verified": True,
    "groups": ["staff"],
}


@dataclass
class Browser:
    """A browser with its cookies, which goes where it is sent."""

    site: Site
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> AsgiAnswer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            fields["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return await call(self.site.api, method, path, body, fields)

    def keep(self, answer: AsgiAnswer) -> None:
        for line in answer.fields("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    async def leave(self, to: str | None = None) -> str:
        """Press the button; return where the issuer is."""
        answer = await self.ask("POST", "/sign-in/issuer", {} if to is None else {"to": to}, origin=OWN)
        assert answer.status == 200, answer.body
        self.keep(answer)
        location: str = answer.json["location"]
        return location

    async def come_back(self, location: str) -> AsgiAnswer:
        """Go to the issuer, and whither it sends the browser."""
        path = await at_issuer(location)
        answer = await self.ask("GET", path, sec_fetch_site="cross-site", sec_fetch_mode="navigate")
        self.keep(answer)
        return answer

    async def sign_in(self, to: str | None = None) -> AsgiAnswer:
        return await self.come_back(await self.leave(to))

    async def me(self) -> Any:
        answer = await self.ask("GET", "/me")
        return answer.json if answer.status == 200 else answer.status


async def at_issuer(location: str) -> str:
    """Return the path that the issuer sends a browser back to."""
    async with aiohttp.ClientSession() as session, session.get(location, allow_redirects=False) as answer:
        assert answer.status == 302, await answer.text()
        back = urlsplit(answer.headers["Location"])
    assert f"{back.scheme}://{back.netloc}" == OWN
    return f"{back.path}?{back.query}"


def settings_of(issuer: Issuer, **more: Any) -> dict[str, Any]:
    table = {"issuer": issuer.address, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "label": "Example"}
    if not {"allowed_domains", "allowed_groups"} & more.keys():
        more = {"allow_everybody": True} | more
    return {"auth": "accounts", "oidc": table | more}


async def signed_in(site: Site) -> Any:
    """Sign in by a new browser; return what it is told of itself."""
    browser = Browser(site)
    assert (await browser.sign_in()).headers["location"] == "/"
    return await browser.me()


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[tuple[Site, Issuer]]:
    """Open a server and its issuer."""
    async with open_issuer(OWN + CALLBACK) as issuer, open_site(folder, **settings_of(issuer)) as site:
        issuer.now_ms = site.clock.now_ms
        yield site, issuer


@asynccontextmanager
async def open_beside(folder: Path, issuer: Issuer, **more: Any) -> AsyncIterator[Site]:
    """Open another server that goes to an issuer, with its time."""
    async with open_site(folder, **settings_of(issuer, **more)) as site:
        site.clock.shift_ms = issuer.now_ms() - site.clock.now_ms()
        yield site


def begin_anew(house: tuple[Site, Issuer]) -> None:
    """Let the issuer do all rightly, an hour later: what was kept of it, or counted, is over; a new Ann is there."""
    site, issuer = house
    issuer.do_right()
    issuer.user = ANN | {"sub": secrets.token_hex(8)}
    site.clock.shift_ms += int(KEEP_S * 1000)

"""Which cookies count: over https those alone whose name begins with `__Host-`, and only for pages of https."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.page_world import OWN, Site, cookie_of, open_site

TLS = "https://localhost"
HOST = "__Host-legato_session"
SEEN = [
    {"x_forwarded_proto": "https"},
    {"origin": TLS},
    {"sec_fetch_site": "same-origin", "host": "chat.example"},
]
"""What tells that a page is on https."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        await opened.make_keys(ann="admin")
        yield opened


async def test_over_https_the_cookie_is_this_hosts_alone(site: Site) -> None:
    """With the prefix, for all paths, by TLS alone; a browser that brings it is signed in, however it is seen."""
    answer = await site.ask("POST", "/sign-in", {"key": site.keys["ann"]}, origin=TLS)
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == HOST
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=strict"} <= set(rest.split("; "))
    assert "Domain" not in rest
    cookie = cookie_of(answer)
    for headers in ({}, *SEEN):
        assert (await site.ask("GET", "/me", cookie=cookie, cookie_name=HOST, **headers)).status == 200
    ended = await site.ask("POST", "/sign-out", cookie=cookie, cookie_name=HOST, origin=TLS)
    assert ended.headers["set-cookie"].startswith(f'{HOST}="";')
    assert (await site.ask("GET", "/me", cookie=cookie, cookie_name=HOST)).status == 401


async def test_without_the_prefix_a_cookie_counts_over_plain_http_alone(site: Site) -> None:
    """A neighbouring host, or somebody on the way without TLS, could have put it there: it signs nobody in, or out."""
    cookie = await site.sign_in("ann")
    for headers in SEEN:
        assert (await site.ask("GET", "/me", cookie=cookie, **headers)).status == 401
    assert (await site.ask("POST", "/sign-out", cookie=cookie, origin=TLS)).status == 204
    assert (await site.ask("GET", "/me", cookie=cookie)).status == 200


async def test_a_page_without_tls_is_no_page_of_https(site: Site) -> None:
    """Somebody on the way can write it: where TLS is seen, its origin is another site's."""
    cookie = await site.sign_in("ann")
    seen = {"x_forwarded_proto": "https", "cookie_name": HOST}
    for method, path in (("POST", "/sign-in"), ("POST", "/conversations"), ("GET", "/me")):
        body = {"key": site.keys["ann"]} if path == "/sign-in" else {}
        refused = await site.ask(method, path, None if method == "GET" else body, cookie=cookie, origin=OWN, **seen)
        assert (refused.status, refused.json["code"]) == (403, "forbidden"), path
    assert (await site.ask("POST", "/conversations", {}, cookie=cookie, origin=TLS, **seen)).status == 201
    # A machine's own names are trusted without TLS.
    local = {"host": "bot.localhost:8000", "sec_fetch_site": "same-origin", "origin": "http://bot.localhost:8000"}
    assert (await site.ask("POST", "/conversations", {}, cookie=cookie, **local)).status == 201

"""The widget's page in its frame, and the script that puts it there: for whom, and with which key."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.asgi import call
from tests.page_world import Site, build_page, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with a key for ann, an admin; its page is built."""
    async with open_site(tmp_path, build_page(tmp_path / "web")) as opened:
        await opened.make_keys(ann="admin")
        yield opened


async def test_the_frame_is_for_the_keys_origins_alone(site: Site) -> None:
    """The browser shows it on no other site; it is the same page, as strict as ever."""
    key = await site.make_publishable("https://shop.example", "http://localhost:8000")
    answer = await call(site.api, "GET", f"/widget?key={key}", headers={"accept": "text/html"})
    assert (answer.status, b"index-abcd1234.js" in answer.body) == (200, True)
    policy = answer.headers["content-security-policy"]
    assert policy.endswith("; frame-ancestors http://localhost:8000 https://shop.example")
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "x-frame-options" not in answer.headers
    other = await site.make_publishable("https://other.example")
    second = await call(site.api, "GET", f"/widget?key={other}", headers={"if-none-match": answer.headers["etag"]})
    assert second.status == 200, "another key's page is another page"
    assert second.headers["content-security-policy"].endswith("frame-ancestors https://other.example")


async def test_a_secret_key_in_a_page_is_refused_with_words(site: Site) -> None:
    """Good or not, it is shown nowhere, and the page says what to do; it has no script."""
    secret = site.keys["ann"]
    for key in (secret, secret[:-1], "lk_000000000000_x"):
        answer = await call(site.api, "GET", f"/widget?key={key}")
        assert (answer.status, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert b"This key is secret" in answer.body
        assert key.encode() not in answer.body
        assert b"script" not in answer.body
        assert b"<code>legato keys revoke</code>" in answer.body
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        style = answer.body.partition(b"<style>")[2].partition(b"</style>")[0]
        assert f"'sha256-{b64encode(sha256(style).digest()).decode()}'" in policy
        assert answer.headers["cache-control"] == "no-store"


async def test_a_key_that_is_not_good_shows_no_chat(site: Site, tmp_path: Path) -> None:
    """Unknown, revoked, absent, or on a server without keys."""
    key = await site.make_publishable()
    await site.revoke(key)
    for query in (f"?key={key}", "?key=lp_x", "?key=", "", "?key=%00", "?key=" + "x" * 5000):
        answer = await call(site.api, "GET", f"/widget{query}")
        assert (answer.status, b"This chat is not open" in answer.body) == (403, True), query
    async with open_site(tmp_path / "open", build_page(tmp_path / "web2"), auth="none") as free:
        answer = await call(free.api, "GET", "/widget?key=lp_x")
        assert (answer.status, b"LEGATO_AUTH=keys" in answer.body) == (409, True)
        refused = await free.ask("POST", "/widget/visitors", {})
        assert (refused.status, refused.json["code"]) == (409, "conflict")


async def test_the_loader_is_for_every_site(site: Site) -> None:
    """One script, which other sites' pages may load; asked for anew, because its name never changes."""
    answer = await call(site.api, "GET", "/widget.js")
    assert (answer.status, answer.headers["cross-origin-resource-policy"]) == (200, "cross-origin")
    assert "javascript" in answer.headers["content-type"]
    known = {"if-none-match": answer.headers["etag"]}
    assert (await call(site.api, "GET", "/widget.js", headers=known)).status == 304

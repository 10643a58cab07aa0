"""The built page is served strictly, packed and kept, and nothing else of the disk is."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legato.http.edge import StreamingHttpProtocol
from tests.asgi import call, fetch, listening
from tests.page_world import Site, build_page, open_site

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SCRIPT = "/assets/index-abcd1234.js"
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "frame-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A server with keys whose page is built."""
    async with open_site(tmp_path, build_page(tmp_path / "web")) as opened:
        yield opened


def policy_of(headers: dict[str, str]) -> dict[str, str]:
    parts = [part.strip().partition(" ") for part in headers["content-security-policy"].split(";")]
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize("path", ["/", "/c/c-1", "/c/a%2Fb", "/admin", "/c/%F0%9F%8E%B5"])
async def test_a_page_is_open_to_all_and_strict(site: Site, path: str) -> None:
    """No key is asked for; no inline script runs, nothing is fetched from elsewhere, no frame shows it."""
    answer = await call(site.api, "GET", path, headers=HTML)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"index-abcd1234.js" in answer.body
    assert policy_of(answer.headers) == POLICY
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


async def test_who_does_not_ask_for_a_page_gets_words(site: Site, tmp_path: Path) -> None:
    """curl is told what to try, with a page and without one; caches know that it depends."""
    for headers in ({}, {"accept": "*/*"}, {"accept": "application/json"}):
        answer = await call(site.api, "GET", "/", headers=headers)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert b"curl -N http://localhost/chat/stream" in answer.body
        assert "accept" in answer.headers["vary"].lower()
    async with open_site(tmp_path / "bare") as bare:
        for path in ("/", "/c/c-1", "/admin"):
            answer = await call(bare.api, "GET", path, headers=HTML)
            assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert (await call(bare.api, "GET", SCRIPT)).status == 404
        assert (await call(bare.api, "GET", "/widget.js")).status == 404


async def test_a_page_is_asked_for_anew_and_told_apart_by_its_bytes(site: Site, tmp_path: Path) -> None:
    """A build of the same length and time, as wheels bring it, is not taken for the one before."""
    first = await call(site.api, "GET", "/admin", headers=HTML)
    known = HTML | {"if-none-match": first.headers["etag"]}
    again = await call(site.api, "GET", "/admin", headers=known)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    # A browser would take them in place of those that the page came with.
    assert "content-security-policy" not in again.headers
    assert "last-modified" not in first.headers
    index = tmp_path / "web" / "index.html"
    stat = index.stat()
    index.write_text(index.read_text().replace("abcd1234", "dcba4321"))
    os.utime(index, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = await call(site.api, "GET", "/admin", headers=known)
    assert (changed.status, b"dcba4321" in changed.body) == (200, True)


@pytest.mark.parametrize("takes", ["gzip, deflate, br", "*", "GZIP;q=0.5", "br, gzip; q=1"])
async def test_an_asset_is_kept_for_ever_and_packed(site: Site, takes: str) -> None:
    """Once per content; who takes no gzip gets it plain, and caches keep the two apart."""
    packed = await call(site.api, "GET", SCRIPT, headers={"accept-encoding": takes})
    plain = await call(site.api, "GET", SCRIPT, headers={"accept-encoding": "gzip;q=0, identity"})
    assert (packed.status, packed.headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 10
    assert packed.headers["content-length"] == str(len(packed.body))
    assert "content-encoding" not in plain.headers
    for answer in (packed, plain):
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "javascript" in answer.headers["content-type"]
    assert packed.headers["etag"] != plain.headers["etag"]
    for answer, encoding in ((packed, takes), (plain, "identity")):
        known = {"accept-encoding": encoding, "if-none-match": answer.headers["etag"]}
        assert (await call(site.api, "GET", SCRIPT, headers=known)).status == 304


@pytest.mark.parametrize(("name", "kind"), [("small-abcd1234.css", "text/css"), ("font-abcd1234.woff2", "font/woff2")])
async def test_what_gains_nothing_is_not_packed(site: Site, name: str, kind: str) -> None:
    """A few bytes, and what is packed already."""
    answer = await call(site.api, "GET", f"/assets/{name}", headers={"accept-encoding": "gzip"})
    assert (answer.status, "content-encoding" in answer.headers) == (200, False)
    assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize("path", ["/", "/admin", "/c/c-1", SCRIPT, "/widget.js"])
async def test_a_head_is_answered_without_a_body(site: Site, path: str) -> None:
    """With the same headers as a GET."""
    got = await call(site.api, "GET", path, headers=HTML)
    head = await call(site.api, "HEAD", path, headers=HTML)
    assert head.status == 200
    assert {name: head.headers[name] for name in ("content-type", "content-length")} == {
        name: got.headers[name] for name in ("content-type", "content-length")
    }


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../secret.txt",
        "/assets/../index.html",
        "/assets/%2e%2e/secret.txt",
        "/assets/..%2fsecret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fnode%2flegato.db",
        "/assets/..%5csecret.txt",
        "/assets//etc/passwd",
        "/assets/%2fetc%2fpasswd",
        "/assets/%00",
        "/assets/link.txt",
        "/assets/",
        "/assets/.",
        "/assets/" + "x" * 5000,
        "/assets/nothing-abcd1234.js",
    ],
)
async def test_nothing_beside_the_assets_is_served(site: Site, tmp_path: Path, path: str) -> None:
    """However the path is written, and where a link leads out of the folder."""
    (tmp_path / "outside.txt").write_text("outside")
    (tmp_path / "web" / "assets" / "link.txt").symlink_to(tmp_path / "outside.txt")
    answer = await call(site.api, "GET", path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_files_are_only_read(site: Site, method: str) -> None:
    """Any other method wants a key, as every route does, and is not allowed with one."""
    await site.make_keys(ann="admin")
    for path in (SCRIPT, "/admin", "/widget.js"):
        assert (await site.ask(method, path)).status == 401
        assert (await site.ask(method, path, key=site.keys["ann"])).status == 405


async def test_another_host_name_gets_no_page(tmp_path: Path) -> None:
    """Without keys, only loopback's names: no other name's page is of this server's origin (DNS rebinding)."""
    async with open_site(tmp_path, build_page(tmp_path / "web"), auth="none") as site:
        for path in ("/", "/admin", SCRIPT):
            assert (await call(site.api, "GET", path, headers={"host": "evil.example"})).status == 403
            assert (await call(site.api, "GET", path, headers=HTML)).status == 200


async def test_a_range_is_not_packed(site: Site) -> None:
    """Bytes of a file are those of the file."""
    answer = await call(site.api, "GET", SCRIPT, headers={"accept-encoding": "gzip", "range": "bytes=0-6"})
    assert (answer.status, answer.body) == (206, b"console")


@pytest.mark.parametrize(
    "asked",
    ["items=0-1", "bytes=", "bytes=x", "bytes=0-1,3-4", "bytes=\xb2-\xb3", "bytes=-", "bytes=" + "9" * 5000 + "-"],
)
async def test_what_is_no_range_is_passed_over(site: Site, asked: str) -> None:
    """The whole file is sent, with the headers that keep it strict."""
    answer = await call(site.api, "GET", SCRIPT, headers={"range": asked})
    assert (answer.status, len(answer.body)) == (200, len("console.log(1)\n" * 500))
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/admin", SCRIPT, "/assets/font-abcd1234.woff2", "/widget.js"])
async def test_a_real_connection_gets_the_same(site: Site, method: str, path: str) -> None:
    """Over the server's own protocol: as long as was said, with no body where none was asked for."""
    async with listening(site.api, StreamingHttpProtocol) as port:
        head, body = await fetch(port, method, path, headers=HTML | {"accept-encoding": "gzip"})
    asked = await call(site.api, "GET", path, headers=HTML | {"accept-encoding": "gzip"})
    assert (head.status, int(head["content-length"])) == (200, len(asked.body))
    assert body == (asked.body if method == "GET" else b"")

"""Markdown that means harm: nothing in it runs, nothing is fetched, while it comes and once it is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Dialog, Page, Request, expect

from legato.http.page_files import FOLDER
from tests.e2e.browser import LIMIT_MS, Visits, wait_until
from tests.e2e.chat import Chat, import_conversation
from tests.e2e.hostile import CUTS, DIAGRAMS, HOSTILE, WATCH
from tests.e2e.upstream import Upstream, open_upstream
from tests.server import ServerProcess

OWN = re.compile(
    r"^/($|c/|chat/|conversations|messages/|runs/|search|models$|me$|assets/[\w.-]+\.(js|css|svg|html|woff2)$)"
)
"""What the page asks for by itself."""


@dataclass
class Witness:
    """What was seen of one page while it showed something hostile."""

    page: Page
    asked: list[tuple[str, str]] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    popups: list[str] = field(default_factory=list)

    def refuse(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def note(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.asked.append((request.resource_type, request.url))

    def assert_harmless(self) -> None:
        assert self.page.evaluate("window.bad_") == []
        assert self.page.evaluate("window.seen_") > 0, "the watch saw nothing"
        assert self.page.evaluate("window.hacked") is None
        assert (self.dialogs, self.popups) == ([], [])
        strange = [
            (kind, url)
            for kind, url in self.asked
            if not OWN.match(urlsplit(url).path) or (kind in ("image", "media") and not url.endswith("/icon.svg"))
        ]
        assert strange == []
        origin = urlsplit(self.page.url).netloc
        assert {urlsplit(frame.url).netloc for frame in self.page.frames} == {origin}
        covering = "all => [...all.querySelectorAll('*')].filter(e => getComputedStyle(e).position === 'fixed').length"
        for article in self.page.locator("article [data-text]").all():
            assert article.evaluate(covering) == 0


def watch(chat: Chat) -> Witness:
    """Open the page anew with a watch in each of its frames."""
    witness = Witness(chat.page)
    page = chat.page
    page.add_init_script(f"({WATCH})()")
    page.on("dialog", witness.refuse)
    page.on("popup", lambda popup: witness.popups.append(popup.url))
    page.context.on("request", witness.note)
    page.goto(chat.server.address)
    return witness


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Upstream]]:
    """A server whose model means harm."""
    with open_upstream() as upstream:
        server = ServerProcess(tmp_path_factory.mktemp("evil"), {"rate_limit": "off"}, toml=upstream.toml).start()
        yield server, upstream
        server.kill()


def drawings(chat: Chat) -> list[str]:
    """The diagrams of the last reply as SVG, once each of them is drawn or given up."""
    done = chat.reply.locator("[data-diagram] img, [data-language=mermaid] + p")
    expect(done).to_have_count(len(DIAGRAMS), timeout=30_000)
    shown = chat.reply.locator("[data-diagram] img")
    return [unquote(each.get_attribute("src") or "") for each in shown.all()]


REFUSED = frozenset(("script", "foreignobject", "iframe", "image", "img", "object", "embed", "animate", "set"))
OUTSIDE = re.compile(r"url\(\s*[\"']?(?!#)|@import|expression\(", re.IGNORECASE)


def assert_inert(picture: str) -> None:
    """A picture that names no address and holds nothing that runs; words about it are words."""
    for element in ElementTree.fromstring(picture.partition(",")[2]).iter():
        tag = str(element.tag).rpartition("}")[2].lower()
        assert tag not in REFUSED, tag
        for name, value in element.attrib.items():
            local = name.rpartition("}")[2].lower()
            assert not local.startswith("on"), (tag, name)
            assert local not in ("href", "src") or value.startswith("#"), (tag, value)
            assert not OUTSIDE.search(value), (tag, name, value)
        if tag == "style":
            assert not OUTSIDE.search(element.text or ""), element.text


def test_hostile_markdown_that_streams_does_nothing(evil: tuple[ServerProcess, Upstream], visits: Visits) -> None:
    """Each state that is drawn on the way is as harmless as the end, and so is the same page loaded again."""
    server, upstream = evil
    upstream.text, upstream.piece, upstream.pause_s = HOSTILE, 17, 0.008
    chat = Chat(visits.open(server.address), server)
    witness = watch(chat)
    chat.send("Be bad.")
    expect(chat.reply).to_contain_text("The end.", timeout=30_000)
    chat.wait_done()
    for again in (False, True):
        if again:
            chat.page.reload()
            expect(chat.reply).to_contain_text("The end.")
        pictures = drawings(chat)
        assert len(pictures) >= len(DIAGRAMS) - 1
        for picture in pictures:
            assert_inert(picture)
        expect(chat.reply.get_by_text("Image “pixel” is not loaded")).to_be_visible()
        expect(chat.reply).not_to_contain_text("blocked")
        links = [link.get_attribute("href") or "" for link in chat.reply.locator("[data-text] a").all()]
        assert links, "harmless links stay links"
        assert all(re.match(r"https?://", link) for link in links)
        for link in chat.reply.locator("[data-text] a:not([href^='http://127.0.0.1'])").all():
            assert (link.get_attribute("target"), link.get_attribute("ping")) == ("_blank", None)
            assert "noopener" in (link.get_attribute("rel") or "")
        visits.wait_calm(chat.page)
        witness.assert_harmless()


def test_hostile_markdown_that_is_cut_does_nothing(evil: tuple[ServerProcess, Upstream], visits: Visits) -> None:
    """A reply that ends in mid-attack is as harmless, letter by letter."""
    server, upstream = evil
    chat = Chat(visits.open(server.address), server)
    witness = watch(chat)
    upstream.piece, upstream.pause_s = 1, 0.001
    for number, text in enumerate(CUTS, 10):
        upstream.text = f"Part {number}.\n\n{text}"
        chat.send(f"Be bad, {number}.")
        expect(chat.replies.filter(has_text=f"Part {number}.")).to_have_attribute("data-status", "complete")
        expect(chat.reply).to_contain_text(f"Part {number}.")
    visits.wait_calm(chat.page)
    witness.assert_harmless()


@pytest.mark.parametrize("typed", [False, True], ids=["kept", "typed"])
def test_hostile_markdown_that_is_kept_does_nothing(visits: Visits, chat: Chat, typed: bool) -> None:
    """In a reply that is there already, or in what a person writes."""
    witness = watch(chat)
    turn = (HOSTILE, "Noted.") if typed else ("Be bad.", HOSTILE)
    identifier = import_conversation(chat.server, "<script>window.hacked=50</script><img src=x>", turn)
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    expect(chat.reply.get_by_role("button", name="Answer again")).to_be_visible()
    if not typed:
        drawings(chat)
    visits.wait_calm(chat.page)
    witness.assert_harmless()


def test_the_policy_of_contents_is_strict(chat: Chat) -> None:
    """No inline script, no eval, no other host: not in the page, and not in the frame that draws diagrams."""
    response = chat.page.request.get(chat.server.address, headers={"accept": "text/html"})
    policy = response.headers["content-security-policy"]
    script = re.search(r"script-src ([^;]*)", policy)
    assert script is not None
    assert script[1].strip() == "'self'"
    assert "unsafe-" not in policy
    assert "http:" not in policy
    frame = (FOLDER / "assets" / "diagram.html").read_text()
    found = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', frame)
    assert found is not None
    assert frame.index(found[0]) < frame.index("<script"), "the policy comes after what it is for"
    rules = dict(part.strip().partition(" ")[::2] for part in found[1].split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


ATTEMPTS = {
    "inline script": "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
    "document.body.append(s)",
    "handler": "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.ran = 1\">b</b>');"
    "document.querySelector('b').click()",
    "eval": "setTimeout('window.ran = 1', 0)",
    "picture": "document.body.style.backgroundImage = 'url(https://evil.test/i.png)'",
    "fetch": "await fetch('https://evil.test/f').catch(() => 0)",
    "own fetch": "await fetch('/me').catch(() => 0)",
    "style": "const l = document.createElement('link'); l.rel = 'stylesheet'; l.href = 'https://evil.test/l.css';"
    "document.head.append(l)",
    "frame": "const f = document.createElement('iframe'); f.src = 'https://evil.test/'; document.body.append(f)",
    "form": "const f = document.createElement('form'); f.action = 'https://evil.test/';"
    "document.body.append(f); f.submit()",
    "base": "const b = document.createElement('base'); b.href = 'https://evil.test/'; document.head.append(b);"
    "window.ran = document.baseURI.includes('evil') || undefined",
}


def test_the_frame_of_diagrams_lets_nothing_out(chat: Chat, visits: Visits) -> None:
    """Code that did get to run in it could start no script, and reach nobody."""
    visits.allow(chat.page, "Content Security Policy", "Content-Security-Policy")
    page = chat.page
    asked: list[str] = []
    page.goto(f"{chat.server.address}/assets/diagram.html")
    page.context.on("request", lambda request: asked.append(request.url))
    page.context.on(
        "requestfailed",
        lambda request: asked.remove(request.url) if request.failure == "csp" and request.url in asked else None,
    )
    for name, attempt in ATTEMPTS.items():
        stopped = page.evaluate(f"""async () => {{
          const stopped = new Promise((resolve) => {{
            addEventListener("securitypolicyviolation", () => resolve(true), {{ once: true }});
            setTimeout(() => resolve(false), {LIMIT_MS});
          }});
          await (async () => {{ {attempt} }})();
          return stopped;
        }}""")
        assert stopped, f"{name}: the policy let it pass"
        assert page.evaluate("window.ran") is None, name
    # That a request was stopped is told behind it.
    wait_until(page, lambda: not asked, f"asked for {asked}")
    visits.watched(page).foreign.clear()


class Inline(HTMLParser):
    """Scripts, handlers and styles that stand in a page itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.found += [f"<{tag} {name}>" for name in names if name.startswith("on") or name == "style"]
        self.found += [f"<{tag} {name}>" for name, value in attrs if (value or "").strip().startswith("javascript:")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(f"<{tag}>")
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "script" and data.strip():
            self.found.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_no_built_page_holds_a_script_of_its_own() -> None:
    """Neither does one need `unsafe-inline` for what it is made of."""
    pages = sorted(FOLDER.rglob("*.html"))
    assert [path.relative_to(FOLDER) for path in pages] == [Path("assets/diagram.html"), Path("index.html")]
    for path in pages:
        inline = Inline()
        inline.feed(path.read_text())
        assert inline.found == [], path

"""What a person does on the chat page, and what they see of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, Page, Response, expect

from legato.providers import scripted
from tests.client import Client
from tests.e2e.browser import wait_until
from tests.server import ServerProcess

UNDER_WAY = ("running", "queued", "sending")
"""A reply's status while it is being made."""


class Chat:
    """One page of one server."""

    def __init__(self, page: Page, server: ServerProcess) -> None:
        self.page = page
        self.server = server

    @property
    def field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def replies(self) -> Locator:
        return self.page.locator("[data-role=assistant]")

    @property
    def reply(self) -> Locator:
        return self.replies.last

    @property
    def sidebar(self) -> Locator:
        return self.page.get_by_test_id("sidebar")

    @property
    def conversation_id(self) -> str:
        found = re.search(r"/c/([^/#]+)", self.page.url)
        assert found, f"no conversation is shown at {self.page.url}"
        return found[1]

    def send(self, text: str) -> None:
        self.field.fill(text)
        # Not before it has let go of the last reply.
        expect(self.button("Send")).to_be_enabled()
        self.field.press("Enter")

    def say(self, text: str) -> Locator:
        """Send a message and wait until the reply to it has ended."""
        before = self.replies.count()
        self.send(text)
        expect(self.replies).to_have_count(before + 1)
        self.wait_done()
        return self.reply

    def wait_done(self, status: str = "complete") -> None:
        """Wait until the last reply has this status; where that is an end, until something else can be done, too."""
        expect(self.reply).to_have_attribute("data-status", status)
        if status not in UNDER_WAY:
            expect(self.button("Stop")).to_have_count(0)

    def wait_begun(self, seed: int = 0) -> None:
        """Wait until the first word of the scripted model is there."""
        expect(self.reply).to_contain_text(f"{seed}.0")

    def shown(self, seed: int) -> list[int]:
        """The numbers of the scripted model's tokens in the last reply, as they stand on the page."""
        text = self.reply.locator("[data-text]").inner_text()
        return [int(number) for number in re.findall(rf"(?<!\d){seed}\.(\d+)", text)]

    def expect_tokens(self, seed: int, tokens: int) -> None:
        """The last reply is whole: on the server letter by letter, and on the page what the server has."""
        expect(self.reply).to_contain_text(f"{seed}.{tokens - 1}")
        assert self.shown(seed) == list(range(tokens))
        if (said := self.transcript()) is not None:
            assert said == scripted.reply(seed, tokens)
            assert squeezed(self.reply.locator("[data-text]").inner_text()) == squeezed(said)

    def transcript(self) -> str | None:
        """The server's text of the last reply, once it has ended; None while it is being made."""
        if self.reply.get_attribute("data-status") in UNDER_WAY:
            return None
        found: list[str] = []

        def is_there() -> bool:
            identifier = self.reply.get_attribute("data-message")
            found.extend(str(message["content"]) for message in self._messages() if message["id"] == identifier)
            return bool(found)

        wait_until(self.page, is_there, "the server does not have the last reply")
        return found[0]

    def _messages(self) -> Iterator[dict[str, Any]]:
        # With the page's own cookies.
        path = f"{self.server.address}/conversations/{self.conversation_id}/messages?limit=200"
        cursor: str | None = ""
        while cursor is not None:
            page = self.page.request.get(f"{path}{cursor}").json()
            yield from page["messages"]
            cursor = f"&cursor={page['nextCursor']}" if page["nextCursor"] else None

    @contextmanager
    def answered(self, method: str, words: str = "") -> Iterator[None]:
        """Do inside what the page shows at once; behind it the server has it.

        Args:
            words: Stand in the body of the request.
        """

        def fits(response: Response) -> bool:
            return response.request.method == method and words in (response.request.post_data or "")

        with self.page.expect_response(fits) as answer:
            yield
        assert answer.value.ok, answer.value.status

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def menu(self, opener: Locator, item: str) -> None:
        """Open a menu and choose from it."""
        opener.click()
        self.page.get_by_role("menuitem", name=item, exact=True).click()

    def row(self, title: str) -> Locator:
        return self.sidebar.get_by_role("link", name=title, exact=True)

    def choose(self, title: str, item: str) -> None:
        """Choose from the menu of a conversation in the list."""
        self.row(title).hover()
        self.menu(self.sidebar.get_by_role("button", name=f"Actions for “{title}”"), item)


def squeezed(text: str) -> str:
    """The letters of a text of the scripted model, without the marks that its Markdown is made of."""
    return re.sub(r"\s+", "", re.sub(r"^- ", "", text, flags=re.MULTILINE))


def import_conversation(server: ServerProcess, title: str, *turns: tuple[str, str]) -> str:
    """Make a conversation of these messages and replies; return its id."""
    messages: list[dict[str, Any]] = []
    for number, (question, reply) in enumerate(turns):
        for role, text in (("user", question), ("assistant", reply)):
            messages.append(
                {
                    "id": f"{role}-{number}",
                    "role": role,
                    "content": text,
                    "parts": [{"type": "text", "text": text}],
                    "timestamp": 1_790_000_000_000 + len(messages),
                    "status": "complete",
                    "parentId": messages[-1]["id"] if messages else None,
                }
            )
    document = {
        "format": "legato.conversation",
        "version": 1,
        "exportedAt": 1_790_000_000_000,
        "conversation": {"title": title},
        "messages": messages,
    }
    with Client(server.port) as client:
        answer = client.ask("POST", "/conversations/import", document)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

"""A conversation as a file, and back: nothing of it is lost or changed on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.client import Client
from tests.e2e.browser import Visits
from tests.e2e.chat import Chat, import_conversation
from tests.server import ServerProcess

TITLE = "Grüße aus 東京 🎵 <b>& “Zitate”"
CODE = r"""Here:

```python
print('naïve', "東京")  # <b>
	if a & b: \n
```

| a | b |
| --- | --- |
| \| | `x` |"""


def download(chat: Chat, item: str, path: Path) -> str:
    with chat.page.expect_download() as saved:
        chat.menu(chat.button("Export"), item)
    saved.value.save_as(path)
    return path.read_text("utf-8")


def shape(document: dict[str, Any]) -> dict[str, Any]:
    """What a document says, with places instead of ids, which are other ones after an import."""
    places = {message["id"]: place for place, message in enumerate(document["messages"])}
    kept = ("role", "content", "parts", "timestamp", "status", "model", "usage", "feedback")
    conversation = document["conversation"]
    return {
        "conversation": {name: conversation[name] for name in ("title", "systemPrompt", "temperature", "model")},
        "leaf": places[conversation["leafId"]],
        "messages": [
            {name: message.get(name) for name in kept} | {"parent": places.get(message["parentId"])}
            for message in document["messages"]
        ],
    }


def branch(server: ServerProcess, identifier: str) -> list[dict[str, Any]]:
    with Client(server.port) as client:
        return list(client.get(f"/conversations/{identifier}/messages")["messages"])


def test_an_export_can_be_imported(bot: ServerProcess, visits: Visits, tmp_path: Path) -> None:
    """Branches, tool calls, code, thumbs and letters of all kinds: the document is the server's, and so is its copy."""
    identifier = import_conversation(bot, TITLE, ("How in Python?", CODE))
    with Client(bot.port) as client:
        client.ask("PATCH", f"/conversations/{identifier}", {"systemPrompt": "Sei knapp. 🎵", "temperature": 0.5})
    chat = Chat(visits.open(bot.address, path=f"/c/{identifier}", height=2400), bot)
    expect(chat.reply).to_contain_text("Here:")
    chat.page.locator("[data-role=user]").hover()
    chat.button("Edit").click()
    chat.page.get_by_role("textbox", name="Edit your message").fill("script: seed=92 tokens=5")
    chat.page.keyboard.press("Enter")
    expect(chat.reply).to_contain_text("92.4")
    chat.wait_done()
    # A message follows the branch that the server knows to be shown.
    with chat.answered("PATCH", "leafId"):
        chat.button("Previous version").click()
    expect(chat.reply).to_contain_text("Here:")
    chat.say('script: seed=91 tokens=24 tool=look_up:{"word":"Ebbe\\u002f東京"}')
    chat.button("Answer again").last.click()
    chat.page.get_by_role("group", name="Version 2 of 2").last.wait_for()
    chat.wait_done()
    chat.button("Good reply").last.click()
    chat.page.get_by_role("textbox", name="Your reason").fill("Très bien.")
    with chat.answered("PUT", "Très bien."):
        chat.page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(chat.button("Good reply").last).to_have_attribute("aria-pressed", "true")

    path = tmp_path / "saved.json"
    document = json.loads(download(chat, "Export as JSON", path))
    said = shape(document)
    assert [(each["role"], each["parent"]) for each in said["messages"]] == [
        ("user", None),
        ("assistant", 0),
        ("user", None),
        ("assistant", 2),
        ("user", 1),
        ("assistant", 4),
        ("assistant", 4),
    ]
    active = branch(bot, identifier)
    by_id = {message["id"]: message for message in document["messages"]}
    assert [by_id[each["id"]]["content"] for each in active] == [each["content"] for each in active]
    assert said["messages"][1]["content"] == CODE
    kinds = [part["type"] for part in said["messages"][6]["parts"]]
    assert kinds[:2] == ["tool-call", "tool-result"]
    assert "東京" in said["messages"][6]["parts"][0]["arguments"]
    assert said["messages"][6]["feedback"]["reason"] == "Très bien."

    text = download(chat, "Export as Markdown", tmp_path / "saved.md")
    expected = [f"# {TITLE}"]
    for message in active:
        expected.append("## You" if message["role"] == "user" else f"## {message['model'] or 'Assistant'}")
        for part in message["parts"]:
            if part["type"] == "text" and part["text"].strip():
                expected.append(part["text"].strip())
            elif part["type"] == "tool-call":
                expected.append(f"*Tool: {part['name']}*")
    assert text == "\n\n".join([*expected, ""])
    assert CODE in text

    chat.page.get_by_label("Import a conversation").set_input_files(path)
    chat.page.wait_for_url(lambda url: "/c/" in url and identifier not in url)
    expect(chat.page.get_by_role("heading", level=1)).to_have_text(TITLE)
    expect(chat.replies).to_have_count(2)
    copy = json.loads(download(chat, "Export as JSON", tmp_path / "copy.json"))
    assert shape(copy) == said
    assert not {each["id"] for each in copy["messages"]} & set(by_id)
    # The branches are there for a person, too.
    expect(chat.page.get_by_role("group", name="Version 1 of 2")).to_be_visible()
    expect(chat.page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    expect(chat.reply.locator("[data-tool=look_up]")).to_have_attribute("data-stage", "done")
    expect(chat.button("Good reply").last).to_have_attribute("aria-pressed", "true")
    with Client(bot.port) as client:
        assert client.get(f"/conversations/{chat.conversation_id}")["retention"] == "keep"


def test_a_file_has_a_name_that_every_system_takes(chat: Chat, tmp_path: Path) -> None:
    """The title, without what some systems refuse."""
    identifier = import_conversation(chat.server, 'a/b\\c: "d" <e>?', ("Hello", "Hello."))
    chat.page.goto(f"{chat.server.address}/c/{identifier}")
    with chat.page.expect_download() as saved:
        chat.menu(chat.button("Export"), "Export as Markdown")
    assert saved.value.suggested_filename == "a b c d e.md"


def test_what_is_no_export_is_refused_in_words(chat: Chat, tmp_path: Path) -> None:
    """A file that is no conversation says why."""
    path = tmp_path / "wrong.json"
    path.write_text("not json")
    chat.page.get_by_label("Import a conversation").set_input_files(path)
    expect(chat.page.get_by_test_id("toast")).to_contain_text("not JSON")

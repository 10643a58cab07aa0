"""Search over titles and texts: what is found, what never is, and what it costs whom."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import ASGIApp

from legato.app import open_node
from legato.core.principal import Principal
from legato.core.search_text import Phrase, snippet_of
from legato.http.api import create_api
from legato.runs.conversations import Conversations
from legato.runs.imports import ImportedConversation, ImportedMessage, Imports
from legato.runs.node import Node
from legato.runs.search import LOOKED_CHARS, Search, write_next
from legato.storage.search_index import PAGE_CHARS, IndexPage, read_page, write_page
from legato.storage.statement import Transaction
from tests.asgi import call
from tests.client import Client
from tests.conftest import OpenNode, node_settings
from tests.guarded import Guarded
from tests.statements import execute, query

ANN, BEN = Principal(id="ann", role="member"), Principal(id="ben", role="member")


@pytest.fixture(params=["sqlite", "postgresql"])
def open_test_node(request: pytest.FixtureRequest, tmp_path: Path) -> OpenNode:
    """Opens a node on either database."""
    at: dict[str, Any] = {}
    if request.param == "postgresql":
        at["database_url"] = request.getfixturevalue("node_database_url")
    return lambda **settings: open_node(node_settings(tmp_path / "node", **at, **settings))


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is written by these tests alone, not once a second too."""
    monkeypatch.setattr("legato.runs.search.PERIOD_S", 3600)


async def say(node: Node, *texts: str, principal: Principal = ANN, title: str = "", at_ms: int | None = None) -> str:
    """Take a conversation in with these texts, the user's and the model's in turn; return its id."""
    messages = [
        ImportedMessage(
            id=str(number),
            parent_id=str(number - 1) if number else None,
            role="assistant" if number % 2 else "user",
            parts=[{"type": "text", "text": text}],
            status="complete",
            model=None,
            usage=None,
            usd=None,
            feedback=None,
            metadata=None,
            created_at_ms=at_ms,
        )
        for number, text in enumerate(texts)
    ]
    given = ImportedConversation(
        title=title,
        title_source="user",
        system_prompt=None,
        model=None,
        temperature=None,
        max_tokens=None,
        metadata=None,
        retention="default",
        pinned=False,
        archived=False,
        leaf_id=None,
        created_at_ms=at_ms,
        messages=messages,
    )
    return (await Imports(node, principal).add(given)).id


async def found(node: Node, query: str, principal: Principal = ANN) -> list[str]:
    """The snippets of what is found, the index complete, with brackets for marks."""
    while await write_next(node):
        pass
    page = await Search(node, principal).find(query, limit=1000)
    return [each.snippet.replace("\ue000", "[").replace("\ue001", "]") for each in page.results]


async def rows(node: Node, sql: str) -> list[tuple[Any, ...]]:
    return await node.database.read(lambda tx: query(tx, sql))


QUERIES = [
    ("muller", ["Grüße an [Müller]"]),
    ("MÜLL grüs", ["[Grüße] an [Müller]"]),
    ("GRUSSE müller", ["[Grüße] an [Müller]"]),
    ("grüße mueller", []),
    ("datenb", ["Eine [Datenbank] für Daten"]),
    ("bank", []),
    ("喜欢", ["我[喜欢]猫"]),
    ("欢喜", []),
    ("猫", ["我喜欢[猫]"]),
    ("ねこ", ["[ねこ]がいる"]),
    ("학교", ["[학교]에서 공부"]),
    ('"für Daten"', ["Eine Datenbank [für Daten]"]),
    ('"für Dat"', []),
    ("zzz", []),
    ("'; DROP TABLE message; --", []),
    ('NEAR("a" b) OR x* ^y {words}: -z', []),
    ("*", []),
    ("\ue000", []),
]


@pytest.mark.parametrize(("query", "snippets"), QUERIES, ids=[query[:12] for query, _ in QUERIES])
async def test_texts_are_found_as_people_write(node: Node, query: str, snippets: list[str]) -> None:
    """Umlauts, beginnings of words, phrases, scripts without spaces; nothing typed is an operator."""
    await say(
        node, "Grüße an Müller", "Eine Datenbank für Daten", "我喜欢猫", "ねこがいる", "학교에서 공부", "x", title="-"
    )
    assert await found(node, query) == snippets


async def test_titles_are_found_and_follow_their_changes(node: Node) -> None:
    """A person's, the first words, an empty conversation's; an old one is not found any more."""
    conversations = Conversations(node, ANN)
    await conversations.create("empty", title="Leere Zebras")
    name = await say(node, "Erste Frage", "Antwort")
    assert await found(node, "zebra") == ["Leere [Zebras]"]
    assert await found(node, "erste") == ["[Erste] Frage", "[Erste] Frage"]
    await conversations.change(name, title="Giraffen")
    await conversations.change("empty", title="Löwen")
    assert await found(node, "zebra") == []
    assert await found(node, "erste") == ["[Erste] Frage"]
    page = await Search(node, ANN).find("lowen")
    assert [(each.conversation.id, each.message_id) for each in page.results] == [("empty", None)]
    assert await found(node, "giraf") == ["[Giraffen]"]
    await conversations.change(name, title=None)
    assert await found(node, "giraf") == []
    await conversations.fork(name, copy_id="copy", title="Kopie")
    assert await found(node, "antwort") == ["[Antwort]", "[Antwort]"]
    assert await found(node, "kopi") == ["[Kopie]"]


async def test_a_turn_is_found_when_it_has_been_said(node: Node) -> None:
    """The message at once, the reply when it has ended; the search itself writes what is missing."""
    api = create_api(node)
    task = asyncio.create_task(
        call(api, "POST", "/chat/stream", {"message": "script: seed=1 tokens=9 stall=1", "conversationId": "c"})
    )
    while not node.live or not next(iter(node.live.values())).tail.log.text_bytes:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    local = Principal(id="local", role="admin")
    results = (await Search(node, local).find("script")).results
    assert [each.message_id is None for each in results] == [True, False]
    assert (await rows(node, "SELECT count(*) FROM search_due")) == [(1,)]
    said = next(iter(node.live.values())).tail.log.text
    await call(api, "POST", f"/chat/stream/{next(iter(node.live))}/stop")
    await task
    word = said.split()[0].rstrip("0123456789.")
    results = (await Search(node, local).find(word)).results
    replies = (await Conversations(node, local).messages("c")).messages
    assert replies[1].id in [each.message_id for each in results]
    assert (await rows(node, "SELECT count(*) FROM search_due")) == [(0,)]


async def test_another_owners_texts_are_never_found(node: Node) -> None:
    """Not by the same words, nor by the words as they stand in the index."""
    await say(node, "gemeinsam Geheimnis", "ja", principal=BEN)
    mine = await say(node, "gemeinsam", "ja")
    assert await found(node, "gemeinsam") == ["[gemeinsam]", "[gemeinsam]"]
    assert {each.conversation.id for each in (await Search(node, ANN).find("gemeinsam")).results} == {mine}
    assert await found(node, "geheim") == []
    ((mark,),) = await rows(node, "SELECT DISTINCT mark FROM search_entry WHERE owner = 'ben'")
    assert await found(node, f"{mark}geheimnis") == []
    assert await found(node, mark) == []
    assert len(await rows(node, "SELECT DISTINCT mark FROM search_entry")) == 2


async def test_owners_with_one_mark_are_told_apart(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are short: what two might share gives nothing away."""
    for module in ("search", "search_index"):
        monkeypatch.setattr(f"legato.storage.{module}.mark_of", lambda owner: "x")
    await say(node, "Geheimnis", "ja", principal=BEN)
    assert await found(node, "geheim") == []
    assert await found(node, "geheim", BEN) == ["[Geheimnis]", "[Geheimnis]"]


async def test_a_deleted_conversation_leaves_nothing_in_the_index(node: Node) -> None:
    """Neither rows nor words; what is said next, under the same keys, is found."""
    for _ in range(3):
        name = await say(node, "Elefant", "ja", title="Tiere")
        assert await found(node, "elefant") == ["[Elefant]"]
        await Conversations(node, ANN).delete(name)
        assert await found(node, "elefant") == []
        assert await rows(node, "SELECT count(*) FROM search_entry") == [(0,)]
        if node.database.kind == "sqlite":
            left = 'SELECT count(*) FROM search_index WHERE search_index MATCH \'"a" * OR "0" *\''
            assert await rows(node, left) == [(0,)]


async def test_retention_takes_index_rows_along(open_test_node: OpenNode) -> None:
    """As any other delete."""
    async with open_test_node(conversation_idle_h=1) as node:
        await say(node, "Elefant", "ja")
        assert await found(node, "elefant") == ["[Elefant]", "[Elefant]"]

        def age(tx: Transaction) -> None:
            execute(tx, "UPDATE conversation SET last_message_at_ms = 1")

        await node.committer.write(age)
        assert await Conversations(node, ANN).expire() == 1
        assert await found(node, "elefant") == []
        assert await rows(node, "SELECT count(*) FROM search_entry") == [(0,)]


async def test_a_page_that_became_stale_is_not_written(node: Node) -> None:
    """Another page, or a delete, in between: nothing is written twice, or of what is another's by now."""
    name = await say(node, "Elefant", "ja")
    page = await node.database.read(read_page)
    assert page is not None
    assert await node.committer.write(lambda tx: write_page(tx, page))
    assert not await node.committer.write(lambda tx: write_page(tx, page))
    await say(node, "Igel", "ja")
    stale = await node.database.read(read_page)
    await Conversations(node, ANN).delete(name)

    def write(tx: Transaction, page: IndexPage | None = stale) -> bool:
        assert page is not None
        return write_page(tx, page)

    # Keys are given again on SQLite alone: there a delete makes the whole page stale, elsewhere what is gone of it.
    assert not await node.committer.write(write) or node.database.kind == "postgresql"
    assert await found(node, "elefant") == []
    assert await found(node, "igel") == ["[Igel]", "[Igel]"]


async def test_what_was_there_before_the_index_is_found(open_test_node: OpenNode) -> None:
    """After an update of the server everything is indexed behind the scenes; a restart in between goes on."""
    async with open_test_node() as node:
        await say(node, *["Elefant"] * 50, title="alt")
        assert await write_next(node)

        def forget(tx: Transaction) -> None:
            execute(tx, "DELETE FROM search_entry")
            if tx.database == "sqlite":
                execute(tx, "UPDATE search_place SET done_key = 0")
            else:
                execute(tx, "DELETE FROM search_due")
                again = (
                    "INSERT INTO search_due (conversation_key, message_key) SELECT conversation_key, key FROM message"
                )
                execute(tx, again)

        await node.committer.write(forget)
        assert await write_next(node)
    async with open_test_node() as node:
        assert await found(node, "elefant") == ["[Elefant]"] * 50
        assert await found(node, "alt") == ["[alt]"]


async def test_pages_of_the_index_are_small(node: Node) -> None:
    """Whatever comes at once: others write in between."""
    await say(node, *["wort " * 1000] * 8)
    sizes = []
    while (page := await node.database.read(read_page)) is not None:
        sizes.append(sum(len(entry.words) for entry in page.entries))
        assert await write_next(node) or page.done_key or page.done_dues
    assert len(sizes) >= 3
    assert max(sizes) < PAGE_CHARS + 5000


async def test_results_come_in_pages_the_latest_first(node: Node) -> None:
    """Every one once, by the time of the text, whenever it was taken in."""
    names = [await say(node, f"Elefant {at}", "ja", title="-", at_ms=at * 1000) for at in (3, 1, 2, 2)]
    cursor, seen = None, []
    await found(node, "elefant")
    while True:
        page = await Search(node, ANN).find("elefant", cursor=cursor, limit=1)
        seen += [(each.at_ms // 1000, each.conversation.id) for each in page.results]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [at for at, _ in seen] == [3, 2, 2, 1]
    assert {name for _, name in seen} == set(names)


async def test_a_page_of_long_texts_takes_no_seconds(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are long and have what is found at their end; the words around it are shown all the same."""
    looked: list[int] = []

    def counting(text: str, phrases: list[Phrase]) -> str:
        looked.append(len(text))
        return snippet_of(text, phrases)

    monkeypatch.setattr("legato.runs.search.snippet_of", counting)
    texts = ["Das ist kurz, Elefant", *["wort " * 20_000 + "vor dem Elefant ist es leer"] * 9, "ist " * 50_000]
    await say(node, *texts, "Noch ein Elefant", title="-")
    snippets = await found(node, "elefant")
    assert len(snippets) == 11
    assert all("[Elefant]" in snippet for snippet in snippets)
    assert sum(snippet.endswith("vor dem [Elefant] ist es leer") for snippet in snippets) == 9
    assert sum(looked) <= LOOKED_CHARS


async def test_many_texts_of_one_millisecond_all_have_a_place(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all salts are equal too."""
    monkeypatch.setattr("legato.storage.search_index.random.getrandbits", lambda bits: 7)
    await say(node, *["Elefant"] * 30, at_ms=1000)
    assert len(await found(node, "elefant")) == 31


async def test_temporary_conversations_are_never_found(node: Node) -> None:
    """Neither title nor texts."""
    api: ASGIApp = create_api(node)
    await call(api, "POST", "/conversations", {"id": "t", "title": "Elefant", "temporary": True})
    await call(api, "POST", "/chat/stream", {"message": "Elefant und script: tokens=1", "conversationId": "t"})
    assert await found(node, "elefant", Principal(id="local", role="admin")) == []
    await call(api, "POST", "/conversations/t/fork", {"id": "t2", "title": "Elefant"})
    assert (await call(api, "GET", "/conversations/t2")).json["temporary"] is True
    assert await found(node, "elefant", Principal(id="local", role="admin")) == []
    assert await rows(node, "SELECT count(*) FROM search_entry") == [(0,)]


def test_the_route_shows_conversation_message_and_snippet(client: Client) -> None:
    """Over HTTP, with plain text in the snippet."""
    word = f"w{uuid.uuid4().hex}"
    stream = client.post(f"<b>{word}</b> script: tokens=1")
    stream.rest()
    name = stream["x-conversation-id"]
    answer = client.get(f"/search?q={word[:20].upper()}")
    assert answer["nextCursor"] is None
    title, message = answer["results"]
    assert title["messageId"] is None
    assert message["conversation"] == client.get(f"/conversations/{name}")
    first = client.get(f"/conversations/{name}/messages")["messages"][0]
    assert (message["messageId"], message["at"]) == (first["id"], first["timestamp"])
    assert f"<b>\ue000{word}\ue001</b>" in message["snippet"]


BAD = [
    "",
    "?q=",
    f"?q={'x' * 201}",
    "?q=x&limit=0",
    "?q=x&limit=201",
    "?q=x&cursor=a",
    "?q=x&cursor=-1",
    "?q=x&cursor=²",
]


@pytest.mark.parametrize("query", BAD)
def test_a_bad_query_is_refused(client: Client, query: str) -> None:
    """With 422, and the field is named."""
    answer = client.ask("GET", "/search" + quote(query, safe="?&="))
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert answer.json["errors"][0]["field"] in ("q", "limit", "cursor")


@pytest.mark.parametrize("text", ["%00", "%ff%fe", "\U0001f600", '"', '""', "\\", "a" * 200, "%ed%a0%80", "9" * 19])
def test_any_text_may_be_looked_for(client: Client, text: str) -> None:
    """Nothing of it is the server's mistake."""
    path = text if text.startswith("%") else quote(text)
    assert client.ask("GET", f"/search?q={path}").status == 200
    assert client.ask("GET", f"/search?q=x&cursor={'9' * 19}").status == 200


def test_owners_find_their_own_over_http(guarded: Guarded) -> None:
    """By key; without one nothing is said."""
    word = f"w{uuid.uuid4().hex}"
    guarded.client("ann").post(f"{word} script: tokens=1").rest()
    assert len(guarded.client("ann").get(f"/search?q={word}")["results"]) == 2
    assert guarded.client("ben").get(f"/search?q={word}")["results"] == []
    assert guarded.client(None).ask("GET", f"/search?q={word}").status == 401

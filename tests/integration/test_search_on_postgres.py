"""What the search does on PostgreSQL alone: several nodes write one index, and vectors have an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legato.app import open_node
from legato.core.search_text import phrases_of
from legato.runs.conversations import Conversations
from legato.runs.node import Node
from legato.runs.search import Search, write_next
from legato.storage.search import LATEST_KEY
from legato.storage.search_index import mark_of
from legato.storage.search_postgres import FIND, spell_query
from tests.conftest import node_settings
from tests.integration.test_search import ANN, found, say
from tests.postgres import Postgres
from tests.statements import query


@pytest.fixture
async def nodes(node_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Node]]:
    """Two nodes over one database, whose index is written by the test alone."""
    monkeypatch.setattr("legato.runs.search.PERIOD_S", 3600)
    async with (
        open_node(node_settings(tmp_path / "a", database_url=node_database_url)) as first,
        open_node(node_settings(tmp_path / "b", database_url=node_database_url)) as second,
    ):
        yield [first, second]


async def test_two_nodes_write_one_index_beside_deletes(nodes: list[Node]) -> None:
    """Each text is in it once, nothing of a deleted conversation is, and nobody runs into another."""
    names = [await say(nodes[number % 2], f"Elefant {number}", "ja", title="-") for number in range(60)]

    async def write(node: Node) -> None:
        while await write_next(node):
            pass

    async def delete(node: Node, mine: list[str]) -> None:
        for name in mine:
            await Conversations(node, ANN).delete(name)

    await asyncio.gather(*map(write, nodes), delete(nodes[0], names[:20]), delete(nodes[1], names[20:40]))
    for node in nodes:
        snippets = await found(node, "elefant")
        assert sorted(snippets) == sorted(f"[Elefant] {number}" for number in range(40, 60))
    assert await nodes[0].database.read(lambda tx: query(tx, "SELECT count(*) FROM search_due")) == [(0,)]


async def test_what_was_said_at_one_node_is_found_at_another(nodes: list[Node]) -> None:
    """At once: a search writes what is missing, wherever it was said."""
    name = await say(nodes[0], "Elefant", "ja")
    (result, title) = (await Search(nodes[1], ANN).find("elef")).results
    assert (result.conversation.id, title.conversation.id) == (name, name)


async def test_a_text_of_very_many_words_is_found_by_its_beginning(nodes: list[Node]) -> None:
    """A vector takes a million bytes; more words than that are cut, and hold up nobody else's."""
    marks = [chr(code) for code in (*range(0x4E00, 0x9FFF), *range(0x20000, 0x2A6D0), *range(0x2A700, 0x2EBE0))]
    await say(nodes[0], "".join(marks), "Elefant")
    assert await found(nodes[0], "elefant") == ["[Elefant]"]
    assert len(await found(nodes[0], marks[7] + marks[8])) == 2  # the first words are the title's too


async def test_rare_words_are_found_by_the_index(nodes: list[Node], postgres: Postgres, node_database_url: str) -> None:
    """However many texts there are: no plan reads them all."""
    await say(nodes[0], *["wort"] * 400, "Elefant")
    assert await found(nodes[0], "elefant") == ["[Elefant]"]
    spelled = spell_query(mark_of("ann"), phrases_of('elef "elefant"'))
    values = {**spelled, "owner": "ann", "before_key": LATEST_KEY, "most": 20}
    with postgres.connect(node_database_url) as connection:
        connection.execute("ANALYZE search_entry")
        connection.execute("SET enable_seqscan = off")
        sql = FIND.postgres.sql
        for place in range(len(FIND.postgres.names), 0, -1):
            sql = sql.replace(f"${place}", f"%({FIND.postgres.names[place - 1]})s")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {sql}".encode(), values))
    assert "ix_search_entry_words" in plan, plan

"""Finding texts of one's own conversations, and keeping the index of them behind what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import structlog

from legato.core.errors import InvalidRequest, StorageUnavailable
from legato.core.principal import Principal
from legato.core.resources import Found, FoundPage
from legato.core.search_text import LEAD_CHARS, MAX_TEXT_CHARS, Phrase, phrases_of, snippet_of
from legato.runs.inputs import check_limit
from legato.runs.node import Node
from legato.runs.rows import conversation_of
from legato.storage.search import LATEST_KEY, find_texts, read_text, time_of
from legato.storage.search_index import merge, read_page, write_page
from legato.storage.statement import Transaction

log = structlog.get_logger(__name__)

PERIOD_S: Final = 1.0
"""How long the index stays behind what is said, where not too much is said at once."""
BUSY_RUNS: Final = 50
"""With so many replies at once only one page is written in a period: a message costs half as much as its turn does."""
PAUSE_S: Final = 0.02
"""Between two writes: whoever else waits for the writer goes first."""
PAGES_FIRST: Final = 3
"""Pages that a search writes before it looks: what was said just now is found too."""
MAX_QUERY_CHARS: Final = 200
LOOKED_CHARS: Final = 400_000
"""Of all texts of a page, as much is looked at for their snippets: about a tenth of a second."""
LEAST_LOOKED_CHARS: Final = 1_000


async def keep_searchable(node: Node) -> None:
    """Write the index for as long as the node is open and leads."""
    while True:
        await asyncio.sleep(PERIOD_S)
        try:
            await _write_all(node)
        except Exception:
            log.exception("the search index could not be written")


async def write_next(node: Node, *, pause_s: float = 0.0) -> bool:
    """Write the next page of the index, and merge as much as a page adds; return whether there may be more.

    Args:
        pause_s: Behind each write.

    Raises:
        StorageUnavailable: The database takes no writes.
    """
    page = await node.database.read(read_page)
    if page is None:
        return False
    wait_s = node.settings.storage_wait_s
    written = await node.committer.write(lambda tx: write_page(tx, page), wait_s=wait_s)
    await asyncio.sleep(pause_s)
    if page.entries:
        await node.committer.write(merge, wait_s=wait_s)
        await asyncio.sleep(pause_s)
    return page.more or not written


async def _write_all(node: Node) -> None:
    more = True
    while more and node.leads and not node.draining and node.committer.stalled_s == 0:
        more = await write_next(node, pause_s=PAUSE_S) and len(node.live) < BUSY_RUNS


class Search:
    """The texts of one principal."""

    def __init__(self, node: Node, principal: Principal) -> None:
        self._node = node
        self._owner = principal.id

    async def find(self, query: str, *, cursor: str | None = None, limit: int = 20) -> FoundPage:
        """Return titles and messages of all branches in which all words of a query stand, the latest first.

        Args:
            query: Beginnings of words, and phrases in double quotes; 1 to MAX_QUERY_CHARS characters.
            cursor: `next_cursor` of the page before; the query must be the same.
            limit: 1 to 1,000.

        Raises:
            InvalidRequest: An argument is wrong.
            StorageUnavailable: The database cannot be read.
        """
        check_limit(limit)
        if not 1 <= len(query) <= MAX_QUERY_CHARS:
            raise InvalidRequest.of("q", f"has {len(query)} characters: give 1 to {MAX_QUERY_CHARS}")
        before_key = _place_of(cursor)
        phrases = phrases_of(query)
        await self._catch_up()

        def read(tx: Transaction) -> FoundPage:
            rows = find_texts(tx, self._owner, phrases, before_key, limit + 1)
            # One at a time: a page of long texts is never in memory as a whole.
            texts = (read_text(tx, row) for row in rows[:limit])
            snippets = _snippets(texts, min(len(rows), limit), phrases)
            results = tuple(
                Found(
                    conversation=conversation_of(row),
                    message_id=row.message_id,
                    snippet=snippet,
                    at_ms=time_of(row.entry_key),
                )
                for row, snippet in zip(rows[:limit], snippets, strict=True)
            )
            following = str(rows[limit - 1].entry_key) if len(rows) > limit else None
            return FoundPage(results=results, next_cursor=following)

        return await self._node.database.read(read)

    async def _catch_up(self) -> None:
        try:
            for _ in range(PAGES_FIRST):
                if self._node.committer.stalled_s > 0 or not await write_next(self._node):
                    return
        except StorageUnavailable:
            # What is there already can be found all the same.
            log.info("the search index is behind")


def _snippets(texts: Iterable[str], count: int, phrases: Sequence[Phrase]) -> Iterator[str]:
    """Give the snippet of each of `count` texts; of long ones only a piece is looked at: a page takes no seconds."""
    words = tuple({phrase.words[0] for phrase in phrases})
    left = LOOKED_CHARS
    for number, text in enumerate(texts):
        most = max(LEAST_LOOKED_CHARS, left // (count - number))
        if len(text) > most:
            begin = max(0, _likely_place(text[:MAX_TEXT_CHARS].lower(), words) - 2 * LEAD_CHARS)
            text = text[begin : begin + most]
        left = max(0, left - len(text))
        yield snippet_of(text, phrases)


def _likely_place(text: str, words: Sequence[str]) -> int:
    """Return where the first of these words seems to begin in a text; 0 where it is written in another way there."""
    for spelled in ([f" {word}" for word in words], words):
        if places := [place for word in spelled if (place := text.find(word)) >= 0]:
            return min(places)
    return 0


def _place_of(cursor: str | None) -> int:
    if cursor is None:
        return LATEST_KEY
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 20):
        raise InvalidRequest.of("cursor", "is none of this server's: take nextCursor of the page before")
    return min(int(cursor), LATEST_KEY)

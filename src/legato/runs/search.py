"""Finding texts of one's own conversations, and keeping the index of them behind what is said."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from legato.core.errors import InvalidRequest, StorageUnavailable
from legato.core.principal import Principal
from legato.core.resources import Found, FoundPage
from legato.core.search_text import phrases_of, snippet_of
from legato.runs.inputs import check_limit
from legato.runs.node import Node
from legato.runs.rows import conversation_of
from legato.storage.search import LATEST_KEY, find_texts, time_of
from legato.storage.search_index import merge, read_page, text_of, write_page
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


async def keep_searchable(node: Node) -> None:
    """Write the index for as long as the node is open."""
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
    while more and not node.draining and node.committer.stalled_s == 0:
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
            results = tuple(
                Found(
                    conversation=conversation_of(row),
                    message_id=row.message_id,
                    snippet=snippet_of(text_of(row.message_parts) if row.message_parts else row.title, phrases),
                    at_ms=time_of(row.entry_key),
                )
                for row in rows[:limit]
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


def _place_of(cursor: str | None) -> int:
    if cursor is None:
        return LATEST_KEY
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 20):
        raise InvalidRequest.of("cursor", "is none of this server's: take nextCursor of the page before")
    return min(int(cursor), LATEST_KEY)

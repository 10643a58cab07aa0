"""Whose requests are refused: of whom everything is being erased, until that has ended.

What somebody did meanwhile would be deleted with the rest. Their keys and accounts are gone, but a visitor's token, or
a server without keys, needs none of the server's rows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from legato.core.errors import LegatoError
from legato.fanout.hint import Hint, HintKind
from legato.storage.erasures import being_erased, list_principals

if TYPE_CHECKING:
    from legato.runs.node import Node

log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
"""How long a node may not know that an erasure was begun, or has ended, elsewhere; below runs.erase.GRACE_MS."""
PAGE: Final = 500


class Erasing:
    """The principals whose erasures go on, as one node knows them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._owners: frozenset[str] = frozenset()
        self._until_s = -1.0
        node.wakes.hints.on_hint(self._hear)

    async def check(self, owner: str) -> None:
        """Refuse who is being erased.

        Raises:
            BeingErased: So it is.
        """
        now_s = self._node.clock.monotonic_s()
        if self._until_s <= now_s:
            self._until_s = now_s + LOOK_S
            await self._look()
        if owner in self._owners:
            raise being_erased()

    def look_again(self) -> None:
        """Look it up at the next request: one was begun, or has ended."""
        self._until_s = -1.0

    async def _look(self) -> None:
        found: list[str] = []
        after = ""
        try:
            while rows := await self._node.database.read(partial(list_principals, after=after, limit=PAGE)):
                found += [row.owner for row in rows]
                after = rows[-1].owner
        except LegatoError as error:
            # Nothing can be written meanwhile either.
            log.warning("who is being erased could not be looked up", error=error.code)
            return
        self._owners = frozenset(found)

    def _hear(self, hint: Hint) -> None:
        if hint.kind in (HintKind.FORGET, HintKind.EVERYTHING):
            self.look_again()

"""What a node says after a commit, to the other nodes and to its own feed: look again.

Nothing may depend on it but speed: every hint may be lost, and whoever waits for one looks by itself a little later.
"""

from __future__ import annotations

from collections.abc import Iterable

from legato.fanout.base import Hints
from legato.fanout.hint import Hint, HintKind
from legato.runs.feed import Feed


class Wakes:
    """The hints of one node. On the event loop alone.

    Attributes:
        hints: Where the other nodes are heard, and told.
        alone: No other node is alive, so that nobody need be told; the lease keeps it up to date.
    """

    def __init__(self, hints: Hints, feed: Feed | None = None) -> None:
        self.hints = hints
        self.alone = True
        self._feed = feed
        if feed is not None:
            hints.on_hint(feed.hear)

    def tell(self, kind: HintKind, keys: Iterable[int] = ()) -> None:
        """Say something of runs, once that is committed; without keys any run may be meant."""
        if self.alone and self._feed is None:
            return
        hint = Hint(kind=kind, keys=frozenset(keys))
        if self._feed is not None:
            # A run that was taken up here may have readers of before, who are fed from the database.
            self._feed.hear(hint)
        if not self.alone:
            self.hints.publish(hint)

    def grown(self, keys: Iterable[int]) -> None:
        """Say that runs have more events."""
        self.tell(HintKind.GROWN, keys)

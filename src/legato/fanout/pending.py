"""What a node has to tell the others and has not told yet: one set of keys a kind, whatever is published meanwhile."""

from __future__ import annotations

from typing import Final

from legato.fanout.hint import EVERYTHING, Hint, HintKind

MOST_KEYS: Final = 20_000
"""Keys of one kind that are kept (about 2 MB). Beyond them the hint says that any run may be meant."""


class Pending:
    """Hints that wait. Bounded: at most MOST_KEYS keys for each kind."""

    def __init__(self) -> None:
        self._keys: dict[HintKind, set[int]] = {}
        self._any: set[HintKind] = set()

    def __bool__(self) -> bool:
        return bool(self._keys or self._any)

    def add(self, hint: Hint) -> None:
        """Keep a hint; nothing is added to what says more already."""
        if hint.kind in self._any or HintKind.EVERYTHING in self._any:
            return
        if hint.kind is HintKind.EVERYTHING:
            self.lose()
            return
        keys = self._keys.setdefault(hint.kind, set())
        keys |= hint.keys
        if not hint.keys or len(keys) > MOST_KEYS:
            del self._keys[hint.kind]
            self._any.add(hint.kind)

    def lose(self) -> None:
        """Forget the hints: the others are to look at everything instead."""
        self._keys.clear()
        self._any = {HintKind.EVERYTHING}

    def take(self) -> list[Hint]:
        """Return all that waits, and begin anew."""
        if HintKind.EVERYTHING in self._any:
            hints = [EVERYTHING]
        else:
            hints = [Hint(kind=kind) for kind in self._any]
            hints += [Hint(kind=kind, keys=frozenset(keys)) for kind, keys in self._keys.items()]
        self._keys = {}
        self._any = set()
        return hints

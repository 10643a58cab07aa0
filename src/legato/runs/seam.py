"""Where a continued reply meets what was shown: no repeat, no doubled space, no second beginning.

Pure. Continuation is text, not tokens: a model that goes on from a prefix may say its last words again, begin with
the white space that the prefix ended in, or start from the top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HOLD_CHARS = 64
"""Characters of a continuation that are held back at most: as long as it may still be a repeat."""
RESTART_CHARS = 24
"""A continuation that begins with so many characters of the reply's own beginning starts again from the top."""
REPEAT_CHARS = 12
"""A shorter repeat of the prefix's end is taken for the model's style."""
EXACT_REPEAT_CHARS = 20
"""The same for a model that goes on from the very characters, which repeats itself only where it means to."""

_WORD_END = re.compile(r"\w+\Z")


class Restarted(Exception):
    """The continuation is a second reply from its top."""


@dataclass(slots=True)
class Seam:
    """Mends the beginning of one continuation.

    Args:
        prefix: All text that was shown.
        exact: The model goes on from the very characters (prefill): a word is never begun anew.
    """

    prefix: str
    exact: bool
    _held: str = ""
    _open: bool = False

    def feed(self, delta: str) -> str:
        """Return what may be shown of the continuation after `delta`; empty while it is held back.

        Raises:
            Restarted: The model began again from the top.
        """
        if self._open:
            return delta
        self._held += delta
        if len(self._held) < HOLD_CHARS and self._may_repeat():
            return ""
        return self.close()

    def _may_repeat(self) -> bool:
        """Whether what comes next can still tell what this is; else `mend` says the same of it however it goes on.

        A repeat that is longer than what is held, a second beginning and a word begun anew all have what is held as
        their own beginning, and stand in the prefix. Of white space behind a repeat it counts how much there is.
        """
        return self._held.strip() in self.prefix.rstrip()

    def close(self) -> str:
        """Return what was held back, mended; called when the continuation ends, or was held long enough."""
        if self._open:
            return ""
        self._open = True
        held, self._held = self._held, ""
        return mend(self.prefix, held, exact=self.exact)


def mend(prefix: str, continuation: str, *, exact: bool) -> str:
    """Return `continuation` without what `prefix` has shown already.

    Raises:
        Restarted: It begins as `prefix` does, and does not merely repeat the end of it.
    """
    if not prefix or not continuation:
        return continuation
    bare = prefix.rstrip()
    # A repeat may begin with other white space than the prefix had there.
    begin = continuation.lstrip()
    lead = len(continuation) - len(begin)
    longest = min(len(bare), len(begin))
    shortest = EXACT_REPEAT_CHARS if exact else REPEAT_CHARS
    for size in range(longest, max(1, shortest - lead) - 1, -1):
        # White space before the repeat is part of it where the prefix has some there too.
        if bare.endswith(begin[:size]) and size + min(lead, _spaces_at_end(bare[:-size])) >= shortest:
            return _behind_space(prefix[len(bare) :], begin[size:])
    if not exact:
        top = bare.lstrip()
        if len(top) >= RESTART_CHARS and begin[:RESTART_CHARS] == top[:RESTART_CHARS]:
            raise Restarted
        if len(top) < RESTART_CHARS and begin.startswith(top):
            return _behind_space(prefix[len(bare) :], begin[len(top) :])
    if not exact and len(bare) == len(prefix) and (word := _WORD_END.search(bare)):
        fragment = word[0]
        # The prefix was cut inside a word, and the model wrote that word whole.
        if len(begin) > len(fragment) and begin.startswith(fragment) and begin[len(fragment)].isalnum():
            return begin[len(fragment) :]
    return _behind_space(prefix[len(bare) :], continuation)


def _spaces_at_end(text: str) -> int:
    return len(text) - len(text.rstrip())


def _behind_space(shown: str, text: str) -> str:
    """Return `text` without the leading white space that stands before it already."""
    if not shown:
        return text
    same = 0
    while same < min(len(shown), len(text)) and text[same].isspace() and text[same] == shown[same]:
        same += 1
    if same:
        return text[same:]
    # The prefix's white space was not sent to the model, so a space that it begins with is the same one.
    return text[1:] if text[:1] == " " else text

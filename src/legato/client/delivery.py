"""Text handed out piece by piece to somebody who can take nothing back.

Pure. Where a reply is told anew, only what goes beyond the text that was handed out is handed out; where the new text
is another one, that is an error. The cases of protocol/delivery.json hold for it.
"""

from __future__ import annotations

from legato.client.errors import Diverged


class TextDelivery:
    """Remembers what was handed out of one reply."""

    def __init__(self) -> None:
        self._delivered = ""
        # Characters of it that the present telling has reached.
        self._told = 0

    def restart(self) -> None:
        """Note that the reply is told again from its first character."""
        self._told = 0

    def take(self, text: str) -> str:
        """Return what of `text`, the next piece told, is new.

        Raises:
            Diverged: It contradicts what was handed out.
        """
        known = min(len(text), len(self._delivered) - self._told)
        if not self._delivered.startswith(text[:known], self._told):
            raise Diverged
        fresh = text[known:]
        self._told += len(text)
        self._delivered += fresh
        return fresh

    def end(self) -> None:
        """Note the reply's end.

        Raises:
            Diverged: More was handed out than the reply has.
        """
        if self._told < len(self._delivered):
            raise Diverged

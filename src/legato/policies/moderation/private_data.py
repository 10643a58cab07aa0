"""The policy `private_data`: personal data and secrets, found by their shape and their checksums (pygarble).

What it finds and what it does not is told by tests/unit/test_moderation_private_data.py, and in
docs/guides/moderation.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final

from legato.core.errors import ConfigurationError
from legato.policies.moderation.patterns import Pattern
from legato.policies.moderation.spans import Action, Span

CATEGORIES: Final = ("secrets", "pii")
LOCALES: Final = ("us", "uk", "in")
UNASKED: Final = frozenset(("ipv4", "ipv6", "high_entropy_string"))
"""Looked for only where they are named: talk of networks and versions is full of them."""
WINDOW_CHARS: Final = 256
"""At the end of a text, beside its last word, so much is looked through for what may become a finding."""
LONGEST_KEY: Final = 16_384
"""Characters of a private key between its two lines."""

_KEY_KIND: Final = "(?:RSA |EC |DSA |OPENSSH |PGP |ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----"
_KEY: Final = rf"-----BEGIN {_KEY_KIND}(?:[^-]|-(?!----)){{0,{LONGEST_KEY}}}?-----END {_KEY_KIND}"
_CROSSES: Final = re.compile(r"\\s|[ ]|\[\^|\.\{")
"""In a shape that holds more than one word of ASCII; all others end with their word."""
_LAST_WORD: Final = re.compile(r"[!-~]*\Z")


@cache
def known_kinds() -> frozenset[str]:
    """Return all that can be found."""
    from pygarble.screening.pii import ALL_KINDS as PERSONAL
    from pygarble.screening.secrets import ALL_KINDS as SECRETS

    return frozenset(PERSONAL | SECRETS)


class PrivateData:
    """Finds personal data and secrets; a SpanPolicy.

    Args:
        kinds: What is looked for; None for all but UNASKED.
        without: What is not.
        locales: Countries whose numbers are looked for.

    Raises:
        ConfigurationError: A kind is unknown, or none is left.
    """

    def __init__(
        self,
        name: str,
        *,
        action: Action,
        kinds: Collection[str] | None,
        without: Collection[str],
        locales: Sequence[str],
        text: str | None,
        open: bool,
        where: str,
    ) -> None:
        # Not above: its tables take a moment, and most servers have no such policy.
        from pygarble.screening import Scanner

        self.name = name
        self.action: Action = action
        self.text = text
        self.open = open
        known = known_kinds()
        if unknown := sorted({*(kinds or ()), *without} - known):
            raise ConfigurationError(f"{where}: unknown kind {unknown[0]}: there are {', '.join(sorted(known))}")
        chosen = (known - UNASKED if kinds is None else frozenset(kinds)) - frozenset(without)
        if not chosen:
            raise ConfigurationError(f"{where}: nothing is left to be looked for: name a kind")
        self._scanner: Any = Scanner(
            categories=CATEGORIES,
            kinds=chosen,
            locales=locales,
            secrets_without_context="high_entropy_string" in chosen,
        )
        self._shapes = [Pattern(source, where=where) for source in _shapes(chosen, locales)]
        self._key = Pattern(_KEY, where=where) if "private_key" in chosen else None

    def find(self, text: str) -> list[Span]:
        return [
            Span(start=each.start, end=each.end, label=f"[{each.kind.upper()}]", reason=each.kind)
            for each in self._scanner.scan(text).findings
            if each.confidence >= self._scanner.min_confidence
        ]

    def settled(self, text: str) -> int:
        place = _last_word(text, len(text))
        first = _last_word(text, max(0, place - WINDOW_CHARS))
        tail = text[first:]
        for shape in self._shapes:
            place = min(place, first + shape.settled(tail))
        begin = text.rfind("-----BEGIN ", 0, len(text))
        if self._key is not None and begin >= 0:
            place = min(place, begin + self._key.settled(text[begin:]))
        return place


def _last_word(text: str, end: int) -> int:
    """Return where the word begins that ends at `end`; `end` itself behind white space."""
    found = _LAST_WORD.search(text, 0, end)
    return end if found is None else found.start()


def _shapes(kinds: Collection[str], locales: Sequence[str]) -> list[str]:
    """Return the shapes of more than one word that are looked for."""
    from pygarble.screening.pii import patterns as personal
    from pygarble.screening.secrets import patterns as secrets

    of_secrets, of_people = secrets.export(), personal.export()
    rules = [*of_secrets["known"], *of_people["generic"]]
    for locale in locales:
        rules += of_people["locales"][locale]
    found = [
        rule["regex"]
        for rule in rules
        if rule["kind"] in kinds and rule["kind"] != "private_key" and _CROSSES.search(rule["regex"])
    ]
    if "generic_secret" in kinds:
        words = "|".join(of_secrets["keywords"])
        found.append(rf"[A-Za-z0-9_]*+(?<=(?i:{words})[A-Za-z0-9_]*)[\"']?\s*(?:=>|[:=])\s*[\"']?[^\s\"',;&()]{{8,}}")
    return list(dict.fromkeys(found))

"""The words of the search index where encryption is on: each is a keyed hash, in no order and once a text.

The key is of the owner, not of a conversation: one search goes over all of an owner's. A reader of the database sees
which of an owner's texts share a word, and how many different ones each has; not which word, how often it stands in a
text, or where. Whole words are found, beginnings and rows of words are not: what is asked for in quotes is found where
all its words are. docs/decisions/0040-encryption-at-rest.md says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from legato.core.search_text import Phrase
from legato.storage.statement import Transaction

if TYPE_CHECKING:
    from legato.storage.sealed_transaction import SealedTransaction


def kept_words(tx: Transaction, owner: str, words: str) -> str:
    """Return what of a text's words (with a space between) is kept in the index."""
    if tx.sealing is None:
        return words
    key = cast("SealedTransaction", tx).data_key(owner, make=True)
    assert key is not None
    return " ".join(sorted(key.hash_words(words.split(" "))))


def asked_phrases(tx: Transaction, owner: str, phrases: Sequence[Phrase]) -> list[Phrase] | None:
    """Return what of a query is asked of the index; None where an owner has nothing in it."""
    if tx.sealing is None:
        return list(phrases)
    # With a former one nothing would be found.
    key = cast("SealedTransaction", tx).data_key(owner, fresh=True)
    if key is None:
        return None
    hashed = key.hash_words(word for phrase in phrases for word in phrase.words)
    return [Phrase(words=(word,), prefix=False) for word in sorted(hashed)]

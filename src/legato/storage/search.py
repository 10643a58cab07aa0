"""Finding texts by their words, in the index that storage.search_index keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import bindparam, select

from legato.core.search_text import Phrase
from legato.storage.conversations import ACTIVE_RUN
from legato.storage.search_index import SALT_BITS, SEARCH_INDEX, mark_of, text_of
from legato.storage.search_postgres import FIND, spell_query
from legato.storage.search_tables import search_entry
from legato.storage.search_words import asked_phrases
from legato.storage.statement import Prepared, Transaction
from legato.storage.tables import conversation, message

LATEST_KEY: Final = 2**63 - 1
"""Behind every text."""

_FIND = Prepared(
    select(
        *conversation.columns,
        ACTIVE_RUN,
        search_entry.c.key.label("entry_key"),
        search_entry.c.message_key,
        message.c.id.label("message_id"),
    )
    .select_from(SEARCH_INDEX)
    .join(search_entry, search_entry.c.key == SEARCH_INDEX.c.rowid)
    .join(conversation, conversation.c.key == search_entry.c.conversation_key)
    .outerjoin(message, message.c.key == search_entry.c.message_key)
    .where(
        SEARCH_INDEX.c.search_index.match(bindparam("wanted")),
        SEARCH_INDEX.c.rowid < bindparam("before_key"),
        search_entry.c.owner == bindparam("owner"),
    )
    .order_by(SEARCH_INDEX.c.rowid.desc())
    .limit(bindparam("most"))
)
_PARTS = Prepared(
    select(message.c.key, message.c.id, message.c.conversation_key, message.c.parts).where(
        message.c.key == bindparam("message_key")
    )
)


def find_texts(tx: Transaction, owner: str, phrases: Sequence[Phrase], before_key: int, limit: int) -> list[Any]:
    """Return up to `limit` texts of an owner in which all phrases stand, the latest first, from a key on, exclusive.

    Rows are those of their conversations, with `entry_key`, `message_key`, and `message_id`, which is None for a title.
    What a message says is not among it: `read_text` has it, one at a time.
    """
    asked = asked_phrases(tx, owner, phrases)
    if not asked:
        return []
    mark = mark_of(owner)
    if tx.database == "postgresql":
        spelled = spell_query(mark, asked)
        return tx.all(FIND, **spelled, owner=owner, before_key=before_key, most=limit)
    wanted = " AND ".join(_spelled(mark, phrase) for phrase in asked)
    return tx.all(_FIND, wanted=wanted, owner=owner, before_key=before_key, most=limit)


def read_text(tx: Transaction, row: Any) -> str:
    """Return the text that a row of `find_texts` stands for, in the same transaction."""
    title: str = row.title
    return title if row.message_id is None else text_of(tx.one(_PARTS, message_key=row.message_key).parts)


def time_of(entry_key: int) -> int:
    """Return the time of a text, epoch milliseconds."""
    return entry_key >> SALT_BITS


def _spelled(mark: str, phrase: Phrase) -> str:
    # Words hold letters and digits alone: nothing in them means anything to FTS5.
    words = " ".join(mark + word for word in phrase.words)
    return f'"{words}" *' if phrase.prefix else f'"{words}"'

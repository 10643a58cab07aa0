"""The search index: what can be found, and how far it has been made."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, UniqueConstraint

from legato.storage.tables import Key, Prose, Word, metadata, of_conversation

# What can be found: a text, by its words. On SQLite triggers keep the full-text index `search_index` beside it; see
# storage.search.
search_entry = Table(
    "search_entry",
    metadata,
    # Sorts by the time of the text.
    Column("key", Key, primary_key=True),
    Column("owner", Word, nullable=False),
    of_conversation(),
    # 0: the conversation's title.
    Column("message_key", Key, nullable=False),
    Column("mark", Word, nullable=False),
    Column("words", Prose, nullable=False),
    UniqueConstraint("conversation_key", "message_key"),
)

# What lies before `search_place.done_key` and is to be looked at again: replies that were being made, new titles.
search_due = Table(
    "search_due",
    metadata,
    Column("id", Key, primary_key=True),
    of_conversation(index=True),
    Column("message_key", Key, nullable=False),
)

# One row: messages up to `done_key` have been looked at. `version` changes with whatever makes a page that was read
# before it stale.
search_place = Table(
    "search_place",
    metadata,
    Column("id", Key, primary_key=True),
    Column("done_key", Key, nullable=False),
    Column("version", BigInteger, nullable=False),
)

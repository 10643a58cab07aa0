"""The table of what calls of models were charged."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, false, text

from legato.storage.tables import Key, Word, metadata

# One row a call of a model that used something. No foreign key: what was spent stays spent when a conversation is
# deleted, only its name and its run's become empty then. No text of anybody's. Where a person is erased everything that
# names that one becomes empty; the sums stay.
charge = Table(
    "charge",
    metadata,
    Column("key", Key, primary_key=True),
    # When its run ended.
    Column("at_ms", BigInteger, nullable=False),
    Column("owner", Word, nullable=False),
    # The key by which the message was posted; null on a server without keys, and of a page that is signed in without.
    Column("key_id", Word),
    Column("session_id", Word, nullable=False),
    Column("conversation_id", Word, nullable=False),
    Column("run_id", Word, nullable=False),
    # `reply`, `title`, `judge`.
    Column("purpose", Word, nullable=False),
    # The model by its name here, what serves it, and why it was called (core.event.CallReason).
    Column("model", Word, nullable=False),
    Column("provider", Word, nullable=False),
    Column("reason", Word, nullable=False),
    # Cached tokens are part of the input, reasoning is part of the output.
    Column("input_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    # Whether tokens were counted here, because the model's server has not told them.
    Column("counted", Boolean, nullable=False, server_default=false()),
    # Billionths of a US dollar; null where the price is not known.
    Column("cost_nusd", BigInteger),
    Index("ix_charge_owner_at", "owner", "at_ms", "key"),
    # Until the conversation is deleted.
    Index(
        "ix_charge_conversation",
        "owner",
        "conversation_id",
        sqlite_where=text("conversation_id <> ''"),
        postgresql_where=text("conversation_id <> ''"),
    ),
    # For the figures of all owners together.
    Index("ix_charge_at", "at_ms", "key"),
)

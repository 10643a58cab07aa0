"""Tables of encryption at rest: the data keys, wrapped, and what is known of the root keys that wrap them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, LargeBinary, Table, text

from legato.storage.tables import Key, Word, metadata

WRAPPED_BYTES: Final = 56
"""Every wrapped data key: so that one can be written over where it lies."""

# What opens the texts of one conversation, or those of one owner that belong to no conversation; one of the two
# columns is set. Who deletes the row makes them unreadable wherever copies of them are.
data_key = Table(
    "data_key",
    metadata,
    Column("key", Key, primary_key=True),
    Column("conversation_key", Key, ForeignKey("conversation.key", ondelete="CASCADE"), unique=True),
    Column("owner", Word, unique=True),
    Column("root_id", Word, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("ix_data_key_root", "root_id", "key"),
)

# A root key that this database has seen: never the key, but what it alone can open, and so is known to be the same.
encryption_root = Table(
    "encryption_root",
    metadata,
    Column("id", Word, primary_key=True),
    # Data keys are made under this one.
    Column("current", Boolean, nullable=False),
    # Sealed under the root key: which rows may be plain (storage.encryption.Record).
    Column("record", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    # Whoever made data keys under another one would not be found by a rotation.
    Index(
        "uq_encryption_root_current",
        "current",
        unique=True,
        sqlite_where=text("current"),
        postgresql_where=text("current"),
    ),
)

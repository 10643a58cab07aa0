"""The table of texts that somebody is to look at."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, text

from legato.storage.tables import Key, Prose, Word, metadata

# One text that a policy has flagged, and what was decided about it. It goes with its conversation.
review = Table(
    "review",
    metadata,
    Column("key", Key, primary_key=True),
    Column("id", Word, nullable=False, unique=True),
    Column("owner", Word, nullable=False),
    Column("conversation_id", Word, nullable=False),
    Column("conversation_key", Key, ForeignKey("conversation.key", ondelete="CASCADE"), nullable=False, index=True),
    Column("run_id", Word, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    # policies.moderation.verdict: Stage, Source.
    Column("stage", Word, nullable=False),
    Column("source", Word, nullable=False),
    Column("policy", Word, nullable=False),
    Column("reason", Word, nullable=False),
    # As it was kept or shown, so redacted where it was; the beginning of a long one.
    Column("text", Prose, nullable=False),
    # `fine`, `violation`; null while it waits.
    Column("decision", Word),
    Column("note", Prose),
    Column("decided_by", Word),
    Column("decided_at_ms", BigInteger),
    Index("ix_review_open", "key", sqlite_where=text("decision IS NULL"), postgresql_where=text("decision IS NULL")),
    Index(
        "ix_review_decided",
        "key",
        sqlite_where=text("decision IS NOT NULL"),
        postgresql_where=text("decision IS NOT NULL"),
    ),
    Index("ix_review_owner", "owner"),
)

"""Tables of the audit log, of what is held, of how long things are kept for a person, and of erasures that go on."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, text

from legato.storage.tables import Key, Prose, Word, metadata

# Who did what to whose data. Rows are only ever added; triggers refuse everything else, but for what audit_head says
# was cut. Ids and counts, never text.
audit_entry = Table(
    "audit_entry",
    metadata,
    # From 1 on, without a gap.
    Column("seq", Key, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    # A principal's id, with what proved it; of a command the name of the system's user.
    Column("actor", Word, nullable=False),
    Column("via", Word, nullable=False),
    Column("key_id", Word),
    Column("action", Word, nullable=False),
    Column("subject", Word, nullable=False),
    # Whose data it was done to; null where it is nobody's.
    Column("owner", Word),
    Column("detail", Prose),
    # Over all of the above and the hash of the entry before.
    Column("hash", LargeBinary, nullable=False),
    Index("ix_audit_entry_owner_seq", "owner", "seq"),
    Index("ix_audit_entry_actor_seq", "actor", "seq"),
    Index("ix_audit_entry_action_seq", "action", "seq"),
    # For retention: seq and time rise together.
    Index("ix_audit_entry_at_ms", "at_ms"),
)

# One row: the last entry, and the last one that retention has cut off.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("cut_seq", BigInteger, nullable=False),
    Column("cut_hash", LargeBinary, nullable=False),
)

# What is kept otherwise than by default of one principal. No row: the server's settings.
keeping = Table(
    "keeping",
    metadata,
    Column("owner", Word, primary_key=True),
    # For how long a conversation is kept after its last message, in hours; null: as the server's settings say.
    Column("idle_h", Integer),
    # Since when nothing of this principal may be deleted; null: it may.
    Column("held_at_ms", BigInteger),
    Column("changed_at_ms", BigInteger, nullable=False),
)

# Of a conversation, or of all that a principal has: there from the deletion on until nothing of it is left anywhere, in
# the queue and in the bytes of the files too.
erasure = Table(
    "erasure",
    metadata,
    Column("id", Key, primary_key=True),
    Column("owner", Word, nullable=False),
    # Null: all that the principal has.
    Column("conversation_id", Word),
    # Of a principal's: who asked for it and when, and what was deleted so far, as JSON: counts by table.
    Column("asked_at_ms", BigInteger),
    Column("actor", Word),
    Column("via", Word),
    Column("key_id", Word),
    Column("done", Prose),
    Index(
        "ix_erasure_principal",
        "owner",
        unique=True,
        sqlite_where=text("conversation_id IS NULL"),
        postgresql_where=text("conversation_id IS NULL"),
    ),
)

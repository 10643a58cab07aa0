"""Steps: the outbox, what is counted of replies, retention, and messages by session and time"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
AGES = "retention = 'default' AND NOT pinned"


def _since_start(column: str) -> str:
    """Return the SQL of the milliseconds since the start, at least 0; null where one of the times is unknown."""
    return f"CASE WHEN {column} < started_at_ms THEN 0 ELSE {column} - started_at_ms END"


def upgrade() -> None:
    op.add_column("conversation", sa.Column("retention", sa.String(), nullable=False, server_default="default"))
    op.add_column("conversation", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_conversation_ages",
        "conversation",
        ["last_message_at_ms"],
        sqlite_where=sa.text(AGES),
        postgresql_where=sa.text(AGES),
    )
    op.add_column("run", sa.Column("response_time_ms", sa.BigInteger(), nullable=True))
    op.add_column("run", sa.Column("first_token_ms", sa.BigInteger(), nullable=True))
    op.execute(f"UPDATE run SET response_time_ms = {_since_start('ended_at_ms')} WHERE ended_at_ms IS NOT NULL")
    op.execute(f"UPDATE run SET first_token_ms = {_since_start('first_token_at_ms')}")
    op.add_column("message", sa.Column("session_id", sa.String(), nullable=True))
    op.execute("UPDATE message SET session_id = (SELECT session_id FROM run WHERE run.id = message.run_id)")
    op.create_index("ix_message_owner_created", "message", ["owner", "created_at_ms", "key"])
    op.create_index("ix_message_session_created", "message", ["owner", "session_id", "created_at_ms", "key"])
    op.create_table(
        "outbox",
        sa.Column("id", KEY, nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "reply_count",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("conversation_key", KEY, nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("estimated", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("response_time_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ms", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("thumb", sa.String(), nullable=True),
        sa.Column("thumb_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_key"],
            ["conversation.key"],
            name=op.f("fk_reply_count_conversation_key_conversation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_reply_count")),
    )
    op.create_index("ix_reply_count_conversation_key", "reply_count", ["conversation_key"])
    op.create_index("ix_reply_count_owner_at", "reply_count", ["owner", "at_ms"])
    op.create_index("ix_reply_count_session", "reply_count", ["owner", "session_id", "at_ms"])

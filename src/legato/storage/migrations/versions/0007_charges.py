"""What calls of models cost, and by which key a message was posted

Only adds: what knows 0006 alone can still read and write what it knows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("run", sa.Column("key_id", WORD, nullable=True))
    op.create_table(
        "charge",
        sa.Column("key", KEY, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("owner", WORD, nullable=False),
        sa.Column("key_id", WORD, nullable=True),
        sa.Column("session_id", WORD, nullable=False),
        sa.Column("conversation_id", WORD, nullable=False),
        sa.Column("run_id", WORD, nullable=False),
        sa.Column("purpose", WORD, nullable=False),
        sa.Column("model", WORD, nullable=False),
        sa.Column("provider", WORD, nullable=False),
        sa.Column("reason", WORD, nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_charge")),
    )
    op.create_index("ix_charge_owner_at", "charge", ["owner", "at_ms", "key"])
    unforgotten = sa.text("conversation_id <> ''")
    op.create_index(
        "ix_charge_conversation",
        "charge",
        ["owner", "conversation_id"],
        sqlite_where=unforgotten,
        postgresql_where=unforgotten,
    )
    op.create_index("ix_charge_at", "charge", ["at_ms", "key"])

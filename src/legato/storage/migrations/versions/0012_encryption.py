"""Encryption at rest: data keys, and what is known of the root keys that wrap them"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "data_key",
        sa.Column("key", KEY, nullable=False),
        sa.Column("conversation_key", KEY, nullable=True),
        sa.Column("owner", WORD, nullable=True),
        sa.Column("root_id", WORD, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_key"],
            ["conversation.key"],
            name=op.f("fk_data_key_conversation_key"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_data_key")),
        sa.UniqueConstraint("conversation_key", name=op.f("uq_data_key_conversation_key")),
        sa.UniqueConstraint("owner", name=op.f("uq_data_key_owner")),
    )
    op.create_index("ix_data_key_root", "data_key", ["root_id", "key"])
    op.create_table(
        "encryption_root",
        sa.Column("id", WORD, nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encryption_root")),
    )

"""Moderation and its review queue"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "review",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", WORD, nullable=False),
        sa.Column("owner", WORD, nullable=False),
        sa.Column("conversation_id", WORD, nullable=False),
        sa.Column("conversation_key", KEY, nullable=False),
        sa.Column("run_id", WORD, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("stage", WORD, nullable=False),
        sa.Column("source", WORD, nullable=False),
        sa.Column("policy", WORD, nullable=False),
        sa.Column("reason", WORD, nullable=False),
        sa.Column("text", PROSE, nullable=False),
        sa.Column("decision", WORD, nullable=True),
        sa.Column("note", PROSE, nullable=True),
        sa.Column("decided_by", WORD, nullable=True),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_key"], ["conversation.key"], name="fk_review_conversation_key", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name="pk_review"),
        sa.UniqueConstraint("id", name="uq_review_id"),
    )
    op.create_index("ix_review_conversation_key", "review", ["conversation_key"])
    op.create_index("ix_review_owner", "review", ["owner"])
    for name, condition in (("ix_review_open", "decision IS NULL"), ("ix_review_decided", "decision IS NOT NULL")):
        where = sa.text(condition)
        op.create_index(name, "review", ["key"], sqlite_where=where, postgresql_where=where)

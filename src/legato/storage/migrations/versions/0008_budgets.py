"""Spending limits"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.String().with_variant(sa.String(collation="C"), "postgresql")
PROSE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("per", WORD, nullable=False),
        sa.Column("name", WORD, nullable=False),
        sa.Column("period", WORD, nullable=False),
        sa.Column("limit_nusd", sa.BigInteger(), nullable=False),
        sa.Column("warn_percent", sa.Integer(), nullable=False),
        sa.Column("set_by", WORD, nullable=False),
        sa.Column("set_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("per", "name", "period", name="pk_budget"),
    )
    op.create_table(
        "budget_use",
        sa.Column("id", WORD, nullable=False),
        sa.Column("owner", WORD, nullable=False),
        sa.Column("per", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("period", WORD, nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.Column("limit_nusd", sa.BigInteger(), nullable=False),
        sa.Column("warn_nusd", sa.BigInteger(), nullable=False),
        sa.Column("spent_nusd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("told", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_budget_use"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("ix_budget_use_per", "budget_use", ["per", "period", "since_ms", "subject"])
    op.create_index("ix_budget_use_until_ms", "budget_use", ["until_ms"])
    op.create_index("ix_budget_use_owner", "budget_use", ["owner"])
    op.create_table(
        "budget_hold",
        sa.Column("id", WORD, nullable=False),
        sa.Column("use_id", WORD, nullable=False),
        sa.Column("amount_nusd", sa.BigInteger(), nullable=False),
        sa.Column("run_id", WORD, nullable=False),
        sa.Column("purpose", WORD, nullable=False),
        sa.Column("calls_before", sa.Integer(), nullable=False),
        sa.Column("node_key", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", "use_id", name="pk_budget_hold"),
    )

"""State: what a bot's own code keeps"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "state",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("group", name, nullable=False),
        sa.Column("key", name, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "group", "key", name=op.f("pk_state")),
    )
    with op.batch_alter_table("state", schema=None) as batch_op:
        batch_op.create_index(
            "ix_state_expires_at_ms",
            ["expires_at_ms"],
            unique=False,
            sqlite_where=sa.text("expires_at_ms IS NOT NULL"),
            postgresql_where=sa.text("expires_at_ms IS NOT NULL"),
        )
